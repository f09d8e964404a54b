"""The run's log: log.jsonl for machines, the view for people. No failing write here stops a run."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TextIO

import structlog

from harness.model.live import LiveState


class View(Protocol):
    """What people look at on stderr while a run goes on."""

    def start(self) -> None: ...

    def update(self, state: LiveState) -> None: ...

    def note(self, text: str) -> None: ...

    def stop(self) -> None: ...


class RunLog:
    """say() tells a person one thing and logs it; show() gives the view its next state.

    view: "live", "lines" or "none". Safe to call from any thread.
    """

    def __init__(self, run_dir: Path, view: str, *, debug: bool = False) -> None:
        self._file: TextIO | None = None
        self._view = make_view(view)
        try:
            self._file = (run_dir / "log.jsonl").open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            self.note(f"log.jsonl cannot be written: {error.strerror}")
        self._logger: Any = structlog.wrap_logger(
            structlog.WriteLogger(self) if self._file is None else structlog.WriteLogger(_Guarded(self._file)),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
        self._debug = debug

    def write(self, text: str) -> None:
        """The log's sink when there is no file."""

    def flush(self) -> None:
        """Nothing is buffered."""

    def say(self, text: str) -> None:
        """One line for people, also logged."""
        self._logger.info(text)
        self.note(text)

    def note(self, text: str) -> None:
        try:
            if self._view is not None:
                self._view.note(text)
        except OSError:
            self._view = None

    def show(self, state: LiveState) -> None:
        try:
            if self._view is not None:
                self._view.update(state)
        except OSError:
            # The terminal is gone; the run goes on to its one way out.
            self._view = None

    def __enter__(self) -> RunLog:
        try:
            if self._view is not None:
                self._view.start()
        except OSError:
            self._view = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._view is not None:
                self._view.stop()
        except OSError:
            pass
        if self._file is not None:
            self._file.close()


class _Guarded:
    """A text file whose failing writes are ignored: a full disk must not stop an undo."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        try:
            self._file.write(text)
        except (OSError, ValueError):
            pass

    def flush(self) -> None:
        try:
            self._file.flush()
        except (OSError, ValueError):
            pass


def make_view(kind: str) -> View | None:
    if kind == "live":
        from harness.report.live import LiveView

        return LiveView()
    if kind == "lines":
        import sys

        from harness.report.lines import LineView

        return LineView(sys.stderr)
    return None
