"""Which expected alerts are still active from before, and are waited for before a baseline begins."""

from __future__ import annotations

from collections.abc import Callable, Collection

from harness.conductor.recording.alerts import AlertRecorder
from harness.model.units import format_duration

FIRST_LOOK_S = 5.0
"""A source that answers has done so by then."""


class Unresolved:
    """Asked once nothing else keeps a baseline from beginning: what is waited for, "" for nothing. Time runs from the
    first such moment; what is still active when its own is over is carried over. say: told of each once when the wait
    begins, and when it is given up."""

    def __init__(self, recorder: AlertRecorder | None, expected: Collection[str], say: Callable[[str], None]) -> None:
        self._recorder = recorder if expected else None
        self._expected = expected
        self._say = say
        self._since: float | None = None
        self._waited: set[str] = set()
        self._given_up: set[str] = set()

    def __call__(self, now_s: float) -> str:
        if self._recorder is None:
            return ""
        self._since = now_s if self._since is None else self._since
        waited_s = now_s - self._since
        active = self._recorder.active(self._expected)
        if active is None:
            return "the first look at alerts" if waited_s < FIRST_LOOK_S else ""
        for name, most_s in active.items():
            if name not in self._waited:
                self._waited.add(name)
                self._say(
                    f"alert {name!r} is still active: no baseline before it is over, or {format_duration(most_s)}"
                )
            if waited_s >= most_s and name not in self._given_up:
                self._given_up.add(name)
                self._say(f"alert {name!r} is still active after {format_duration(most_s)}: it is carried over")
        waiting = [
            f"alert {name!r} is still active, at most {format_duration(most_s)}"
            for name, most_s in active.items()
            if name not in self._given_up
        ]
        return "; ".join(waiting)
