"""Who uses a dependency that cannot be asked: established connections, as the kernel of this machine shows them.

    the proxy's process    its own connections, where Toxiproxy runs here and this user may look at it
    the proxy's container  the connections in the network of its container, where that is declared and runs here
    this machine           whoever here is connected to the address that the application uses

Those of the harness itself do not count. Where it is known which processes are the target's (target_processes.py), only
theirs do: anybody may be connected to a proxy, a person with a client of their own. Where it is not known, whoever is
seen counts, and is named. That nobody is seen is no proof that nobody is there: the application may run on another
machine, or open a connection for a moment only.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Iterable, Sequence

import msgspec

from harness.dependencies.registry import kind_of
from harness.model.clock import monotonic
from harness.model.errors import AdapterError
from harness.model.records.faults import Address, Dependency, Evidence
from harness.model.records.stack import TargetInfo

LOOK_S = 3.0
BETWEEN_S = 0.1


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """at: CLOCK_MONOTONIC seconds. ends: the other ends of connections. where: at which address they were looked for.

    holders: whose they are, where that can be told, else from where. family: the target's first process, "" where its
    processes are not known; where they are, ends are theirs alone, and others says who else was seen.
    """

    at: float
    where: str
    ends: frozenset[Address] = frozenset()
    holders: tuple[str, ...] = ()
    family: str = ""
    others: tuple[str, ...] = ()


def look(
    dependency: Dependency,
    target: TargetInfo | None = None,
    dependencies: Sequence[Dependency] = (),
    *,
    limit_s: float = LOOK_S,
) -> Outside:
    """Look until somebody who counts is seen, for limit_s at most: some applications connect for a moment only.

    dependencies: all that are declared, the target as one of them.
    """
    address = dependency.path or dependency.direct
    until = monotonic() + limit_s
    while True:
        seen = Outside(at=monotonic(), where=str(address))
        if address is not None:
            ports = {one.port for one in (address, dependency.direct) if one is not None} | {dependency.proxy.port}
            seen = _seen(seen, _ends(dependency, address), ports, target, dependencies)
        if seen.ends or monotonic() > until:
            return seen
        time.sleep(BETWEEN_S)


def _seen(
    look: Outside,
    ends: frozenset[Address],
    ports: Collection[int | None],
    target: TargetInfo | None,
    dependencies: Sequence[Dependency],
) -> Outside:
    """ports: where those ends may be connected to. One end alone is nobody's: the kernel gives the same port of a
    machine to connections that lead elsewhere."""
    from harness.adapters.processes import sockets
    from harness.conductor.path_proof.target_processes import family

    if not ends:
        return look
    try:
        held = sockets.held()
    except AdapterError:
        held = ()
    owners = {one.own: one.pid for one in held if one.remote and one.remote.port in ports and one.own in ends}
    itself = family(target, dependencies, held) if target is not None and held else None
    if itself is None:
        return msgspec.structs.replace(look, ends=ends, holders=_named(ends, owners))
    own = frozenset(end for end in ends if owners.get(end) in itself.pids)
    return msgspec.structs.replace(
        look, ends=own, holders=_named(own, owners), family=itself.shown, others=_named(ends - own, owners)
    )


def evidence_of(seen: Outside, dependency: Dependency) -> Evidence:
    """What was seen, as a path proof."""
    count = len(seen.ends)
    connections = f"{count} established connection{'' if count == 1 else 's'}"
    whose = ", ".join(seen.holders) or "whose cannot be told"
    if seen.family:
        expected, observed = "the target", f"{connections} of the target ({whose})"
    else:
        expected = "somebody besides the harness"
        observed = f"{connections} ({whose}): that is who was seen, the target's own processes are not known"
    return Evidence(
        source="path",
        expected=f"{expected} is connected to {dependency.name} at {seen.where}",
        observed=f"{observed}; seen from outside, because {kind_of(dependency).why_not_asked(dependency)}: whether they"
        " are in use cannot be told",
        held=count > 0,
        at=seen.at,
    )


def past(dependency: Dependency, target: TargetInfo | None, dependencies: Sequence[Dependency]) -> str:
    """Connections of the target's processes to the server itself, past its proxy, for people; "" where there are none
    or it cannot be told."""
    from harness.adapters.processes import sockets
    from harness.conductor.path_proof.target_processes import family

    if target is None or not (dependency.proxied or dependency.front) or dependency.direct in (None, dependency.path):
        return ""
    try:
        held = sockets.held()
    except AdapterError:
        return ""
    itself = family(target, dependencies, held)
    own = {one.own: one.pid for one in held if one.remote == dependency.direct}
    ends = [end for end, pid in own.items() if itself is not None and pid in itself.pids]
    many = f"{len(ends)} connection{'' if len(ends) == 1 else 's'}"
    return f"{many} to {dependency.direct} ({', '.join(_named(ends, own))})" if ends else ""


def reaches_past(seen: Outside, dependency: Dependency) -> str:
    """What is wrong where there are such connections: a clause."""
    led = "the proxy" if dependency.proxied else "its front"
    return f"the target reaches {dependency.name} past {led}{' as well' if seen.ends else ''}"


def missing_of(seen: Outside, dependency: Dependency) -> str:
    """Why there is no path proof and what would give one: a clause."""
    return f"{nobody_seen(seen, dependency)}; to prove it: {ways_to_prove(seen, dependency)}"


def ways_to_prove(seen: Outside, dependency: Dependency) -> str:
    """Imperative clauses."""
    kind = kind_of(dependency)
    here = "run the harness where the application's connections to the proxy can be seen"
    if seen.family:
        here = "declare pid_file in [target], where another process is the application's first"
    ways = [
        *([kind.how_to_ask] if kind.how_to_ask else []),
        here,
        'or, if you know it, write path = "assumed" for it in harness.toml',
    ]
    return ", ".join(ways)


def nobody_seen(seen: Outside, dependency: Dependency) -> str:
    """Why there is no path proof: a clause."""
    nobody = "nobody besides the harness was seen"
    if seen.others:
        nobody = f"no process of the target ({seen.family} and those below it) was seen, only {', '.join(seen.others)},"
    elif seen.family:
        nobody = f"no process of the target ({seen.family} and those below it) was seen"
    return f"{kind_of(dependency).why_not_asked(dependency)}, and {nobody} connected to {seen.where}"


def _ends(dependency: Dependency, address: Address) -> frozenset[Address]:
    from harness.adapters.processes import sockets

    found: set[Address] = set()
    pid, port = dependency.proxy.pid, dependency.proxy.port or address.port
    if not dependency.proxied:
        pid, port = dependency.process.pid, (dependency.direct or address).port
    try:
        every = sockets.connections(*([pid] if pid is not None else []), os.getpid())
    except AdapterError:
        every = sockets.connections(os.getpid())
    ours = {own for own, _ in every[os.getpid()]}
    if pid is not None and pid in every:
        found |= {peer for own, peer in every[pid] if own.port == port}
    runtime = dependency.proxy.runtime
    if dependency.proxied and runtime is not None and runtime.engine is not None and runtime.container is not None:
        from harness.adapters.docker.peers import peers

        try:
            found |= peers(runtime.engine, runtime.container, port=port) or frozenset()
        except AdapterError:
            pass  # the other ways may show it
    if sys.platform.startswith("linux"):
        found |= {own for own, remote in sockets.in_network(os.getpid()) if remote == address}
    return frozenset(found - ours)


def _named(ends: Iterable[Address], owners: dict[Address, int | None]) -> tuple[str, ...]:
    """Three at most: who has them open, else from where they come."""
    from harness.adapters.processes import sockets

    return tuple(sorted({sockets.called(owners.get(end)) or f"from {end.host}" for end in ends})[:3])
