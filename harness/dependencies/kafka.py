"""Kafka: asked for ApiVersions; who is connected is read from the broker's own sockets, or those of its container's
network; it has no count for each client, so the end offsets of all topics stand in.

Bytes are moved by Metadata about topics with long names that do not exist, each of which the answer names again.
Creating them is forbidden in the request (allow_auto_topic_creation), so nothing comes of it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping

from harness.adapters.wire import kafka
from harness.adapters.wire.exchange import ProbeError
from harness.config.file import DependencyTable
from harness.dependencies.kind import (
    COUNTERS_LIMIT_S,
    LIMIT_S,
    Attempt,
    CounterReader,
    DependencyKind,
    Direction,
    Note,
    PathClient,
    Received,
)
from harness.model.clock import monotonic
from harness.model.errors import Rejected, UsageError
from harness.model.records.faults import Address, Dependency

_METADATA, _NAME_BYTES = 3, 249


class KafkaTable(DependencyTable, frozen=True, kw_only=True):
    needs_direct = True
    clients_named = "by address"


class Kafka(DependencyKind):
    name = "kafka"
    table = KafkaTable
    default_port = 9092
    images = "kafka|redpanda"
    moves_bytes = True
    clients_by_peers = True
    total_unit = "records written"
    how_to_ask = "declare pid_file or the container of the broker"

    def probe(self, attempt: Attempt) -> str:
        return kafka.api_versions(attempt.address, deadline=attempt.deadline)

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        names = [b"harness-probe-%06d-" % number for number in range(-(-size // _NAME_BYTES))]
        request = struct.pack(">i", len(names))
        request += b"".join(struct.pack(">h", _NAME_BYTES) + name.ljust(_NAME_BYTES, b"x") for name in names)
        request += b"\0"  # allow_auto_topic_creation: no
        header = struct.pack(">hhih", _METADATA, 4, 1, 13) + b"harness-probe"
        with attempt.exchange as exchange:
            received.bytes = 0
            try:
                exchange.send(struct.pack(">i", len(header) + len(request)) + header + request)
                length, echoed = struct.unpack(">ii", exchange.exactly(8))
                if echoed != 1 or length < size:
                    raise ProbeError("protocol", "Metadata was not answered with every name asked for", connected=True)
                exchange.exactly(length - 4)
            finally:
                received.bytes = exchange.received
        return f"Metadata of {len(names)} names ({size} bytes) answered"

    def tells_clients(self, dependency: Dependency) -> bool:
        return dependency.direct is not None

    def clients(self, dependency: Dependency, peers: Collection[Address], target: Collection[int]) -> list[PathClient]:
        return [PathClient(id=str(one), address=one, label="", on_proxy=None, work=None) for one in peers]

    def total(self, dependency: Dependency) -> float | None:
        if dependency.direct is None:
            return None
        try:
            return kafka.records_written(dependency.direct, deadline=monotonic() + 3.0)
        except ProbeError as error:
            raise Rejected(f"Kafka at {dependency.direct}: {error.detail}") from error

    def why_not_asked(self, dependency: Dependency) -> str:
        return f"the process of {dependency.name} is not known"

    def countable(self, dependency: Dependency) -> bool:
        return dependency.direct is not None

    def counters(self, dependency: Dependency) -> CounterReader:
        assert dependency.direct is not None
        return _Offsets(dependency.direct)

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        """Clients follow the advertised addresses, so these must be the proxy's: else they go past it."""
        self.answers(dependency, where)
        if dependency.path is None or dependency.path == dependency.direct:
            return dependency, None
        try:
            brokers = kafka.cluster(dependency.path, deadline=monotonic() + LIMIT_S).brokers
        except ProbeError as error:
            raise UsageError(f"{where}: {dependency.path} does not answer like Kafka: {error.detail}") from error
        # Hosts are named differently in a container and outside; ports are the same, or published as `path` says.
        ports = {dependency.path.port, listener_port}
        beside = [broker for broker in brokers if broker.port not in ports]
        if beside:
            raise UsageError(
                f"{where}: Kafka sends its clients to {beside[0]}, past the proxy {dependency.proxy.name} at"
                f" {dependency.path}",
                hint=f"advertised.listeners must name the proxy's address ({dependency.path})",
            )
        if len(brokers) > 1:
            raise UsageError(
                f"{where}: {len(brokers)} brokers answer to one proxy, so a fault would hit some of them only",
                hint="declare a cluster of one broker, as a test system has it",
            )
        return dependency, None

    def override_notes(self, service: str, port: int, environment: Mapping[str, str]) -> list[str]:
        listed = next((v for k, v in environment.items() if "ADVERTISED_LISTENERS" in k), None)
        return [
            f"# KAFKA: {service} tells its clients where to go on (advertised.listeners), and they follow that and not"
            " this",
            f"# link unless it names {service}:{port} itself. "
            + (f"It says now: {listed}" if listed else "This file does not show what it says."),
            f"# It must read PLAINTEXT://{service}:{port} for the listener that the application uses; if it names"
            " another",
            "# host or port, change it there. `harness stack status` looks whether clients are sent past the proxy.",
        ]


class _Offsets:
    """written: total of end offsets; lag: of every consumer group, now. Each reading has a connection of its own."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def read(self) -> Mapping[str, object]:
        found = kafka.lag(self._address, deadline=monotonic() + COUNTERS_LIMIT_S)
        return {"written": found.written, "lag": found.lag}

    def close(self) -> None:
        pass


KAFKA = Kafka()
