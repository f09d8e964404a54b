"""Show logs: their last lines, and with `--follow` what comes then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from harness.adapters.docker.engine import Engine
    from harness.adapters.docker.logs import LogLine

POLL_S = 0.2
MAX_READ = 1 << 20
"""Bytes of one log read at once: a log that grows faster is shown in more steps."""


class Log(Protocol):
    """A log that is shown: its last lines first, then what is new at each look."""

    name: str

    def last(self, lines: int) -> list[str]: ...

    def new_lines(self) -> list[str]: ...


def show(
    logs: Sequence[tuple[str, Path] | Log], lines: int, *, follow: bool, ended: Callable[[], bool] = lambda: False
) -> int:
    """logs: (name, file), or any other log. One is shown as it is, several with their names. ended: nothing more comes.

    Following ends with Ctrl-C, which is no error, or when `ended`.
    """
    tails = [_Tail(*log) if isinstance(log, tuple) else log for log in logs]
    for tail in tails:
        if len(tails) > 1:
            click.echo(f"== {tail.name}")
        for line in tail.last(lines):
            click.echo(line)
    if not follow:
        return 0
    width = max(len(tail.name) for tail in tails)
    try:
        while True:
            done = ended()
            for tail in tails:
                for line in tail.new_lines():
                    click.echo(f"{tail.name.ljust(width)} | {line}" if len(tails) > 1 else line)
            if done:
                return 0
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return 0


class _Tail:
    """What is appended to a file from now on; one that is replaced or cut short is read from its beginning."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._path = path
        self._inode: int | None = None
        self._at = 0
        self._rest = b""
        try:
            status = path.stat()
            self._inode, self._at = status.st_ino, status.st_size
        except OSError:
            pass

    def last(self, lines: int) -> list[str]:
        from harness.stack.starting.ready import last_lines

        if not self._path.exists():
            click.echo(f"{self._path}: there is no such file yet", err=True)
        return last_lines(self._path, lines)

    def new_lines(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                status = self._path.stat()
                if status.st_ino != self._inode or status.st_size < self._at:
                    self._inode, self._at, self._rest = status.st_ino, 0, b""
                file.seek(self._at)
                data = file.read(MAX_READ)
        except OSError:
            return []
        self._at += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [_shown(line) for line in whole]


class ContainerLog:
    """What a container wrote, as its engine keeps it; one that was removed has nothing new."""

    def __init__(self, name: str, engine: Engine, container_id: str) -> None:
        self.name = name
        self._engine = engine
        self._id = container_id
        self._at = ""

    def last(self, lines: int) -> list[str]:
        from harness.adapters.docker.logs import last_lines

        return self._taken(last_lines(self._engine, self._id, lines))

    def new_lines(self) -> list[str]:
        from harness.adapters.docker.logs import lines_after
        from harness.model.errors import AdapterError

        try:
            return self._taken(lines_after(self._engine, self._id, self._at))
        except AdapterError:
            return []

    def _taken(self, found: list[LogLine]) -> list[str]:
        # Two streams of one container are not in the order of time.
        self._at = max([self._at, *(line.at for line in found)])
        return [_shown(line.text) for line in found]


def _shown(line: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in line.decode("utf-8", "replace").rstrip())
