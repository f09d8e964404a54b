"""Everything a server started, however it tried to get away, and its end.

Children alone are not enough: PostgreSQL's backends have sessions and groups of their own, daemons fork twice. A
process belongs to a server when one of these holds: it descends from it; it is in its session or process group; it
carries the marker that the launcher put in the server's environment; it runs the server's own program in the
server's working directory, and that directory is the harness's own temporary one (PostgreSQL overwrites its
environment, but its backends keep program and directory; a person's shell in a checkout is no server).
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from harness.adapters.processes.identity import (
    LINUX,
    ProcessId,
    alive,
    ancestors,
    descendants,
    link,
    of_another_boot,
    older,
    same,
    send,
    table,
    wait_gone,
)

MARKER = "RESILIENCE_HARNESS_SERVER"
"""Environment variable that marks a server's processes."""


class Root(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How to recognise one server's processes after its first one is gone.

    cwd, exe: working directory and program of the server. marker: value of the variable MARKER.
    """

    name: str
    process: ProcessId
    cwd: str | None = None
    exe: str | None = None
    marker: str | None = None


def _carries(pid: int, marker: str) -> bool:
    if not LINUX:
        return False
    try:
        return f"{MARKER}={marker}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def members(root: Root, *, others: Iterable[Root] = (), private: Iterable[str] = ()) -> list[ProcessId]:
    """The living processes of a server. Never this process, its parents, or what plainly belongs to one of `others`.

    private: the harness's own temporary folders; only in them does a working directory count.
    """
    if of_another_boot(root.process):
        return []
    rows = table()
    protected = ancestors(os.getpid(), rows)
    first = rows.get(root.process.pid)
    there = first is not None and same(first.id, root.process)
    # A session or group keeps its leader's number in use: nobody else can get it while one member lives. But once all
    # have gone the number may be taken again, so a member must be no older than the server.
    for other in others:
        if other.process.pid != root.process.pid:
            protected.add(other.process.pid)
            protected |= {row.id.pid for row in rows.values() if row.session == other.process.pid}
    pid = root.process.pid
    kin = descendants([pid], rows) | {pid} if there else set()
    cwd = root.cwd if root.cwd is not None and any(_within(root.cwd, folder) for folder in private) else None
    reused = first is not None and not there
    found = []
    for row in rows.values():
        if row.zombie or row.id.pid in protected or older(row.id, root.process):
            continue
        if (
            row.id.pid in kin
            or (not reused and pid in (row.session, row.group))
            or (root.marker is not None and _carries(row.id.pid, root.marker))
            or (
                cwd is not None
                and root.exe is not None
                and link(row.id.pid, "exe") == root.exe
                and link(row.id.pid, "cwd") == cwd
            )
        ):
            found.append(row.id)
    return found


def _within(path: str, folder: str) -> bool:
    return Path(path).resolve().is_relative_to(Path(folder).resolve())


def stop_family(
    root: Root,
    *,
    number: int | None,
    grace_s: float,
    others: Iterable[Root] = (),
    private: Iterable[str] = (),
    known: Iterable[ProcessId] = (),
) -> bool:
    """Ask with `number` (None: do not ask), wait `grace_s`, then SIGKILL all that remain. True when it had to.

    known: members seen earlier: once the server itself is gone, a child that left its session and cleared its
    environment can be told from a stranger only by having been seen. Raises TimeoutError naming the pids that outlive
    SIGKILL by 10 s (stuck in the kernel, or not ours to kill).
    """
    others, private = tuple(others), tuple(private)
    seen = {process.pid: process for process in known}

    def living() -> list[ProcessId]:
        here = {process.pid: process for process in seen.values() if alive(process)}
        rows = table()
        here |= {pid: rows[pid].id for pid in descendants(here, rows) if not rows[pid].zombie}
        here |= {process.pid: process for process in members(root, others=others, private=private)}
        seen.update(here)
        return list(here.values())

    here = living()
    if number is not None and here:
        ask_family(root, number, others=others)
        end = time.monotonic() + grace_s
        while here and (rest := end - time.monotonic()) > 0:
            wait_gone(here, min(rest, 0.5))
            here = living()
    end = time.monotonic() + 10.0
    hard = False
    while here := living():
        if time.monotonic() > end:
            raise TimeoutError(f"{root.name}: still there after SIGKILL: pid " + ", ".join(str(p.pid) for p in here))
        hard = True
        for process in here:
            _try_send(process, signal.SIGKILL)
        wait_gone(here, 0.5)
    return hard


def ask_family(root: Root, number: int | None, *, others: Iterable[Root] = ()) -> None:
    """Send `number` to the server and its process group (as a terminal would), and wake what is stopped."""
    if number is None:
        return
    here = [p for p in members(root, others=others) if root.process.pid in (p.pid, _group_of(p.pid))]
    for process in here:
        _try_send(process, number)
    for process in here:
        _try_send(process, signal.SIGCONT)


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except OSError:
        return None


def _try_send(process: ProcessId, number: int) -> None:
    try:
        send(process, number)
    except PermissionError:
        pass  # it has changed its user; the caller's limit reports what remains
