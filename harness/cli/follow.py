"""Show logs: their last lines, and with `--follow` what comes then."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

POLL_S = 0.2
MAX_READ = 1 << 20
"""Bytes of one log read at once: a log that grows faster is shown in more steps."""


def show(
    logs: Sequence[tuple[str, Path]], lines: int, *, follow: bool, ended: Callable[[], bool] = lambda: False
) -> int:
    """logs: (name, file). One log is shown as it is, several with their names. ended: nothing will come any more.

    Following ends with Ctrl-C, which is no error, or when `ended`.
    """
    from harness.stack.ready import last_lines

    tails = [_Tail(name, path) for name, path in logs] if follow else []
    for name, path in logs:
        if len(logs) > 1:
            click.echo(f"== {name}")
        if not path.exists():
            click.echo(f"{path}: there is no such file yet", err=True)
        for line in last_lines(path, lines):
            click.echo(line)
    if not follow:
        return 0
    width = max(len(name) for name, _ in logs)
    try:
        while True:
            done = ended()
            for tail in tails:
                for line in tail.new_lines():
                    click.echo(f"{tail.name.ljust(width)} | {line}" if len(logs) > 1 else line)
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


def _shown(line: bytes) -> str:
    return "".join(c if c.isprintable() else "?" for c in line.decode("utf-8", "replace").rstrip())
