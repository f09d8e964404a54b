"""Which progress view fits where stderr goes."""

from __future__ import annotations

import os
from typing import Protocol, TextIO

from harness.model.records.live import LiveState
from harness.report.terminal.lines import LineView


class View(Protocol):
    """What the conductor shows progress on; none of the three raises."""

    def start(self) -> None: ...

    def update(self, state: LiveState) -> None: ...

    def say(self, line: str) -> None: ...

    def stop(self) -> None: ...


class NoView:
    def start(self) -> None:
        pass

    def update(self, state: LiveState) -> None:
        pass

    def say(self, line: str) -> None:
        pass

    def stop(self) -> None:
        pass


def choose(stream: TextIO, *, quiet: bool = False, live: bool = True) -> View:
    """Nothing with --quiet; the live view on a terminal that can move its cursor; else a line now and then."""
    if quiet:
        return NoView()
    try:
        terminal = stream.isatty()
    except (OSError, ValueError):
        return NoView()
    if live and terminal and os.environ.get("TERM", "") not in ("", "dumb") and not os.environ.get("CI"):
        from harness.report.terminal.live import LiveView

        return LiveView(stream)
    return LineView(stream)
