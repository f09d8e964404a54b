"""Which process is meant, whether it still lives, and how to end it without hitting another one.

A pid alone says nothing: it is used again. A `ProcessId` carries the start time too. On Linux that is the kernel's
own tick count since boot (field 22 of /proc/PID/stat) with the boot's id, which no change of the wall clock moves;
elsewhere psutil's create_time, within a second. Nothing outlives its boot: a process of another one is gone, and so is
all that it started, whoever has its pid, its session or its working directory now. Signals go through a pidfd where
there is one: it is opened first, then the start time is checked, then the signal is sent, so no reuse of the pid can
come between.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

LINUX = sys.platform.startswith("linux")


class ProcessId(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process, for good. start_time: seconds since the epoch, as psutil's create_time.

    ticks, boot: clock ticks since boot and the boot's id (Linux), which decide where they are known.
    """

    pid: int
    start_time: float
    ticks: int | None = None
    boot: str | None = None


class Seen(msgspec.Struct, frozen=True):
    """One row of the process table.

    zombie: dead with all its threads, its exit status not yet collected. A first thread that died before the others
    (as in a JVM that was just killed) is no zombie here: those others still hold its memory, sockets and files.
    stopped: by a signal, or by a debugger.
    """

    id: ProcessId
    parent: int
    group: int
    session: int
    zombie: bool
    stopped: bool = False


@cache
def boot_id() -> str | None:
    """The id of this boot (Linux), else None."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _boot_time() -> int:
    with Path("/proc/stat").open("rb") as file:
        for line in file:
            if line.startswith(b"btime "):
                return int(line.split()[1])
    raise OSError("/proc/stat has no btime")


def _parse_stat(raw: bytes, boot_time: float) -> Seen:
    # The command's name may hold blanks and brackets: split after the last one.
    head, _, tail = raw.rpartition(b") ")
    fields = tail.split()
    ticks = int(fields[19])
    start = boot_time + ticks / os.sysconf("SC_CLK_TCK")
    return Seen(
        ProcessId(pid=int(head.split(b" ", 1)[0]), start_time=start, ticks=ticks, boot=boot_id()),
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        fields[0] in (b"Z", b"X") and int(fields[17]) <= 1,
        fields[0] in (b"T", b"t"),
    )


def look(pid: int) -> Seen | None:
    """The process with this pid now, or None when there is none."""
    if pid <= 0:
        return None
    if LINUX:
        try:
            return _parse_stat(Path(f"/proc/{pid}/stat").read_bytes(), _boot_time())
        except (OSError, IndexError, ValueError):
            return None
    return _look_psutil(pid)


def table() -> dict[int, Seen]:
    """Every process that can be seen, by pid."""
    if not LINUX:
        import psutil

        seen = (_look_psutil(pid) for pid in psutil.pids())
        return {row.id.pid: row for row in seen if row is not None}
    boot_time, found = _boot_time(), {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - a hot loop over names
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123
                    found[int(entry)] = _parse_stat(file.read(), boot_time)
            except (OSError, IndexError, ValueError):
                continue
    return found


def descendants(pids: Iterable[int], rows: Mapping[int, Seen]) -> set[int]:
    """Pids of everything below `pids`, themselves not included."""
    below: dict[int, list[int]] = {}
    for row in rows.values():
        below.setdefault(row.parent, []).append(row.id.pid)
    found: set[int] = set()
    todo = list(pids)
    while todo:
        for pid in below.get(todo.pop(), ()):
            if pid not in found:
                found.add(pid)
                todo.append(pid)
    return found


def ancestors(pid: int, rows: Mapping[int, Seen]) -> set[int]:
    """The process itself, its parent, and so on up to the first one of the system."""
    found = {1}
    while pid in rows and pid not in found:
        found.add(pid)
        pid = rows[pid].parent
    return found


def link(pid: int, name: Literal["cwd", "exe"]) -> str | None:
    """Its working directory or the path of its program (Linux), or None."""
    try:
        return str(Path(f"/proc/{pid}/{name}").readlink()).removesuffix(" (deleted)") if LINUX else None
    except OSError:
        return None


def _look_psutil(pid: int) -> Seen | None:
    import psutil

    try:
        process = psutil.Process(pid)
        status = process.status()
        return Seen(
            ProcessId(pid=pid, start_time=process.create_time()),
            process.ppid(),
            os.getpgid(pid),
            os.getsid(pid),
            status == psutil.STATUS_ZOMBIE,
            status == psutil.STATUS_STOPPED,
        )
    except (psutil.Error, OSError):
        return None


def identify(pid: int, start_time: float | None = None) -> ProcessId | None:
    """Who has this pid now; None when nobody has, or when it did not start at `start_time` (within a second)."""
    seen = look(pid)
    if seen is None or (start_time is not None and abs(seen.id.start_time - start_time) > 1.0):
        return None
    return seen.id


def same(a: ProcessId, b: ProcessId) -> bool:
    """Whether both name one and the same process."""
    if a.pid != b.pid or (a.boot is not None and b.boot is not None and a.boot != b.boot):
        return False
    if a.ticks is not None and b.ticks is not None:
        return a.ticks == b.ticks
    return abs(a.start_time - b.start_time) <= 1.0


def of_another_boot(process: ProcessId) -> bool:
    """Whether it is of an earlier boot than this one, so that it and all that it started are gone."""
    return process.boot is not None and process.boot != boot_id()


def older(process: ProcessId, than: ProcessId) -> bool:
    """Whether it started before the other one, both of this boot."""
    if process.ticks is not None and than.ticks is not None:
        return process.ticks < than.ticks
    return process.start_time < than.start_time - 1.0


def alive(process: ProcessId) -> bool:
    """Whether it still runs (stopped counts as running, a zombie does not)."""
    seen = look(process.pid)
    return seen is not None and not seen.zombie and same(seen.id, process)


def open_pidfd(process: ProcessId) -> int | None:
    """A file descriptor for exactly this process, or None when it is gone or the system has no pidfd."""
    if sys.platform != "linux":
        return None
    try:
        fd = os.pidfd_open(process.pid)
    except OSError:
        return None
    if alive(process):
        return fd
    os.close(fd)
    return None


def send(process: ProcessId, number: int) -> bool:
    """Send a signal to exactly this process. False when it is gone. Raises PermissionError when not ours."""
    fd = open_pidfd(process)
    try:
        if sys.platform == "linux" and fd is not None:
            signal.pidfd_send_signal(fd, number)
        elif alive(process):
            os.kill(process.pid, number)
        else:
            return False
    except ProcessLookupError:
        return False
    finally:
        if fd is not None:
            os.close(fd)
    return True


def wait_gone(processes: Iterable[ProcessId], limit_s: float) -> list[ProcessId]:
    """Wait until all have ended. Returns those that have not after `limit_s` seconds."""
    left = list(processes)
    end = time.monotonic() + limit_s
    while left := [process for process in left if alive(process)]:
        rest = end - time.monotonic()
        if rest <= 0:
            break
        fd = open_pidfd(left[0])
        if fd is None:
            time.sleep(min(rest, 0.005))
            continue
        try:
            # A pidfd becomes readable when the process ends, also before its parent has collected it.
            select.select([fd], [], [], min(rest, 0.25))
        finally:
            os.close(fd)
    return left
