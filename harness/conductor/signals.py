"""Signals of the run. Handlers only set a flag; the main loop reads it."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Counts INT, TERM and HUP while in the context; SIGTSTP can be refused for a while.

    Only the main thread may use it.
    """

    def __init__(self) -> None:
        self.count = 0
        self.name = ""
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Signals:
        for number in (*HANDLED, signal.SIGTSTP):
            self._before[number] = signal.getsignal(number)
        for number in HANDLED:
            signal.signal(number, self._note)
        # A closed pipe on stdout (`| head`) must be an error we can ignore, not the end of the run.
        self._before[signal.SIGPIPE] = signal.getsignal(signal.SIGPIPE)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.name = signal.Signals(number).name

    def refuse_suspension(self, refuse: bool) -> None:
        """Ctrl-Z while a fault is on would leave it on: ignore it then."""
        signal.signal(signal.SIGTSTP, signal.SIG_IGN if refuse else signal.SIG_DFL)
