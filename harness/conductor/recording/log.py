"""The run's log: log.jsonl for machines, the view for people. No failing write here stops a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import structlog

from harness.model.records.live import LiveState


class View(Protocol):
    """What people look at on stderr while a run goes on."""

    def start(self) -> None: ...

    def update(self, state: LiveState) -> None: ...

    def say(self, line: str) -> None: ...

    def stop(self) -> None: ...


class RunLog:
    """say() tells a person one thing and logs it; show() gives the view its next state.

    view: "live", "lines" or "none". Safe to call from any thread.
    """

    def __init__(self, run_dir: Path, view: str) -> None:
        self._view = make_view(view)
        self._silent = False
        self._file = _Sink(run_dir / "log.jsonl", self.note)
        self._logger = _logger(self._file)

    def say(self, text: str) -> None:
        """One line for people, also logged."""
        self._logger.info(text)
        self.note(text)

    @contextmanager
    def also_in(self, run_dir: Path) -> Iterator[None]:
        """Log in that folder as well, meanwhile."""
        mine, self._logger = self._logger, _logger(both := _Sink(run_dir / "log.jsonl", self.note, self._file))
        try:
            yield
        finally:
            self._logger = mine
            both.close()

    @contextmanager
    def silent(self, silent: bool) -> Iterator[None]:
        """People are told nothing meanwhile, where that is so; the log has it."""
        self._silent = silent
        try:
            yield
        finally:
            self._silent = False

    def note(self, text: str) -> None:
        """One line for people."""
        if not self._silent:
            self.answer(text)

    def answer(self, text: str) -> None:
        """The same to somebody who has asked: never held back."""
        try:
            if self._view is not None:
                self._view.say(text)
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
        self._file.close()


def _logger(sink: _Sink) -> Any:
    return structlog.wrap_logger(
        sink,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )


class _Sink:
    """Appends lines to a file. A failing write is told once and then ignored: a full disk must not stop an undo.

    Unbuffered, so that nothing is left to fail when it is closed. other: gets every line as well.
    """

    def __init__(self, path: Path, tell: Callable[[str], None], other: _Sink | None = None) -> None:
        self._tell = tell
        self._other = other
        self._file: RawIOBase | None = None
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            tell(f"{path.name} cannot be written: {error.strerror}")

    def info(self, line: str) -> None:
        """structlog calls the method of the level's name with the rendered line."""
        if self._other is not None:
            self._other.info(line)
        if self._file is not None:
            try:
                self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
            except OSError as error:
                self.close()
                self._tell(f"log.jsonl cannot be written: {error.strerror}")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def make_view(kind: str) -> View | None:
    if kind == "live":
        from harness.report.terminal.live import LiveView

        return LiveView()
    if kind == "lines":
        import sys

        from harness.report.terminal.lines import LineView

        return LineView(sys.stderr)
    return None
