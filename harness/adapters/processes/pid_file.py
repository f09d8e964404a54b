"""The process that a pid file names, once it is sure that it still is that process."""

from __future__ import annotations

import os
from pathlib import Path

from harness.adapters.processes.control import ServerProcesses, look_at, members, runs_us
from harness.adapters.processes.identity import ProcessId, look
from harness.adapters.processes.listeners import listens
from harness.model.errors import Gone, Refused, Rejected, Unreachable, UsageError

_MAX_BYTES = 4096
_SLACK_S = 2.0
"""Start times come from clock ticks and a boot time that may be corrected by a second."""


def read_pid(path: str) -> int:
    """The number in the file's first line (PostgreSQL's postmaster.pid has more of them). Raises UsageError."""
    try:
        content = _read(path)
    except OSError as error:
        raise UsageError(f"pid file {path}: {error.strerror or error}", hint="is the server running?") from error
    if (pid := _first_line(content)) is None:
        raise UsageError(f"pid file {path} holds no pid in its first line")
    return pid


def running_now(path: str) -> ProcessId | None:
    """The process that the file names now, unless it is a later one with that pid: the file outlives its server, and
    the machine's boot. None also while a server goes and comes: no file, or no pid in it. Raises Unreachable."""
    try:
        pid = _first_line(_read(path))
        written = Path(path).stat().st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unreachable(f"the pid file {path} cannot be read: {error.strerror or error}") from error
    seen = look(pid) if pid is not None else None
    return None if seen is None or seen.zombie or _later(seen.id, written) else seen.id


def _later(process: ProcessId, written: float) -> bool:
    """Whether it started after the file was written, so that the file means another one."""
    return process.start_time > written + _SLACK_S


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_MAX_BYTES)


def _first_line(content: bytes) -> int | None:
    first = (content.decode("ascii", "replace").splitlines() or [""])[0].strip()
    # Digits of other scripts are digits to Python, and some of them no numbers.
    return int(first) if first.isascii() and first.isdigit() and len(first) < 11 and 1 < int(first) < 2**31 else None


def process_of(path: str, *, port: int | None) -> ServerProcesses:
    """The running server that the file names, with every check that can tell it from a stranger with the same pid.

    port: on which it, or a process of its tree, must listen; None = not known. Raises UsageError when the file is
    stale, Refused when the process is another user's, or one that this very run descends from.
    """
    pid = read_pid(path)
    try:
        written = Path(path).stat().st_mtime
        found = look_at(pid)
    except (Gone, OSError) as error:
        raise UsageError(
            f"pid file {path}: process {pid} is not running", hint="the server is down, or the file is stale"
        ) from error
    except Rejected as error:
        raise Refused(f"pid file {path}: {error}") from error
    if os.geteuid() not in (0, found.uid):
        raise Refused(
            f"pid file {path}: process {pid} belongs to user {found.uid}, and this is user {os.geteuid()}",
            hint="run the harness as that user, or leave pid_file out (then it has no process faults)",
        )
    if _later(found.first, written):
        raise UsageError(
            f"pid file {path}: process {pid} started after the file was written, so it is another one",
            hint="the file is stale: the server ended without removing it",
        )
    if runs_us(found):
        raise Refused(f"pid file {path}: process {pid} is a parent of this run: a fault would hit the harness itself")
    if port is not None:
        try:
            serving = listens([row.id.pid for row in members(found)], port)
        except Rejected as error:
            raise Refused(f"pid file {path}: {error}") from error
        if not serving:
            raise UsageError(
                f"pid file {path}: process {pid} does not listen on port {port}",
                hint="is it the pid of that server, and is the port right?",
            )
    return found
