"""Whether two addresses lead to one server. A proxy that leads to another server than the one that is asked for proof
would make every proof worthless."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from harness.model.errors import AdapterError, UsageError
from harness.model.records.faults import Address, Dependency


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says about itself. identity: differs between any two servers; None where it does not tell.

    version: "9.0.1" or None. mode: of Redis (standalone, cluster, sentinel). pooled: of PostgreSQL: a pooler stands
    between. lacks: rights that its login has not, as an ACL names them. volatile: what it holds may be lost with its
    process.
    """

    identity: str | None = None
    version: str | None = None
    user: str | None = None
    mode: str | None = None
    pooled: bool = False
    lacks: tuple[str, ...] = ()
    volatile: bool = False


def same_server(dependency: Dependency, where: str, ask: Callable[[Address], Server]) -> Server:
    """Asks directly and through the proxy. Raises UsageError for no answer, and for two different servers."""
    assert dependency.direct is not None
    direct = _asked(dependency, where, dependency.direct, ask, "directly")
    if dependency.path is None or dependency.path == dependency.direct:
        return direct
    through = _asked(dependency, where, dependency.path, ask, f"through its proxy {dependency.proxy.name}")
    if direct.identity is not None and through.identity is not None and direct.identity != through.identity:
        raise UsageError(
            f"{where}: {dependency.path}, where the application connects, and direct {dependency.direct} are two"
            " different servers",
            hint=f"compare the upstream of proxy {dependency.proxy.name} with {where}.direct",
        )
    return direct


def _asked(dependency: Dependency, where: str, address: Address, ask: Callable[[Address], Server], how: str) -> Server:
    try:
        return ask(address)
    except AdapterError as error:
        raise UsageError(
            f"{where}: {dependency.name} does not answer {how} at {address}: {error}",
            hint="start it, or correct the address or the login",
        ) from error
