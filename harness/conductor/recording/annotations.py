"""The run's phases and faults as annotations in a Grafana, while they happen: a courtesy that no run waits for."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

import msgspec

from harness.adapters.clients.grafana import Grafana
from harness.conductor.recording.history import History
from harness.model.clock import monotonic
from harness.model.errors import HarnessError
from harness.model.records.events import (
    Event,
    FaultInjected,
    LoadEnded,
    PhaseStarted,
    Started,
    Stopped,
    Undone,
    UndoNotVerified,
    UndoVerified,
)

UP_LIMIT_S = 120.0
"""A Grafana that starts with the stack may be up later than the first phases; their marks keep."""
POLL_S = 0.5
GOODBYE_S = 5.0
"""How long the end of a run waits for the last marks."""


class Mark(msgspec.Struct, frozen=True):
    """At at_s (seconds since t0) what was begun under the same key ends, and a mark begins. text None: it only ends."""

    key: str
    at_s: float
    text: str | None = None
    kind: str = ""


def marks_of(event: Event) -> tuple[Mark, ...]:
    """What an event means on a time line. Pure."""
    match event:
        case PhaseStarted(phase=phase, start_s=start_s):
            return (Mark("phase", start_s, f"phase: {phase}", "phase"),)
        case FaultInjected(fault=fault, at=at):
            return (Mark(f"fault {fault}", at, f"fault: {fault}", "fault"),)
        case Undone(fault=fault, at=at) | UndoVerified(fault=fault, at=at):
            return (Mark(f"fault {fault}", at),)
        case UndoNotVerified(fault=fault, at=at):
            return (Mark(f"fault {fault}", at), Mark("left", at, f"not undone: {fault}", "fault"))
        case LoadEnded(end_s=end_s):
            return (Mark("phase", end_s),)
        case Stopped(text=text, at=at):
            return (Mark("stopped", at, f"stopped: {text}", "stopped"),)
        case _:
            return ()


class Annotations:
    """Follows a history. One thread talks to Grafana; what it does not take is told once and left out."""

    def __init__(self, url: str, run: str, history: History, say: Callable[[str], None]) -> None:
        self._url = url
        self._run = run
        self._say = say
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._epoch_ms = 0.0
        self._open: dict[str, int] = {}
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="annotations", daemon=True)
        history.listen(self._events.put)
        self._thread.start()

    @classmethod
    def afterwards(cls, url: str, run: str, history: History, say: Callable[[str], None]) -> None:
        """The same of a history that is over, with its true times. Blocks for a limited time."""
        annotations = cls(url, run, history, say)
        for event in history.events:
            annotations._events.put(event)
        annotations._events.put(None)
        annotations._thread.join(UP_LIMIT_S)

    def close(self) -> None:
        """Let the last marks be made, for a limited time."""
        self._leaving.set()
        self._events.put(None)
        self._thread.join(GOODBYE_S)

    def _follow(self) -> None:
        grafana = Grafana(self._url)
        try:
            if not self._wait(grafana):
                self._say(f"Grafana at {self._url} does not answer: the run's phases are not annotated there")
                return
            while (event := self._events.get()) is not None:
                if isinstance(event, Started):
                    self._epoch_ms = (time.time() - monotonic() + event.monotonic) * 1000
                for mark in marks_of(event):
                    self._make(grafana, mark)
        except HarnessError as error:
            self._say(f"the run's phases are not annotated any more: {error}")
        finally:
            grafana.close()

    def _wait(self, grafana: Grafana) -> bool:
        until = monotonic() + UP_LIMIT_S
        while not grafana.answers():
            if monotonic() > until or self._leaving.wait(POLL_S):
                return False
        return True

    def _make(self, grafana: Grafana, mark: Mark) -> None:
        at_ms = round(self._epoch_ms + mark.at_s * 1000)
        begun = self._open.pop(mark.key, None)
        if begun is not None:
            grafana.extend(begun, at_ms)
        if mark.text is not None:
            self._open[mark.key] = grafana.annotate(at_ms, f"{mark.text} ({self._run})", ("harness", mark.kind))
