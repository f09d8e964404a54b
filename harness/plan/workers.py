"""How many generators share the load, and where they are."""

from __future__ import annotations

import ipaddress
import math
from urllib.parse import urlsplit

from harness.model.errors import UsageError
from harness.model.records.load import Remote, UserClass
from harness.model.units import format_duration
from harness.plan.experiment import Experiment

RATE_PER_WORKER = 1_000.0
"""Arrivals per second for which one more process is started. Why so many: docs/load.md, Workers."""
MOST_WORKERS = 256


def shared(
    request: Experiment, *, rate: float | None, users: int, classes: tuple[UserClass, ...], host: str
) -> tuple[int, str, Remote | None]:
    """(generators in all, why so many, the remote ones). host: of the target, "" where our stack chooses it.

    As asked for, else one for every RATE_PER_WORKER arrivals a second that are to be expected, and never more than
    there are cores for; none beside remote workers. Raises UsageError.
    """
    remote = _remote(request, host)
    far = remote.workers if remote is not None else 0
    near = request.workers
    if near is not None:
        least = 0 if far else 1
        if not least <= near <= MOST_WORKERS:
            raise UsageError(f"{near} is out of range", hint=f"from {least} to {MOST_WORKERS}", field="workers")
        return near + far, "asked for", remote
    if remote is not None:
        return far, "remote ones only; --workers N adds some of this machine", remote
    expected = rate if rate is not None else busiest_rate(users, classes)
    wanted = max(1, math.ceil(expected / RATE_PER_WORKER))
    chosen = min(wanted, max(1, request.cores))
    why = f"one for every {RATE_PER_WORKER:,.0f} requests/s"
    return chosen, why + (f", at most one for each of {request.cores} cores" if chosen < wanted else ""), None


def busiest_rate(users: int, classes: tuple[UserClass, ...]) -> float:
    """Closed model: task starts per second if the target answered at once; 0 where a class's wait is not known."""
    total = sum(c.weight for c in classes) or 1.0
    rate = 0.0
    for user_class in classes:
        if user_class.wait_s is not None:
            rate += users * user_class.weight / total / max(sum(user_class.wait_s) / 2, 0.01)
    return rate


def _remote(request: Experiment, host: str) -> Remote | None:
    if not request.remote_workers:
        return None
    if not 1 <= request.remote_workers <= MOST_WORKERS:
        raise UsageError(
            f"{request.remote_workers} is out of range", hint=f"from 1 to {MOST_WORKERS}", field="remote_workers"
        )
    if not 1 <= request.master_port <= 65535:
        raise UsageError(f"{request.master_port} is no port", hint="from 1 to 65535", field="master_port")
    if not 1 <= request.remote_wait_s <= 86_400:
        raise UsageError(
            f"{format_duration(request.remote_wait_s)} is out of range", hint="1s to 24h", field="remote_wait_s"
        )
    try:
        bind = ipaddress.ip_address(request.master_bind_host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise UsageError(
            f"{request.master_bind_host} is no IP address of this machine",
            hint="0.0.0.0 listens on all of them (:: with IPv6)",
            field="master_bind_host",
        ) from None
    if not bind.is_loopback and _only_here(request, host):
        raise UsageError(
            "remote workers cannot reach a target on this machine's loopback address",
            hint="name the target by an address that they reach: --host URL (with --allow-host)",
        )
    return Remote(
        workers=request.remote_workers,
        bind_host=str(bind),
        port=request.master_port,
        wait_s=request.remote_wait_s,
    )


def _only_here(request: Experiment, host: str) -> bool:
    """Whether the target is known to be on loopback: as those of our own stacks are."""
    if request.stack != "external":
        return True
    name = urlsplit(host).hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
