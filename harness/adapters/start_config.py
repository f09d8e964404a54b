"""The start command of a process of the user's, from the harness.toml that an undo record names.

An undo record holds no command: it names the file and its SHA-256 when it was read. A file that has changed since is
not what the run was planned with, so nothing from it is run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from harness.config.load import parse, read
from harness.model.errors import UsageError


class StartCommand(msgspec.Struct, frozen=True, kw_only=True):
    """argv: the program, found on PATH when it has no slash, and its arguments; no shell. cwd: absolute.

    log: file for its output, appended to; None = nowhere.
    """

    argv: tuple[str, ...]
    cwd: str
    log: str | None = None


def start_command(config: str, sha256: str, name: str) -> StartCommand:
    """How `name` (the target or a dependency) is started again. Reads the file, runs nothing.

    Raises UsageError: the file is gone, is no longer the one that was read, or holds no start command for it.
    """
    path = Path(config)
    data = read(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UsageError(
            f"{config} has changed since the run was planned, so its start command for {name} is not run",
            hint=f"start {name} by hand, or put the file back as it was and run: harness heal --all",
        )
    found = parse(data, path)
    process = found.process(name)
    if process is None or process.start is None:
        raise UsageError(f"{config} holds no start command for {name}", hint=f"start {name} by hand")
    return StartCommand(argv=process.start, cwd=process.cwd or str(path.absolute().parent), log=process.log)
