"""A server's processes, all of them: who they are, stopping, continuing and ending them.

A process belongs to a server when it descends from the server's first process, when it is in the session or process
group that the first one leads, or when it runs the same program in the server's own data folder. Only the last two
still tell once the first process is gone. (PostgreSQL's backends have sessions and groups of their own, but their
working directory is the data folder; uvicorn's workers are children in the group that the supervisor leads.)

Processes fork while one looks at them. So everything is signalled, looked at again, and done only when two looks in a
row find nothing new: whatever is seen stopped in the first look cannot have forked after it, and what had been forked
during the first look is in the second.

Signals go through a pidfd where there is one (it works on stopped processes too), after the start time was checked.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import msgspec

from harness.adapters.processes.identity import (
    ProcessId,
    Seen,
    alive,
    ancestors,
    descendants,
    link,
    look,
    of_another_boot,
    older,
    same,
    send,
    table,
    wait_gone,
)
from harness.model.errors import Gone, Rejected
from harness.model.records.faults import Scalar

SIGNAL_LIMIT_S = 10.0
"""How long processes may take to stop, continue or die once they were told to: those deep in the kernel take longer."""
_CLEAN_LOOKS = 2


class ServerProcesses(msgspec.Struct, frozen=True, kw_only=True):
    """How one server's processes are recognised.

    first: its first process. uid: whose it is. leads: it leads its session or process group, whose number is then
    nobody else's while one member lives. folder, program: of a server whose working directory is its own data folder;
    None where the working directory says nothing.
    """

    first: ProcessId
    uid: int
    leads: bool = False
    folder: str | None = None
    program: str | None = None


def look_at(pid: int, *, own_folder: bool = False) -> ServerProcesses:
    """The server whose first process has this pid now. own_folder: its working directory is its own data folder.

    Raises Gone, and Rejected where this user may not look.
    """
    seen = look(pid)
    if seen is None or seen.zombie:
        raise Gone(f"process {pid} is not running")
    folder = link(pid, "cwd") if own_folder else None
    return ServerProcesses(
        first=seen.id,
        uid=_uid(seen.id),
        leads=pid in (seen.session, seen.group),
        folder=folder,
        program=link(pid, "exe") if folder is not None else None,
    )


def as_scalars(server: ServerProcesses) -> dict[str, Scalar]:
    """For an undo record; `from_scalars` reads it back."""
    first = server.first
    return {
        "pid": first.pid,
        "start_time": first.start_time,
        "ticks": first.ticks,
        "boot": first.boot,
        "uid": server.uid,
        "leads": server.leads,
        "folder": server.folder,
        "program": server.program,
    }


def from_scalars(values: dict[str, Scalar]) -> ServerProcesses:
    """Raises Gone when the values name no process: records are data from a file."""
    try:
        return msgspec.convert(
            {
                "first": {key: values[key] for key in ("pid", "start_time", "ticks", "boot")},
                **{key: values[key] for key in ("uid", "leads", "folder", "program")},
            },
            ServerProcesses,
        )
    except (KeyError, msgspec.ValidationError) as error:
        raise Gone(f"the record names no process: {error}") from error


def members(server: ServerProcesses) -> list[Seen]:
    """Its living processes, the first one in front. Never this process or one that this process descends from."""
    if of_another_boot(server.first):
        return []
    rows = table()
    pid = server.first.pid
    first = rows.get(pid)
    there = first is not None and not first.zombie and same(first.id, server.first)
    taken = first is not None and not same(first.id, server.first)  # the pid is somebody else's now
    kin = descendants([pid], rows) if there else set()
    ours = ancestors(os.getpid(), rows)
    found = [
        row
        for row in rows.values()
        if row.id.pid not in ours
        and not row.zombie
        and not older(row.id, server.first)
        and (
            (there and row.id.pid == pid)
            or row.id.pid in kin
            or (server.leads and not taken and pid in (row.session, row.group))
            or _in_folder(row.id.pid, server)
        )
    ]
    return sorted(found, key=lambda row: (row.id.pid != pid, row.id.pid))


def runs_us(server: ServerProcesses) -> bool:
    """Whether this very process descends from the server: stopping it would stop the harness."""
    return not of_another_boot(server.first) and server.first.pid in ancestors(os.getpid(), table())


def stop(server: ServerProcesses, *, limit_s: float = SIGNAL_LIMIT_S) -> int:
    """SIGSTOP, the first process first, so that it starts no new ones. Returns how many are stopped then.

    Raises Gone when there is none, Rejected when one does not stop or may not be signalled.
    """
    if not members(server):
        raise Gone(f"process {server.first.pid} is not running")
    _until(server, lambda row: not row.stopped, signal.SIGSTOP, "stopped", limit_s)
    return len(members(server))


def go_on(server: ServerProcesses, *, limit_s: float = SIGNAL_LIMIT_S) -> int:
    """SIGCONT to what is stopped. Returns how many were. Raises Rejected when one does not go on."""
    return _until(server, lambda row: row.stopped, signal.SIGCONT, "going on", limit_s)


def kill(server: ServerProcesses, *, limit_s: float = SIGNAL_LIMIT_S) -> int:
    """SIGKILL, everything stopped first so that nothing gets away. Returns how many there were; all are gone then.

    Raises Rejected when one outlives it or may not be signalled.
    """
    try:
        stop(server, limit_s=min(limit_s, 2.0))
    except (Gone, Rejected):
        pass  # SIGKILL needs no cooperation; what gets away is found by the looks below
    return _until(server, lambda _: True, signal.SIGKILL, "gone", limit_s)


def ask_to_end(server: ServerProcesses, number: int, grace_s: float) -> bool:
    """Send `number` to the first process, wait `grace_s` for all of them, then SIGKILL. True when that was needed.

    Raises Gone when the first process is not running, Rejected as `kill` does.
    """
    try:
        if not send(server.first, number):
            raise Gone(f"process {server.first.pid} is not running")
    except PermissionError as error:
        raise Rejected(f"process {server.first.pid} may not be signalled by this user") from error
    end = time.monotonic() + grace_s
    while (left := members(server)) and (rest := end - time.monotonic()) > 0:
        wait_gone([row.id for row in left], min(rest, 0.25))
    if not left:
        return False
    kill(server)
    return True


def _until(server: ServerProcesses, wrong: Callable[[Seen], bool], number: int, wanted: str, limit_s: float) -> int:
    """Signal every member that is `wrong` until two looks in a row find none. Returns how many were signalled."""
    end = time.monotonic() + limit_s
    told: dict[int, ProcessId] = {}
    clean = 0
    pause_s = 0.001
    while True:
        todo = [row.id for row in members(server) if wrong(row)]
        clean = 0 if todo else clean + 1
        if clean == _CLEAN_LOOKS:
            return len(told)
        if time.monotonic() > end:
            pids = ", ".join(str(process.pid) for process in todo) or str(server.first.pid)
            raise Rejected(f"not {wanted} within {limit_s:g} s: process {pids}")
        for process in todo:
            # Once is enough for one process, except that somebody may undo it meanwhile: then again, with patience.
            try:
                if send(process, number):
                    told[process.pid] = process
            except PermissionError as error:
                raise Rejected(f"process {process.pid} may not be signalled by this user") from error
        if todo:
            time.sleep(pause_s)
            pause_s = min(0.05, pause_s * 2)


def _in_folder(pid: int, server: ServerProcesses) -> bool:
    return (
        server.folder is not None
        and server.program is not None
        and link(pid, "cwd") == server.folder
        and link(pid, "exe") == server.program
    )


def _uid(process: ProcessId) -> int:
    import psutil

    try:
        found = int(psutil.Process(process.pid).uids().real)
    except psutil.NoSuchProcess as error:
        raise Gone(f"process {process.pid} is not running") from error
    except psutil.AccessDenied as error:
        raise Rejected(f"process {process.pid} may not be looked at by this user") from error
    if not alive(process):
        raise Gone(f"process {process.pid} is not running")
    return found
