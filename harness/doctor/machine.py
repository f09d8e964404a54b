"""Has this machine what the load asked for needs: file descriptors, local ports, time? And other machines' clocks."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from harness.doctor.diagnosis import DiagnosisLine, meaningless, ok, warn
from harness.model.records.load import LoadPlan

ABOUT = "this machine"
OWN_FILES = 100
"""Of a load process, beside its connections."""
TIME_WAIT_S = 60
"""For how long Linux keeps the port of a connection that this side has closed."""
PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


def machine_lines(load: LoadPlan) -> Iterator[DiagnosisLine]:
    users = -(-load.users // load.workers)
    need, files = users + OWN_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    many = "without a limit" if files == resource.RLIM_INFINITY else f"{files:,}"
    told = f"each of {load.users:,} users may hold a connection: {need:,} files a load process; allowed are {many}"
    if files != resource.RLIM_INFINITY and files < need:
        yield meaningless(ABOUT, "too few file descriptors for the load", told, f"ulimit -Hn {need}, or fewer --users")
    else:
        yield ok(ABOUT, "file descriptors are enough for the load", told)
    if (ports := _ports()) is not None:
        yield _port_line(load, users * load.local_workers, ports)
    yield from _busy_lines(os.getloadavg()[0], os.cpu_count() or 1)
    if load.remote is not None:
        yield warn(
            ABOUT,
            f"the clocks of the {load.remote.workers} remote workers are not known yet",
            "they are measured when the workers join a run, which maps their instants onto its own clock",
        )


def _busy_lines(load_average: float, cores: int) -> Iterator[DiagnosisLine]:
    if load_average > cores:
        yield warn(
            ABOUT,
            "more wants to run on it than it has cores",
            f"load average {load_average:.1f} in the last minute, on {cores} cores; a run whose load comes late"
            " for want of them is INCONCLUSIVE",
            "end what need not run here, or send the load from another machine",
        )


def _port_line(load: LoadPlan, users: int, ports: int) -> DiagnosisLine:
    told = (
        f"up to {users:,} connections to one address at a time; there are {ports:,} local ports (ip_local_port_range)"
    )
    wider = 'sysctl -w net.ipv4.ip_local_port_range="1024 65000", workers on other machines, or fewer --users'
    if users > ports:
        return meaningless(ABOUT, "too few local ports for the load", told, wider)
    # A locustfile whose client keeps no connection needs a fresh port a request, and gets it back a minute later.
    fresh = int((load.rate or 0) * TIME_WAIT_S)
    if fresh > ports:
        return warn(
            ABOUT,
            "local ports are enough only while connections are kept",
            f"{told}; a new connection for each request would take {fresh:,} ({load.rate:g} a second, each for"
            f" {TIME_WAIT_S} s)",
            "let the clients of the locustfile keep their connections",
        )
    return ok(ABOUT, "local ports are enough for the load", told)


def _ports() -> int | None:
    """None where this system does not tell."""
    try:
        low, high = map(int, PORTS.read_text(encoding="ascii").split())
    except (OSError, ValueError):
        return None
    return high - low + 1
