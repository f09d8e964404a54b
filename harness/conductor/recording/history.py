"""The writer of history.jsonl. A write that fails is remembered and told, but never stops an undo."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.model.clock import monotonic, wall
from harness.model.jsonl import append_line, encode_line
from harness.model.records.events import Event, Started


class History:
    """Events of one experiment, in memory and on disk. Safe to use from every thread.

    t0 is a CLOCK_MONOTONIC reading. on_problem is called once, with a sentence, when writing fails.
    """

    def __init__(self, path: Path, experiment: str, on_problem: Callable[[str], None]) -> None:
        self._path = path
        self._experiment = experiment
        self._on_problem = on_problem
        self._lock = threading.Lock()
        self._failed = False
        self._listeners: list[Callable[[Event], None]] = []
        self.t0 = 0.0
        self.events: list[Event] = []

    def start(self, t0: float) -> None:
        """Set the clock's zero and record it."""
        self.t0 = t0
        # t0 lies a little ahead when it is told to everybody: its wall time is not that of now.
        self.add(Started, at=0.0, ahead_s=t0 - monotonic(), monotonic=t0)

    def listen(self, listener: Callable[[Event], None]) -> None:
        """Call it with every event from now on, in the thread that adds it: it must not block and must not raise."""
        self._listeners.append(listener)

    def unlisten(self) -> None:
        """Nobody is called any more: a history is kept for longer than those who follow it."""
        self._listeners.clear()

    def since_t0(self, reading: float | None = None) -> float:
        """Seconds since t0 of a CLOCK_MONOTONIC reading, or of now."""
        return (monotonic() if reading is None else reading) - self.t0

    def add(self, kind: Callable[..., Event], *, at: float | None = None, ahead_s: float = 0.0, **fields: Any) -> Event:
        """Append one event; `at` in seconds since t0, now when not given. ahead_s: its wall time is so far from now."""
        moment = self.since_t0() if at is None else at
        event = kind(at=round(moment, 6), wall=wall(ahead_s), experiment=self._experiment, **fields)
        with self._lock:
            self.events.append(event)
            try:
                append_line(self._path, encode_line(event))
            except OSError as error:
                if not self._failed:
                    self._failed = True
                    self._on_problem(f"history.jsonl cannot be written: {error.strerror or error}")
        for listener in self._listeners:
            listener(event)
        return event

    @property
    def complete(self) -> bool:
        """False when an event could not be written: the files do not tell the whole story."""
        return not self._failed
