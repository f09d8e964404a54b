"""Path proof: the application really reaches the dependency through the proxy that carries the fault.

Two looks (clients.py), early in baseline and just before the first injection. Clients must have come through the proxy,
nobody past it, and between the two looks the dependency's own counters for those clients must have risen. Without this
a fault on an idle proxy would give a PASS that says nothing.

While a fault on the proxy lasts the look is repeated: a connection past the proxy that is opened or used only then
means that the fault no longer bites. A connection that lives for less than a tenth of a second can escape the looks.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.conductor.path_proof.clients import PathSnapshot
from harness.conductor.path_proof.clients import snapshot as snapshot
from harness.dependencies.kind import PathClient
from harness.dependencies.registry import kind_of
from harness.model.records.faults import Dependency, Evidence


def path_evidence(
    before: PathSnapshot, after: PathSnapshot, dependency: Dependency, *, on_proxy: bool = True
) -> Evidence | None:
    """Judge two looks. None where the dependency has no way to tell, so that nothing is claimed or demanded.

    on_proxy: the fault lies on the proxy, so that whatever goes past it is not hurt. A fault on the dependency itself
    (its process, its role) hurts every client, so there any use counts.
    """
    if not after.can_tell or (kind_of(dependency).clients_by_peers and not before.can_tell):
        return None
    # Of whom the first look was told nothing, they came after it, as far as anybody can tell.
    if not on_proxy:
        return _use_evidence(before, after, dependency)
    through = [client for client in after.clients if client.on_proxy]
    beside = [client for client in after.clients if client.on_proxy is False]
    busy = _used(before, through)
    strays = strays_of(before, after, dependency)
    rose = bool(busy)
    if kind_of(dependency).clients_by_peers:
        # Every established connection counts as used; what rises is the server's own count.
        rose = bool(through) and (after.total or 0) > (before.total or 0)
    unknown = [client for client in after.clients if client.on_proxy is None]
    parts = [f"{_connections(len(through))} through the proxy"] if through or not unknown else []
    if through:
        parts[0] += _use(dependency, before, after, busy)
    if strays:
        parts.append(f"{len(strays)} in use beside it ({', '.join(map(str, strays[:3]))})")
    elif beside:
        parts.append(f"{len(beside)} idle beside it")
    if unknown:
        hosts = ", ".join(sorted({client.address.host for client in unknown})[:3])
        parts.append(f"of {_connections(len(unknown))} from {hosts} it cannot be told whether they pass it (seen_as)")
    parts += _left_out(after)
    return Evidence(
        source="path",
        expected=f"the application uses {dependency.name} through the proxy, and only through it",
        observed="; ".join(parts),
        held=rose and not strays and not unknown,
        at=after.at,
    )


def _use_evidence(before: PathSnapshot, after: PathSnapshot, dependency: Dependency) -> Evidence:
    busy = _used(before, after.clients)
    rose = bool(busy)
    if kind_of(dependency).clients_by_peers:
        rose = bool(after.clients) and (after.total or 0) > (before.total or 0)
    observed = _connections(len(after.clients))
    if after.clients:
        observed += _use(dependency, before, after, busy)
    observed = "; ".join([observed, *_left_out(after)])
    return Evidence(
        source="path", expected=f"the application uses {dependency.name}", observed=observed, held=rose, at=after.at
    )


def passed_evidence(before: PathSnapshot | None, after: PathSnapshot, dependency: Dependency) -> Evidence:
    """Of two looks at what an Envoy in front has counted: requests that were not ours."""
    first = before.total if before is not None else None
    known = first is not None and after.total is not None
    came = (after.total or 0) - (first or 0)
    observed = f"{max(came, 0):.0f} {kind_of(dependency).total_unit}"
    if before is not None:
        observed += f" in {after.at - before.at:.1f} s"
    return Evidence(
        source="path",
        expected=f"the application uses {dependency.name} through its front",
        observed=observed if known else "what the front has counted is not known",
        held=known and came > 0,
        at=after.at,
    )


def unpassed(dependency: Dependency) -> str:
    """What is wrong where nothing of the application passes the front: a clause."""
    return f"the target does not use {dependency.name} through its front"


def bypass_evidence(before: PathSnapshot, after: PathSnapshot, dependency: Dependency) -> Evidence | None:
    """While a fault on the proxy lasts: does anybody use the dependency past it? None where nobody can tell."""
    if not (before.can_tell and after.can_tell) or any(client.on_proxy is None for client in after.clients):
        return None
    strays = strays_of(before, after, dependency)
    observed = f"{len(strays)} in use past it ({', '.join(map(str, strays[:3]))})" if strays else "no other is in use"
    observed = "; ".join([observed, *_left_out(after)])
    return Evidence(
        source="path",
        expected=f"no connection to {dependency.name} but those through the proxy",
        observed=observed,
        held=not strays,
        at=after.at,
    )


def trouble_of(before: PathSnapshot, after: PathSnapshot, dependency: Dependency, *, on_proxy: bool = True) -> str:
    """Of looks that prove nothing: what is wrong with the path, a clause. A fault there would show nothing."""
    name = dependency.name
    how = f"does not use {name}"
    if on_proxy and strays_of(before, after, dependency):
        partly = any(client.on_proxy for client in after.clients)
        how = f"reaches {name} past the proxy{' as well' if partly else ''}"
    elif on_proxy and any(client.on_proxy is None for client in after.clients):
        return f"it cannot be told whether the target uses {name} through the proxy"
    elif on_proxy:
        how = f"does not use {name} through the proxy"
    return f"the target {how}"


def _connections(count: int) -> str:
    return f"{count} connection{'' if count == 1 else 's'}"


def _left_out(look: PathSnapshot) -> list[str]:
    """What is not counted is told beside what is."""
    said = (
        [f"{look.left_out} client{'s' if look.left_out > 1 else ''} left out by harness.toml"] if look.left_out else []
    )
    return [*said, look.unseen] if look.unseen else said


def strays_of(before: PathSnapshot, after: PathSnapshot, dependency: Dependency) -> list[PathClient]:
    """Who used the dependency past the proxy between two looks."""
    beside = [client for client in after.clients if client.on_proxy is False]
    return beside if kind_of(dependency).clients_by_peers else _used(before, beside)


def _used(before: PathSnapshot, clients: Iterable[PathClient]) -> list[PathClient]:
    past = {client.id: client for client in before.clients}
    return [client for client in clients if _rose(past.get(client.id), client)]


def _use(dependency: Dependency, before: PathSnapshot, after: PathSnapshot, busy: list[PathClient]) -> str:
    seconds = f"in {after.at - before.at:.1f} s"
    kind = kind_of(dependency)
    if kind.clients_by_peers:
        return f", {max(0.0, (after.total or 0) - (before.total or 0)):.0f} {kind.total_unit} {seconds}"
    if not busy:
        return f", none of them used {seconds}"
    if kind.work_unit is not None and not busy[0].slack:
        past = {client.id: client.work or 0 for client in before.clients}
        work = sum((client.work or 0) - past.get(client.id, 0) for client in busy)
        return f", {work:.0f} {kind.work_unit if work != 1 else kind.work_unit.removesuffix('s')} {seconds}"
    return f", {len(busy)} of them used {seconds}"


def _rose(before: PathClient | None, after: PathClient) -> bool:
    """Was it used between the looks? A new connection was: somebody made it."""
    if before is None:
        return True
    return after.work is not None and before.work is not None and after.work > before.work + after.slack
