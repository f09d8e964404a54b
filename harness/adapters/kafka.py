"""Kafka's wire protocol, as much as probes need: ApiVersions and Metadata, by hand on a raw socket.

One exchange on one fresh connection is the point: a client library would retry, follow other brokers and keep
connections, and the probe's time would be the library's. Message formats: Kafka protocol guide, request header v1.
"""

from __future__ import annotations

import struct

from harness.adapters.tcp import Exchange, ProbeError
from harness.model.faults import Address

_CLIENT = b"harness-probe"
_API_VERSIONS, _METADATA = 18, 3


def api_versions(address: Address, *, deadline: float) -> str:
    """One ApiVersions v0 exchange; says how many APIs the broker offers. Raises ProbeError."""
    body = _exchange(address, _API_VERSIONS, 0, b"", deadline)
    code, count = struct.unpack_from(">hi", body)
    if code != 0 or not 0 < count < 1000:
        raise ProbeError("protocol", f"ApiVersions answered error {code}", connected=True)
    return f"ApiVersions: {count} APIs"


def metadata(address: Address, *, deadline: float) -> tuple[Address, ...]:
    """One Metadata v1 exchange without topics: the brokers as they advertise themselves. Raises ProbeError."""
    body = _exchange(address, _METADATA, 1, struct.pack(">i", 0), deadline)
    (count,) = struct.unpack_from(">i", body)
    brokers: list[Address] = []
    at = 4
    try:
        for _ in range(count):
            at += 4  # node id
            host, at = _string(body, at)
            (port,) = struct.unpack_from(">i", body, at)
            _, at = _string(body, at + 4)  # rack
            brokers.append(Address(host or "", port))
    except (struct.error, UnicodeDecodeError) as error:
        raise ProbeError("protocol", "Metadata was answered with something else", connected=True) from error
    if not brokers:
        raise ProbeError("protocol", "Metadata names no broker", connected=True)
    return tuple(brokers)


def _exchange(address: Address, api: int, version: int, payload: bytes, deadline: float) -> bytes:
    correlation = 0x48524E53
    request = struct.pack(">hhih", api, version, correlation, len(_CLIENT)) + _CLIENT + payload
    with Exchange(address, deadline=deadline) as exchange:
        exchange.send(struct.pack(">i", len(request)) + request)
        size, echoed = struct.unpack(">ii", exchange.exactly(8))
        if echoed != correlation or not 4 <= size <= 1 << 20:
            raise ProbeError("protocol", "the answer is not Kafka's", connected=True)
        return exchange.exactly(size - 4).ljust(6, b"\0")


def _string(body: bytes, at: int) -> tuple[str | None, int]:
    (size,) = struct.unpack_from(">h", body, at)
    at += 2
    if size < 0:
        return None, at
    if at + size > len(body):
        raise struct.error("string is longer than the answer")
    return body[at : at + size].decode(), at + size
