"""Kafka's wire protocol, as much as probes and proofs need, by hand on a raw socket.

One exchange on one fresh connection is the point: a client library would retry, follow other brokers and keep
connections, and the probe's time would be the library's. Message formats: Kafka protocol guide, request header v1,
in the oldest versions that Kafka 4 still answers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

import msgspec

from harness.adapters.tcp import Exchange, ProbeError
from harness.model.faults import Address

T = TypeVar("T")

_CLIENT = b"harness-probe"
_LIST_OFFSETS, _METADATA, _API_VERSIONS = 2, 3, 18
_LATEST = -1


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """brokers: as they advertise themselves. topics: name -> partition ids."""

    brokers: tuple[Address, ...]
    topics: dict[str, tuple[int, ...]]


def api_versions(address: Address, *, deadline: float) -> str:
    """One ApiVersions v0 exchange; says how many APIs the broker offers. Raises ProbeError."""
    reader = _exchange(address, _API_VERSIONS, 0, b"", deadline)
    code, count = reader.number("h"), reader.number("i")
    if code != 0 or not 0 < count < 1000:
        raise ProbeError("protocol", f"ApiVersions answered error {code}", connected=True)
    return f"ApiVersions answered, {count} APIs,"


def cluster(address: Address, *, deadline: float) -> Cluster:
    """One Metadata v1 exchange for all topics. Raises ProbeError."""
    reader = _exchange(address, _METADATA, 1, struct.pack(">i", -1), deadline)

    def broker() -> Address:
        reader.number("i")
        host, port = reader.string(), reader.number("i")
        reader.string()  # rack
        return Address(host, port)

    def partition() -> int:
        reader.number("h")
        number = reader.number("i")
        reader.number("i")  # leader
        reader.array(lambda: reader.number("i"))  # replicas
        reader.array(lambda: reader.number("i"))  # in sync
        return number

    def topic() -> tuple[str, tuple[int, ...]]:
        reader.number("h")
        name = reader.string()
        reader.number("b")  # internal
        return name, tuple(reader.array(partition))

    brokers = tuple(reader.array(broker))
    reader.number("i")  # controller
    topics = dict(reader.array(topic))
    if not brokers:
        raise ProbeError("protocol", "Metadata names no broker", connected=True)
    return Cluster(brokers=brokers, topics=topics)


def records_written(address: Address, *, deadline: float) -> int:
    """The end offsets of all partitions, added up: rises with every record and every committed offset.

    Partitions that this broker does not lead are left out. Raises ProbeError.
    """
    topics = cluster(address, deadline=deadline).topics
    payload = struct.pack(">ii", -1, len(topics))
    for name, partitions in topics.items():
        payload += struct.pack(">h", len(name.encode())) + name.encode() + struct.pack(">i", len(partitions))
        payload += b"".join(struct.pack(">iq", partition, _LATEST) for partition in partitions)
    reader = _exchange(address, _LIST_OFFSETS, 1, payload, deadline)

    def end() -> int:
        reader.number("i")
        code = reader.number("h")
        reader.number("q")  # timestamp
        offset = reader.number("q")
        return offset if code == 0 else 0

    def topic() -> int:
        reader.string()
        return sum(reader.array(end))

    return sum(reader.array(topic))


class _Reader:
    """Reads a response from front to back. Raises ProbeError when it ends too soon."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def number(self, form: str) -> int:
        try:
            (value,) = struct.unpack_from(">" + form, self._body, self._at)
        except struct.error as error:
            raise ProbeError("protocol", "the answer is not Kafka's", connected=True) from error
        self._at += struct.calcsize(">" + form)
        return int(value)

    def string(self) -> str:
        size = max(0, self.number("h"))
        data = self._body[self._at : self._at + size]
        self._at += size
        return data.decode("utf-8", "replace")

    def array(self, element: Callable[[], T]) -> list[T]:
        return [element() for _ in range(max(0, self.number("i")))]


def _exchange(address: Address, api: int, version: int, payload: bytes, deadline: float) -> _Reader:
    correlation = 0x48524E53
    request = struct.pack(">hhih", api, version, correlation, len(_CLIENT)) + _CLIENT + payload
    with Exchange(address, deadline=deadline) as exchange:
        exchange.send(struct.pack(">i", len(request)) + request)
        size, echoed = struct.unpack(">ii", exchange.exactly(8))
        if echoed != correlation or not 4 <= size <= 1 << 24:
            raise ProbeError("protocol", "the answer is not Kafka's", connected=True)
        return _Reader(exchange.exactly(size - 4))
