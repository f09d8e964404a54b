"""One exchange of many bytes on one fresh connection: what shows a limit of bandwidth, slices, or a limit of data.

    redis      ECHO: as many bytes to the server as back; leaves no key
    postgres   a login, then a text of that length: made by the server for `down`, sent to it for `up`, both for `both`
    kafka      Metadata about topics with long names that do not exist, each of which the answer names again. Creating
               them is forbidden in the request (allow_auto_topic_creation), so nothing comes of it.

Other dependencies have no harmless exchange whose size we could choose.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Literal

import msgspec

from harness.adapters.probing.probe import ProbeResult, observed, resp, secret
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.model.errors import UsageError
from harness.model.records.faults import Address, Dependency, DependencyKind

Direction = Literal["down", "up", "both"]

KINDS: frozenset[DependencyKind] = frozenset({"redis", "postgres", "kafka"})
"""Dependencies that can be asked to move an amount of bytes."""
MOST_BYTES = 2_000_000
"""More than this is never moved for a proof."""

_METADATA, _NAME_BYTES = 3, 249


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How it went. received: bytes that came back before it ended; None where the client library hides that."""

    result: ProbeResult
    received: int | None


class Mover:
    """Moves bytes through the application's path, each time on a fresh connection.

    direction: which way they must go; the other way they may. Raises UsageError when the dependency has no address
    or its password is missing, or when its kind is not one of KINDS.
    """

    def __init__(self, dependency: Dependency, direction: Direction) -> None:
        address = dependency.path or dependency.direct
        if address is None or dependency.kind not in KINDS:
            raise UsageError(f"{dependency.name} cannot be asked to move data")
        login, variable = dependency.login, dependency.password_env
        if dependency.probe_login is not None:
            login, variable = dependency.probe_login, dependency.probe_password_env
        password = secret(variable)
        self._exchange: Callable[[int, _Count, float], str]
        if dependency.kind == "redis":
            self._exchange = partial(_echo, address, password)
        elif dependency.kind == "kafka":
            self._exchange = partial(_metadata, address)
        else:
            self._exchange = partial(_text, address, login or "user=postgres", password, direction)

    def __call__(self, size: int, timeout_s: float) -> Moved:
        """Move at least `size` bytes; timeout_s bounds all of it. Never raises for what the network does."""
        if not 0 < size <= MOST_BYTES:
            raise ValueError(f"{size} bytes are not moved for a proof")
        count = _Count()
        result = observed(partial(self._exchange, size, count), timeout_s)
        return Moved(result=result, received=count.received)


class _Count:
    received: int | None = None


def _echo(address: Address, password: str | None, size: int, count: _Count, deadline: float) -> str:
    # Named, so that nobody takes the probe for a client of the application.
    login = [["CLIENT", "SETNAME", "harness-probe"]]
    if password is not None:
        login.insert(0, ["AUTH", password])
    with Exchange(address, deadline=deadline) as exchange:
        count.received = 0
        try:
            exchange.send(b"".join(map(resp, login)))
            answers = [exchange.line() for _ in login]
            if not answers[-1].startswith((b"+OK", b"-ERR", b"-NOPERM")):
                raise ProbeError("auth", answers[-1][:100].decode("utf-8", "replace"), connected=True)
            exchange.send(resp(["ECHO", "x" * size]))
            if exchange.line() != b"$%d" % size:
                raise ProbeError("protocol", "ECHO was not answered with what was sent", connected=True)
            exchange.exactly(size + 2)
        finally:
            count.received = exchange.received
    return f"ECHO of {size} bytes answered"


def _text(
    address: Address, login: str, password: str | None, direction: Direction, size: int, count: _Count, deadline: float
) -> str:
    from harness.adapters.clients.postgres_login import Login

    text = b"'" + b"x" * size + b"'"
    statement = {
        "down": b"SELECT repeat('x', %d)" % size,
        "up": b"SELECT length(" + text + b")",
        "both": b"SELECT " + text,
    }[direction]
    with Login(login, address, password=password, deadline=deadline) as session:
        came = session.select(statement)
    if direction != "up" and came != size:
        raise ProbeError("protocol", f"{came} bytes came instead of {size}", connected=True)
    return f"login and a text of {size} bytes"


def _metadata(address: Address, size: int, count: _Count, deadline: float) -> str:
    names = [b"harness-probe-%06d-" % number for number in range(-(-size // _NAME_BYTES))]
    request = struct.pack(">i", len(names))
    request += b"".join(struct.pack(">h", _NAME_BYTES) + name.ljust(_NAME_BYTES, b"x") for name in names)
    request += b"\0"  # allow_auto_topic_creation: no
    header = struct.pack(">hhih", _METADATA, 4, 1, 13) + b"harness-probe"
    with Exchange(address, deadline=deadline) as exchange:
        count.received = 0
        try:
            exchange.send(struct.pack(">i", len(header) + len(request)) + header + request)
            length, echoed = struct.unpack(">ii", exchange.exactly(8))
            if echoed != 1 or length < size:
                raise ProbeError("protocol", "Metadata was not answered with every name asked for", connected=True)
            exchange.exactly(length - 4)
        finally:
            count.received = exchange.received
    return f"Metadata of {len(names)} names ({size} bytes) answered"
