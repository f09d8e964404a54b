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
from harness.adapters.wire.sasl import MECHANISMS
from harness.config import rules
from harness.config.tls_table import TlsTable
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
from harness.dependencies.result import secret
from harness.model.clock import monotonic
from harness.model.errors import Rejected, UsageError
from harness.model.records.faults import Address, Dependency

_METADATA, _NAME_BYTES = 3, 249


class KafkaTable(TlsTable, frozen=True, kw_only=True):
    """sasl: mechanism. user: who logs in, with the password in password_env."""

    needs_direct = True
    clients_named = "by address"

    sasl: str | None = None
    user: str | None = None
    password_env: str | None = None

    def check(self, where: str) -> None:
        super().check(where)
        rules.check_variable(self.password_env, f"{where}.password_env")
        if self.sasl is not None and self.sasl not in MECHANISMS:
            raise UsageError(f"{where}.sasl: {self.sasl!r} is none of {', '.join(MECHANISMS)}")
        given = [key for key in ("sasl", "user", "password_env") if getattr(self, key) is not None]
        if given and len(given) < 3:
            raise UsageError(f"{where}.{given[0]} needs all of sasl, user and password_env")

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        own = {"sasl": self.sasl, "user": self.user, "password_env": self.password_env}
        return dependency.but(credentials=own, tls=self.tls_declared)


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
        return kafka.api_versions(
            attempt.address, deadline=attempt.deadline, access=_access(attempt.dependency, attempt.password)
        )

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        names = [b"harness-probe-%06d-" % number for number in range(-(-size // _NAME_BYTES))]
        request = struct.pack(">i", len(names))
        request += b"".join(struct.pack(">h", _NAME_BYTES) + name.ljust(_NAME_BYTES, b"x") for name in names)
        request += b"\0"  # allow_auto_topic_creation: no
        header = struct.pack(">hhih", _METADATA, 4, 1, 13) + b"harness-probe"
        access = _access(attempt.dependency, attempt.password)
        with kafka.connected(attempt.address, deadline=attempt.deadline, access=access) as exchange:
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
            return kafka.records_written(
                dependency.direct, deadline=monotonic() + LIMIT_S, access=_access_of(dependency)
            )
        except ProbeError as error:
            raise Rejected(f"Kafka at {dependency.direct}: {error.detail}") from error

    def why_not_asked(self, dependency: Dependency) -> str:
        return f"the process of {dependency.name} is not known"

    def countable(self, dependency: Dependency) -> bool:
        return dependency.direct is not None

    def counters(self, dependency: Dependency) -> CounterReader:
        assert dependency.direct is not None
        return _Offsets(dependency.direct, _access_of(dependency))

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        """Clients follow the advertised addresses, so these must be the proxy's: else they go past it."""
        self.answers(dependency, where)
        if dependency.path is None or dependency.path == dependency.direct:
            return dependency, None
        try:
            found = kafka.cluster(dependency.path, deadline=monotonic() + LIMIT_S, access=_access_of(dependency))
        except ProbeError as error:
            # Before a login a listener of SASL answers ApiVersions, and nothing else.
            sasl = "where its listener asks for a login, declare sasl, user and password_env"
            raise UsageError(
                f"{where}: {dependency.path} does not answer like Kafka: {error.detail}",
                hint=sasl if error.kind in ("closed", "reset") and dependency.credentials.sasl is None else None,
            ) from error
        brokers = found.brokers
        if dependency.credentials.sasl is not None and not found.topics:
            note(
                f"{dependency.name}: {dependency.credentials.user} sees no topic, so nothing would show that Kafka is"
                " used; where the broker has ACLs: kafka-acls --add --allow-principal"
                f" User:{dependency.credentials.user} --operation Describe --topic '*' --group '*'"
            )
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
                hint="several brokers are not supported: test with a cluster of one",
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

    def __init__(self, address: Address, access: kafka.Access) -> None:
        self._address, self._access = address, access

    def read(self) -> Mapping[str, object]:
        found = kafka.lag(self._address, deadline=monotonic() + COUNTERS_LIMIT_S, access=self._access)
        return {"written": found.written, "lag": found.lag}

    def close(self) -> None:
        pass


def _access_of(dependency: Dependency) -> kafka.Access:
    return _access(dependency, secret(dependency.credentials.password_env))


def _access(dependency: Dependency, password: str | None) -> kafka.Access:
    own = dependency.credentials
    return kafka.Access(tls=dependency.tls, mechanism=own.sasl, user=own.user or "", password=password or "")


KAFKA = Kafka()
