"""Kafka's wire protocol, as much as probes and proofs need, by hand on a raw socket.

One exchange on one fresh connection is the point: a client library would retry, follow other brokers and keep
connections, and the probe's time would be the library's. Message formats: Kafka protocol guide, request header v1,
in the oldest versions that Kafka 4 still answers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

import msgspec

from harness.adapters.wire import sasl
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.model.records.faults import Address, Tls

T = TypeVar("T")

_CLIENT = b"harness-probe"
_LIST_OFFSETS, _METADATA, _OFFSET_FETCH, _LIST_GROUPS, _API_VERSIONS = 2, 3, 9, 16, 18
_SASL_HANDSHAKE, _SASL_AUTHENTICATE = 17, 36
_LATEST = -1


class Access(NamedTuple):
    """How a broker's listener is spoken to. mechanism: of SASL."""

    tls: Tls | None = None
    mechanism: str | None = None
    user: str = ""
    password: str = ""


OPEN = Access()
"""Neither TLS nor a login."""


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """brokers: as they advertise themselves. topics: name -> partition ids."""

    brokers: tuple[Address, ...]
    topics: dict[str, tuple[int, ...]]


def api_versions(address: Address, *, deadline: float, access: Access = OPEN) -> str:
    """One ApiVersions v0 exchange; says how many APIs the broker offers. Raises ProbeError."""
    reader = _exchange(address, _API_VERSIONS, 0, b"", deadline, access)
    code, count = reader.number("h"), reader.number("i")
    if code != 0 or not 0 < count < 1000:
        raise ProbeError("protocol", f"ApiVersions answered error {code}", connected=True)
    return f"ApiVersions answered, {count} APIs,"


def cluster(address: Address, *, deadline: float, access: Access = OPEN) -> Cluster:
    """One Metadata v1 exchange for all topics. Raises ProbeError."""
    reader = _exchange(address, _METADATA, 1, struct.pack(">i", -1), deadline, access)

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

    brokers = tuple(reader.array(reader.broker))
    reader.number("i")  # controller
    topics = dict(reader.array(topic))
    if not brokers:
        raise ProbeError("protocol", "Metadata names no broker", connected=True)
    return Cluster(brokers=brokers, topics=topics)


def leaders(address: Address, topics: Sequence[str], *, deadline: float) -> dict[str, tuple[int, list[int]]]:
    """Topic -> (error code, leader of each partition), one Metadata v4 exchange; those that are missing are created.

    Raises ProbeError.
    """
    names = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    payload = struct.pack(">i", len(topics)) + names + b"\x01"  # allow_auto_topic_creation
    reader = _exchange(address, _METADATA, 4, payload, deadline)

    def partition() -> int:
        reader.number("h")
        reader.number("i")  # its number
        leader = reader.number("i")
        reader.array(lambda: reader.number("i"))  # replicas
        reader.array(lambda: reader.number("i"))  # in sync
        return leader

    def topic() -> tuple[str, tuple[int, list[int]]]:
        code, name = reader.number("h"), reader.string()
        reader.number("b")  # internal
        return name, (code, reader.array(partition))

    reader.number("i")  # throttle time
    reader.array(reader.broker)
    reader.string()  # cluster id
    reader.number("i")  # controller
    return dict(reader.array(topic))


def records_written(address: Address, *, deadline: float, access: Access = OPEN) -> int:
    """The end offsets of all partitions, added up: rises with every record and every committed offset.

    Partitions that this broker does not lead are left out. Raises ProbeError.
    """
    found = cluster(address, deadline=deadline, access=access).topics
    return sum(_ends(address, found, deadline, access).values())


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """written: end offsets of the topics that somebody consumes, added up. lag: of them, what consumer groups have not
    committed yet, over all groups."""

    written: int
    lag: int


def lag(address: Address, *, deadline: float, access: Access = OPEN) -> Lag:
    """What every consumer group known to this broker is behind. Raises ProbeError.

    A group with another coordinator, and a partition led by another broker, are left out.
    """
    committed: dict[str, list[tuple[str, int, int]]] = {}
    for group in _groups(address, deadline, access):
        committed[group] = _committed(address, group, deadline, access)
    topics = {name for found in committed.values() for name, _, _ in found}
    known = {n: parts for n, parts in cluster(address, deadline=deadline, access=access).topics.items() if n in topics}
    ends = _ends(address, known, deadline, access) if known else {}
    behind = sum(
        max(0, ends[name, partition] - offset)
        for found in committed.values()
        for name, partition, offset in found
        if offset >= 0 and (name, partition) in ends
    )
    return Lag(written=sum(ends.values()), lag=behind)


def _groups(address: Address, deadline: float, access: Access) -> list[str]:
    """ListGroups v0."""
    reader = _exchange(address, _LIST_GROUPS, 0, b"", deadline, access)
    reader.number("h")

    def group() -> str:
        name = reader.string()
        reader.string()  # protocol type
        return name

    return reader.array(group)


def _committed(address: Address, group: str, deadline: float, access: Access) -> list[tuple[str, int, int]]:
    """OffsetFetch v2 of all topics: (topic, partition, offset); -1 = nothing committed there."""
    payload = struct.pack(">h", len(group.encode())) + group.encode() + struct.pack(">i", -1)
    reader = _exchange(address, _OFFSET_FETCH, 2, payload, deadline, access)
    found: list[tuple[str, int, int]] = []

    def topic() -> None:
        name = reader.string()

        def partition() -> None:
            number, offset = reader.number("i"), reader.number("q")
            reader.string()  # metadata
            if reader.number("h") == 0:
                found.append((name, number, offset))

        reader.array(partition)

    reader.array(topic)
    return found


def _ends(
    address: Address, topics: dict[str, tuple[int, ...]], deadline: float, access: Access
) -> dict[tuple[str, int], int]:
    """End offset by (topic, partition), ListOffsets v1; without partitions that this broker does not lead."""
    payload = struct.pack(">ii", -1, len(topics))
    for name, partitions in topics.items():
        payload += struct.pack(">h", len(name.encode())) + name.encode() + struct.pack(">i", len(partitions))
        payload += b"".join(struct.pack(">iq", partition, _LATEST) for partition in partitions)
    reader = _exchange(address, _LIST_OFFSETS, 1, payload, deadline, access)

    found: dict[tuple[str, int], int] = {}

    def topic() -> None:
        name = reader.string()

        def end() -> None:
            partition, code = reader.number("i"), reader.number("h")
            reader.number("q")  # timestamp
            offset = reader.number("q")
            if code == 0:
                found[name, partition] = offset

        reader.array(end)

    reader.array(topic)
    return found


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

    def data(self) -> bytes:
        size = max(0, self.number("i"))
        found = self._body[self._at : self._at + size]
        self._at += size
        return found

    def broker(self) -> Address:
        self.number("i")
        host, port = self.string(), self.number("i")
        self.string()  # rack
        return Address(host, port)

    def array(self, element: Callable[[], T]) -> list[T]:
        return [element() for _ in range(max(0, self.number("i")))]


@contextmanager
def connected(address: Address, *, deadline: float, access: Access = OPEN) -> Iterator[Exchange]:
    """A fresh connection, secured and logged in as the listener asks. Raises ProbeError."""
    with Exchange(address, deadline=deadline, tls=access.tls) as exchange:
        if access.mechanism is not None:
            _log_in(exchange, access)
        yield exchange


def _log_in(exchange: Exchange, access: Access) -> None:
    mechanism = access.mechanism or ""
    reader = _asked(exchange, _SASL_HANDSHAKE, 1, struct.pack(">h", len(mechanism)) + mechanism.encode())
    if reader.number("h") != 0:
        offered = ", ".join(reader.array(reader.string))
        raise ProbeError("auth", f"the listener does not offer SASL {mechanism}, but {offered}", connected=True)

    def say(message: bytes) -> bytes:
        answer = _asked(exchange, _SASL_AUTHENTICATE, 0, struct.pack(">i", len(message)) + message)
        code, why = answer.number("h"), answer.string()
        if code != 0:
            raise ProbeError("auth", f"the login is not accepted: {one_line(why, access.password)}", connected=True)
        return answer.data()

    sasl.log_in(mechanism, access.user, access.password, say)


def _exchange(
    address: Address, api: int, version: int, payload: bytes, deadline: float, access: Access = OPEN
) -> _Reader:
    with connected(address, deadline=deadline, access=access) as exchange:
        return _asked(exchange, api, version, payload)


def _asked(exchange: Exchange, api: int, version: int, payload: bytes) -> _Reader:
    correlation = 0x48524E53
    request = struct.pack(">hhih", api, version, correlation, len(_CLIENT)) + _CLIENT + payload
    exchange.send(struct.pack(">i", len(request)) + request)
    size, echoed = struct.unpack(">ii", exchange.exactly(8))
    if echoed != correlation or not 4 <= size <= 1 << 24:
        raise ProbeError("protocol", "the answer is not Kafka's", connected=True)
    return _Reader(exchange.exactly(size - 4))


def one_line(text: str, password: str) -> str:
    text = " ".join(text.split())[:200]
    return text.replace(password, "***") if password else text
