"""Who uses a dependency that cannot be asked: established connections, as the kernel of this machine shows them.

    the proxy's process    its own connections, where Toxiproxy runs here and this user may look at it
    the proxy's container  the connections in the network of its container, where that is declared and runs here
    this machine           whoever here is connected to the address that the application uses

Those of the harness itself do not count. That nobody is seen is no proof that nobody is there: the application may run
on another machine, or open a connection for a moment only.
"""

from __future__ import annotations

import os
import sys
import time

import msgspec

from harness.model.clock import monotonic
from harness.model.errors import AdapterError
from harness.model.faults import Address, Dependency, Evidence

LOOK_S = 3.0
BETWEEN_S = 0.1


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """at: CLOCK_MONOTONIC seconds. ends: the other ends of connections. where: at which address they were looked for.
    holders: whose they are, where that can be told."""

    at: float
    where: str
    ends: frozenset[Address] = frozenset()
    holders: tuple[str, ...] = ()


def look(dependency: Dependency, *, limit_s: float = LOOK_S) -> Outside:
    """Look until somebody is seen, for limit_s at most: some applications connect for a moment only."""
    address = dependency.path or dependency.direct
    until = monotonic() + limit_s
    while True:
        ends = _ends(dependency, address) if address is not None else frozenset()
        if ends or monotonic() > until:
            return Outside(at=monotonic(), where=str(address), ends=ends, holders=_holders(ends))
        time.sleep(BETWEEN_S)


def evidence_of(seen: Outside, dependency: Dependency) -> Evidence:
    """What was seen, as a path proof."""
    count = len(seen.ends)
    whose = f" ({', '.join(seen.holders)})" if seen.holders else ""
    return Evidence(
        source="path",
        expected=f"somebody besides the harness is connected to {dependency.name} at {seen.where}",
        observed=f"{count} established connection{'' if count == 1 else 's'}{whose}; seen from outside, because"
        f" {why_not_asked(dependency)}",
        held=count > 0,
        at=seen.at,
    )


def missing_of(seen: Outside, dependency: Dependency) -> str:
    """Why there is no path proof and what would give one: a clause."""
    give = {
        "postgres": "declare `admin`, a login that may read pg_stat_activity",
        "redis": "let the login run CLIENT LIST (ACL: +client|list)",
        "kafka": "declare pid_file or the container of the broker",
    }.get(dependency.kind)
    here = "run the harness where the application's connections to the proxy can be seen"
    ways = [*([give] if give else []), here, 'or, if you know it, write path = "assumed" for it in harness.toml']
    return (
        f"{why_not_asked(dependency)}, and nobody besides the harness was seen connected to {seen.where};"
        f" to prove it: {', '.join(ways)}"
    )


def why_not_asked(dependency: Dependency) -> str:
    if dependency.pooled:
        return f"{dependency.name} stands behind a pooler (PgBouncer), which hides whose connections are whose"
    if dependency.kind == "postgres":
        return f"no `admin` login is declared for {dependency.name}"
    if dependency.kind == "redis":
        return f"{dependency.name} does not let CLIENT LIST be asked"
    if dependency.kind == "kafka":
        return f"the process of {dependency.name} is not known"
    return f"a {dependency.kind} dependency cannot be asked who uses it"


def _ends(dependency: Dependency, address: Address) -> frozenset[Address]:
    from harness.adapters import sockets

    found: set[Address] = set()
    pid, port = dependency.proxy_pid, dependency.proxy_port or address.port
    if not dependency.proxied:
        pid, port = dependency.pid, (dependency.direct or address).port
    try:
        every = sockets.connections(*([pid] if pid is not None else []), os.getpid())
    except AdapterError:
        every = sockets.connections(os.getpid())
    ours = {own for own, _ in every[os.getpid()]}
    if pid is not None and pid in every:
        found |= {peer for own, peer in every[pid] if own.port == port}
    runtime = dependency.proxy_runtime
    if dependency.proxied and runtime is not None and runtime.engine is not None and runtime.container is not None:
        from harness.adapters.docker_peers import peers

        try:
            found |= peers(runtime.engine, runtime.container, port=port) or frozenset()
        except AdapterError:
            pass  # the other ways may show it
    if sys.platform.startswith("linux"):
        found |= {own for own, remote in sockets.in_network(os.getpid()) if remote == address}
    return frozenset(found - ours)


def _holders(ends: frozenset[Address]) -> tuple[str, ...]:
    from harness.adapters import sockets

    if not ends:
        return ()
    return tuple(sorted({who for who in sockets.holders(ends).values() if who is not None})[:3])
