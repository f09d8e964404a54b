"""Processes as psutil sees them: what a process tree uses, who owns it, where it listens; and the machine's counters.

A pid alone names nothing: it is used again. Everything here is about a process at a pid *and* start time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import msgspec
import psutil

from harness.model.clock import monotonic
from harness.model.errors import Gone, Rejected
from harness.model.records.samples import ProcessUse

START_TIME_SLACK_S = 0.02
"""psutil derives start times from clock ticks (10 ms) and the boot time; they agree to this much."""

Key = tuple[int, float]


class Identity(msgspec.Struct, frozen=True):
    """One process, for good: pid and start time (seconds since the epoch)."""

    pid: int
    start_time: float


def identify(pid: int) -> Identity:
    """The process that has this pid now. Raises Gone."""
    with _translated(pid):
        return Identity(pid, psutil.Process(pid).create_time())


def listening_ports(process: Identity) -> frozenset[int]:
    """TCP ports on which this process itself listens. Raises Gone, Rejected."""
    with _translated(process.pid):
        return frozenset(_ports(_same(process)))


def worker_count(process: Identity, port: int) -> int:
    """How many processes of the tree serve a port: those that listen on it and have no child that does.

    A supervisor that opened the socket for its workers is no worker. At least 1. Raises Gone, Rejected.
    """
    with _translated(process.pid):
        root = _same(process)
        tree = [root, *root.children(recursive=True)]
    serving: set[int] = set()
    parents: dict[int, int] = {}
    for one in tree:
        try:
            parents[one.pid] = one.ppid()
            if port in _ports(one):
                serving.add(one.pid)
        except psutil.Error:
            continue  # ended while we looked
    supervisors = {parents[pid] for pid in serving if pid in parents}
    return max(1, len(serving - supervisors))


class Processes:
    """One look at all processes of the machine, shared by every tree read from it."""

    def __init__(self) -> None:
        self.children: dict[int, list[int]] = {}
        self.at = monotonic()
        for pid, parent in _parents():
            self.children.setdefault(parent, []).append(pid)


def _parents() -> Iterator[tuple[int, int]]:
    """(pid, its parent's) of every process. On Linux read without psutil: each sample of a run does it, and a machine
    has hundreds of processes that are none of ours."""
    if not psutil.LINUX:
        for process in psutil.process_iter(["ppid"]):
            if process.info["ppid"] is not None:
                yield process.pid, process.info["ppid"]
        return
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    # The command, in parentheses, may contain anything; state and parent follow it.
                    yield int(name), int(file.read().rpartition(b")")[2].split(None, 2)[1])
            except (OSError, IndexError, ValueError):
                continue  # ended while we looked


class Tree:
    """What a process and everything below it use. CPU time only rises, whoever starts and ends in between.

    A process that ends hands its CPU time to the parent that waits for it; one that nobody waits for, or that has
    left the tree for another parent, stays counted as it was last seen.
    """

    def __init__(self, root: Identity) -> None:
        self._root = root
        self._process = psutil.Process(root.pid) if psutil.pid_exists(root.pid) else None
        self._last: dict[Key, tuple[float, float]] = {}
        self._kept_s = 0.0
        self._first_s: float | None = None
        self._at: float | None = None

    def follow(self, root: Identity) -> None:
        """Go on with the process that took the root's place: all of its CPU time counts, and what was used before."""
        self._root = root
        self._process = psutil.Process(root.pid) if psutil.pid_exists(root.pid) else None

    def read(self, processes: Processes | None = None) -> ProcessUse:
        """cpu_s: since the first read. busiest_cpu: since the read before; None in the first. Raises Gone."""
        processes = processes or Processes()
        now: dict[Key, tuple[float, float]] = {}
        rss = 0
        for process in self._members(processes):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    key = (process.pid, process.create_time())
                    rss += process.memory_info().rss
            except psutil.Error:
                continue  # ended while we looked
            # Reaped descendants: only Linux counts them.
            reaped = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
            now[key] = (times.user + times.system, reaped)
        if not now:
            raise Gone(f"process {self._root.pid} is not running")
        cpu_s = self._account(now)
        busiest = self._busiest(now, processes.at)
        self._last, self._at = now, processes.at
        if self._first_s is None:
            self._first_s = cpu_s
        return ProcessUse(cpu_s=round(cpu_s - self._first_s, 4), rss=rss, processes=len(now), busiest_cpu=busiest)

    def _members(self, processes: Processes) -> Iterator[psutil.Process]:
        if self._process is None:
            return
        try:
            if abs(self._process.create_time() - self._root.start_time) > START_TIME_SLACK_S:
                return
            if self._process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.Error:
            return
        waiting = [self._process]
        seen: set[int] = set()
        while waiting:
            process = waiting.pop()
            if process.pid not in seen:
                seen.add(process.pid)
                yield process
                for pid in processes.children.get(process.pid, ()):
                    with suppress(psutil.Error):
                        waiting.append(psutil.Process(pid))

    def _account(self, now: dict[Key, tuple[float, float]]) -> float:
        ended = sum(own + reaped for key, (own, reaped) in self._last.items() if key not in now)
        if ended:
            handed_on = sum(reaped - self._last[key][1] for key, (_, reaped) in now.items() if key in self._last)
            self._kept_s += max(0.0, ended - handed_on)
        return self._kept_s + sum(own + reaped for own, reaped in now.values())

    def _busiest(self, now: dict[Key, tuple[float, float]], at: float) -> float | None:
        if self._at is None or at <= self._at:
            return None
        used = [own - self._last.get(key, (0.0, 0.0))[0] for key, (own, _) in now.items()]
        return round(max(used) / (at - self._at), 4)


class MachineUse(msgspec.Struct, frozen=True):
    """net and disk: bytes per second both ways, loopback included; cpu: share of all cores, 0..1."""

    net_bytes_s: float | None
    disk_bytes_s: float | None
    cpu: float | None


class Machine:
    """The machine's counters as rates since the read before; the first read knows none."""

    def __init__(self) -> None:
        self._last: tuple[float, int | None, int | None, float, float] | None = None

    def read(self) -> MachineUse:
        net, disk = psutil.net_io_counters(), psutil.disk_io_counters()
        times = psutil.cpu_times()
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        now = (
            monotonic(),
            None if net is None else net.bytes_sent + net.bytes_recv,
            None if disk is None else disk.read_bytes + disk.write_bytes,
            total,
            idle,
        )
        last, self._last = self._last, now
        if last is None or now[0] <= last[0]:
            return MachineUse(None, None, None)
        seconds = now[0] - last[0]
        spent = now[3] - last[3]
        return MachineUse(
            _rate(last[1], now[1], seconds),
            _rate(last[2], now[2], seconds),
            round(min(1.0, max(0.0, 1 - (now[4] - last[4]) / spent)), 4) if spent > 0 else None,
        )


def _rate(before: int | None, after: int | None, seconds: float) -> float | None:
    """None when unknown, or when a device went away and took its count with it."""
    if before is None or after is None or after < before:
        return None
    return round((after - before) / seconds, 1)


def _same(process: Identity) -> psutil.Process:
    found = psutil.Process(process.pid)
    if abs(found.create_time() - process.start_time) > START_TIME_SLACK_S:
        raise Gone(f"process {process.pid} is another one now")
    if found.status() == psutil.STATUS_ZOMBIE:
        raise Gone(f"process {process.pid} has ended")
    return found


def _ports(process: psutil.Process) -> Iterable[int]:
    return {one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN and one.laddr}


@contextmanager
def _translated(pid: int) -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess as error:
        raise Gone(f"process {pid} is not running") from error
    except psutil.AccessDenied as error:
        raise Rejected(f"process {pid} belongs to another user") from error
