"""Whether two addresses lead to one server. A proxy that leads to another server than the one that is asked for proof
would make every proof worthless."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import msgspec

from harness.dependencies.kind import Note
from harness.model.errors import AdapterError, UsageError
from harness.model.records.faults import Address, Dependency


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says about itself. identity: differs between any two servers; None where it does not tell.

    version: "9.0.1" or None. mode: of Redis (standalone, cluster, sentinel). pooled: of PostgreSQL: a pooler stands
    between. lacks: rights that its login has not, as an ACL names them. volatile: what it holds may be lost with its
    process. seen: the host from which it saw the connection come that asked; None where it does not tell.
    """

    identity: str | None = None
    version: str | None = None
    user: str | None = None
    mode: str | None = None
    pooled: bool = False
    lacks: tuple[str, ...] = ()
    volatile: bool = False
    seen: str | None = None


def same_server(dependency: Dependency, where: str, ask: Callable[[Address], Server], note: Note) -> Server:
    """Asks directly and through the proxy. Raises UsageError for no answer, for two different servers, and for a proxy
    that is seen to come from elsewhere than was declared."""
    assert dependency.direct is not None
    direct = _asked(dependency, where, dependency.direct, ask, "directly")
    if dependency.path is None or dependency.path == dependency.direct:
        return direct
    through = _asked(dependency, where, dependency.path, ask, f"through its proxy {dependency.proxy.name}")
    if direct.identity is not None and through.identity is None:
        raise UsageError(
            f"{where}: what answers at {dependency.path}, where the application connects, does not say which server it"
            f" is, and direct {dependency.direct} does",
            hint=f"compare the upstream of proxy {dependency.proxy.name} with {where}.direct",
        )
    if direct.identity is not None and direct.identity != through.identity:
        raise UsageError(
            f"{where}: {dependency.path}, where the application connects, and direct {dependency.direct} are two"
            " different servers",
            hint=f"compare the upstream of proxy {dependency.proxy.name} with {where}.direct",
        )
    _look_where_seen(dependency, direct, through, note)
    return direct


def _look_where_seen(dependency: Dependency, direct: Server, through: Server, note: Note) -> None:
    """Our own connection through a proxy elsewhere shows from where the server sees it come."""
    proxy = dependency.proxy
    elsewhere = proxy.pid is None and (proxy.runtime is None or proxy.runtime.engine is None)
    if not elsewhere or through.seen is None or through.seen in proxy.seen_as:
        return
    if proxy.seen_as:
        raise UsageError(
            f"toxiproxy.seen_as: {dependency.name} sees what goes through proxy {proxy.name} come from {through.seen},"
            f" not from {', '.join(proxy.seen_as)}",
            hint=f'seen_as = ["{through.seen}"]: as the dependencies see Toxiproxy, not as the application does',
        )
    # Where what goes past the proxy has the same address nobody can be told by it.
    if through.seen != direct.seen and through.seen not in _addresses(urlsplit(proxy.url or "").hostname):
        note(
            f"{dependency.name}: it sees what goes through its proxy come from {through.seen}; where nobody else has"
            f' that address, seen_as = ["{through.seen}"] in [toxiproxy] lets the path be proven'
        )


def _asked(dependency: Dependency, where: str, address: Address, ask: Callable[[Address], Server], how: str) -> Server:
    try:
        return ask(address)
    except AdapterError as error:
        raise UsageError(
            f"{where}: {dependency.name} does not answer {how} at {address}: {error}",
            hint="start it, or correct the address or the login",
        ) from error


def _addresses(host: str | None) -> set[str]:
    """A Toxiproxy on another host is taken to have the address of its URL, unless something else is declared."""
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(host, None)} if host is not None else set()
    except OSError:
        return set()
