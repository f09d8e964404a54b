"""The commands of a harness.toml: what starts a process of the user's again, what resets the target of a suite.

An undo record holds no command: it names the file and its SHA-256 when it was read. A file that has changed since is
not what the run was planned with, so nothing from it is run. Nor is anything from a file that somebody else could have
written, or that lies in a run directory: those travel, and bring what their sender has put there.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import msgspec

from harness.config.load import MAX_BYTES, PORT, command_in, process_in, suite_in, version_in
from harness.model.errors import Refused, UsageError

RUN_DIRECTORY = ("plan.json", ("journal.jsonl", "keeper.jsonl", "history.jsonl"))
"""A folder with the first of these and one of the others is a run directory."""


class StartCommand(msgspec.Struct, frozen=True, kw_only=True):
    """argv: the program, found on PATH when it has no slash, and its arguments; no shell. cwd: absolute.

    log: file for its output, appended to; None = nowhere.
    """

    argv: tuple[str, ...]
    cwd: str
    log: str | None = None


def start_command(config: str, sha256: str, name: str) -> StartCommand:
    """How `name` (the target or a dependency) is started again. Reads the file, runs nothing.

    Raises UsageError: the file is gone, is no longer the one that was read, or holds no start command for it; Refused:
    it is not this user's own.
    """
    path = Path(config)
    data = _read_same(path, sha256, name)
    process = process_in(data, path, name)
    if process is None or process.start is None:
        raise UsageError(f"{config} holds no start command for {name}", hint=f"start {name} by hand")
    return StartCommand(argv=process.start, cwd=process.cwd or str(path.absolute().parent), log=process.log)


def own_command(config: str, sha256: str, name: str, key: str) -> StartCommand:
    """A command that the dependency's kind has under this key. Reads the file, runs nothing. Raises as `start_command`
    does."""
    path = Path(config)
    argv = command_in(_read_same(path, sha256, name, f"{key} command"), path, name, key)
    if not argv:
        raise UsageError(f"{config} holds no {key} command for {name}")
    return StartCommand(argv=argv, cwd=str(path.absolute().parent))


def version_command(config: str, sha256: str, name: str, port: int) -> StartCommand:
    """How a version of the target is started on this port of 127.0.0.1. Reads the file, runs nothing. Raises as
    `start_command` does."""
    path = Path(config)
    version = version_in(_read_same(path, sha256, name), path, name)
    if version is None or version.start is None:
        raise UsageError(f"{config} holds no start command for {name}")
    argv = tuple(word.replace(PORT, str(port)) for word in version.start)
    return StartCommand(argv=argv, cwd=version.cwd or str(path.absolute().parent), log=version.log)


def _read_same(path: Path, sha256: str, name: str, what: str = "start command") -> bytes:
    data = _read_own(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        by_hand = f"start {name} by hand, or put" if what == "start command" else "put"
        raise UsageError(
            f"{path} has changed since the run was planned, so its {what} for {name} is not run",
            hint=f"{by_hand} the file back as it was and run: harness heal --all",
        )
    return data


def reset_command(config: str, sha256: str) -> StartCommand:
    """How the target of a suite is brought back. Reads the file, runs nothing. Raises as start_command does."""
    path = Path(config)
    data = _read_own(path)
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UsageError(f"{config} has changed since the suite was planned, so its reset command is not run")
    found = suite_in(data, path)
    if found.reset is None:
        raise UsageError(f"{config} holds no reset command")
    return StartCommand(argv=found.reset, cwd=found.cwd or str(path.absolute().parent))


def _read_own(path: Path) -> bytes:
    """The file's bytes, looked at through the open file: nobody can put another one in its place in between."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: is not a file")
        if status.st_uid != os.geteuid():
            raise Refused(
                f"{path} belongs to another user (uid {status.st_uid}), so no command in it is run",
                hint="look into it, then make it yours: chown",
            )
        if status.st_mode & 0o022:
            raise Refused(
                f"{path} may be written by others ({stat.S_IMODE(status.st_mode):04o}), so no command in it is run",
                hint=f"look into it, then: chmod go-w {path}",
            )
        _refuse_run_directory(path.resolve())
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: over {MAX_BYTES // 1_000_000} MB is no configuration")
    return data


def _refuse_run_directory(path: Path) -> None:
    first, others = RUN_DIRECTORY
    for folder in path.parents:
        if (folder / first).exists() and any((folder / name).exists() for name in others):
            raise Refused(
                f"{path} lies in the run directory {folder}, so no command in it is run",
                hint="a harness.toml is used from a folder of your own",
            )
