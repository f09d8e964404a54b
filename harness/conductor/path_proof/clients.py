"""Who is connected to a dependency, and did he come through the proxy?

The dependency's own list of clients is held against the proxy's sockets: a client whose end belongs to the proxy came
through it, any other came past it. What that list is each kind says
(`DependencyKind.clients`).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import time
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from harness.dependencies.kind import PathClient
from harness.dependencies.registry import kind_of
from harness.model.clock import monotonic
from harness.model.errors import Forbidden, Gone
from harness.model.records.faults import Address, Dependency

_LOOKS = 3
_BETWEEN_LOOKS_S = 0.1


class PathSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """at: CLOCK_MONOTONIC seconds. clients: seen during the look. total: a counter of the dependency as a whole.

    can_tell: False where this dependency has no way to tell who is connected. left_out: how many clients are not
    counted because harness.toml says that they are not the application. unseen: clients of whom nothing can be told.
    """

    at: float
    clients: tuple[PathClient, ...] = ()
    total: float | None = None
    can_tell: bool = True
    left_out: int = 0
    unseen: str = ""


def snapshot(dependency: Dependency, *, exclude: Collection[str] = (), target: Collection[int] = ()) -> PathSnapshot:
    """Look at who is connected, three times within a quarter of a second, because some clients come and go.

    exclude: clients that are not the application's (an exporter), beside the dependency's own `ignore_clients`: names,
    addresses or networks. target: the target's processes, where they are known. Raises AdapterError, UsageError.
    """
    kind = kind_of(dependency)
    ignored = (*exclude, *dependency.ignore_clients)
    if not _can_tell(dependency):
        total = kind.total(dependency) if dependency.front is not None else None
        return PathSnapshot(at=monotonic(), can_tell=False, total=total)
    kernel = _kernel(dependency)
    ends = kernel.proxy
    seen: dict[str, PathClient] = {}
    looks: Counter[str] = Counter()
    left_out: set[str] = set()
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_LOOKS_S)
        try:
            found = kind.clients(dependency, kernel.peers, target)
        except Forbidden:
            return PathSnapshot(at=monotonic(), can_tell=False)
        for client in found:
            if ignored and is_ignored(client, ignored):
                left_out.add(client.id)
                continue
            looks[client.id] += 1
            seen[client.id] = client
        # Added up over the looks: the two lists are never taken at quite the same instant, and connections close.
        kernel = _kernel(dependency)
        ends = None if ends is None or kernel.proxy is None else ends | kernel.proxy
    clients = [
        msgspec.structs.replace(client, on_proxy=_through(client.address, ends, dependency)) for client in seen.values()
    ]
    # For the same reason one that was seen only once is not said to be beside the proxy.
    certain = [client for client in clients if client.on_proxy is not False or looks[client.id] > 1]
    return PathSnapshot(
        at=monotonic(),
        clients=_without_dead(certain, dependency.direct.port if dependency.direct is not None else None),
        total=kind.total(dependency),
        left_out=len(left_out),
        unseen="clients at its published port cannot be told" if _by_container(dependency) else "",
    )


def is_ignored(client: PathClient, ignored: Collection[str]) -> bool:
    """Whether a client is among these names, addresses and networks."""
    if client.label and client.label in ignored:
        return True
    try:
        address = ipaddress.ip_address(client.address.host.partition("%")[0])
    except ValueError:
        return False  # a Unix socket has none
    mapped = getattr(address, "ipv4_mapped", None) or address
    for text in ignored:
        try:
            network = ipaddress.ip_network(text.strip("[]"), strict=False)
        except ValueError:
            continue  # a name
        if mapped in network:
            return True
    return False


def _without_dead(clients: list[PathClient], port: int | None) -> tuple[PathClient, ...]:
    """Say whose the connections beside the proxy are, and leave out those that have no other end any more.

    A server goes on listing a client that has left until it looks at the connection again: a session of PostgreSQL
    ends its query first. When a proxy is cut that would be taken for a client beside it.
    """
    from harness.adapters.processes import sockets

    beside = {client.address for client in clients if client.on_proxy is False}
    if not beside:
        return tuple(clients)
    holders = sockets.holders(beside, port)
    return tuple(
        msgspec.structs.replace(client, holder=holders.get(client.address))
        for client in clients
        if client.address not in beside or client.address in holders or not _loopback(client.address)
    )


def _loopback(address: Address) -> bool:
    return address.host.startswith("127.") or address.host == "::1"


def _can_tell(dependency: Dependency) -> bool:
    kind = kind_of(dependency)
    if not kind.tells_clients(dependency):
        return False
    return not kind.clients_by_peers or dependency.process.pid is not None or _in_container(dependency)


def _by_container(dependency: Dependency) -> bool:
    """Its clients are told by its container's network."""
    here = dependency.container.engine is not None and dependency.container.id is not None
    return here and kind_of(dependency).clients_by_peers and dependency.process.pid is None


def _in_container(dependency: Dependency) -> bool:
    """Its container's own network shows who comes from the proxy's container. Clients on this machine all come from
    the engine's gateway, so a proxy that runs here cannot be told from anybody else."""
    from harness.adapters.docker.peers import peers

    if dependency.container.engine is None or dependency.container.id is None or not dependency.proxy.seen_as:
        return False
    return dependency.proxy.pid is None and peers(dependency.container.engine, dependency.container.id) is not None


class _Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """One reading of the kernel's table. proxy: the proxy's own ends, None when its process is not known.

    peers: who is connected to the dependency's process or container (where that is how its clients are known).
    """

    proxy: frozenset[Address] | None = None
    peers: frozenset[Address] = frozenset()


def _kernel(dependency: Dependency) -> _Kernel:
    from harness.adapters.processes import sockets

    server = dependency.process.pid if kind_of(dependency).clients_by_peers else None
    pids = [pid for pid in (dependency.proxy.pid, server) if pid is not None]
    found = sockets.connections(*pids, os.getpid()) if pids else {}
    proxy = None
    if dependency.proxy.pid is not None:
        proxy = frozenset(own for own, _ in found[dependency.proxy.pid])
    peers: frozenset[Address] = frozenset()
    if server is not None:
        peers = frozenset(peer for _, peer in found[server])
        # A connection both of whose ends are the server's, or its cluster's, is its own (a controller, replication);
        # ours do not count.
        peers -= {own for own, _ in found[server] | found[os.getpid()]}
        for member in dependency.process.members:
            with suppress(Gone):  # another fault's victim
                peers -= {own for own, _ in sockets.connections(member)[member]}
    elif _by_container(dependency):
        from harness.adapters.docker import peers as docker_peers

        assert dependency.container.engine is not None and dependency.container.id is not None
        peers = docker_peers.peers(dependency.container.engine, dependency.container.id) or frozenset()
    return _Kernel(proxy=proxy, peers=peers)


def _through(address: Address, ends: frozenset[Address] | None, dependency: Dependency) -> bool | None:
    if ends is not None:
        return address in ends
    # A proxy in a container or on another host has an address of its own; on loopback everybody has the same.
    if _loopback(address) or not address.host:
        return None
    if dependency.proxy.seen_as:
        return address.host in dependency.proxy.seen_as
    host = urlsplit(dependency.proxy.url or "").hostname
    try:
        proxy = {str(info[4][0]) for info in socket.getaddrinfo(host, None)} if host is not None else set()
    except OSError:
        return None
    # One that is reached on loopback and still has no process here is in a container: its address is not known.
    away = {one for one in proxy if not _loopback(Address(one, 0))}
    return address.host in away if away else None
