"""Signals of the run. Handlers only set a flag; the main loop reads it."""

from __future__ import annotations

import signal
from types import FrameType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


IGNORED = (signal.SIGPIPE, signal.SIGTTOU, signal.SIGTTIN)
"""A closed pipe (`| head`) must be an error that can be ignored, and writing from the background must not stop the
run with its faults on."""


class Signals:
    """Counts INT, TERM and HUP while in the context; Ctrl-Z can be refused for a while.

    suspensions: how often Ctrl-Z was refused. Only the main thread may use it.
    """

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        self.suspensions = 0
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Signals:
        for number in (*HANDLED, *IGNORED, signal.SIGTSTP):
            self._before[number] = signal.getsignal(number)
        for number in HANDLED:
            signal.signal(number, self._note)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.name = signal.Signals(number).name

    def _refuse(self, number: int, frame: FrameType | None) -> None:
        self.suspensions += 1

    def refuse_suspension(self, refuse: bool) -> None:
        """Ctrl-Z while a fault is on would leave it on: only count it then."""
        signal.signal(signal.SIGTSTP, self._refuse if refuse else signal.SIG_DFL)

    def ignore_from_now(self) -> None:
        """The result is told and the process about to end: what still comes must not change its exit code."""
        for number in HANDLED:
            signal.signal(number, signal.SIG_IGN)
            self._before.pop(number, None)
