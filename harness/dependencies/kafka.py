"""Kafka: asked for ApiVersions; who is connected is read from the broker's own sockets, or those of its container's
network; it has no count for each client, so the end offsets of all topics stand in.

Bytes are moved by Metadata about topics with long names that do not exist, each of which the answer names again.
Creating them is forbidden in the request (allow_auto_topic_creation), so nothing comes of it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator, Mapping, Sequence

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
        if dependency.credentials.sasl is not None and not found.topics:
            note(
                f"{dependency.name}: {dependency.credentials.user} sees no topic, so nothing would show that Kafka is"
                " used; where the broker has ACLs: kafka-acls --add --allow-principal"
                f" User:{dependency.credentials.user} --operation Describe --topic '*' --group '*'"
            )
        return dependency, None

    def check_together(self, found: Sequence[Dependency]) -> Iterator[tuple[Dependency, UsageError | None]]:
        """A cluster is a dependency for each of its brokers: clients are sent on to every one of them."""
        proxied = [one for one in found if one.path is not None and one.path != one.direct]
        listening = {one.name: _listening(one) for one in proxied}
        for one in found:
            if one.name not in listening:
                yield one, None
                continue
            others = [other for other in proxied if other.name != one.name]
            beside = {port for other in others for port in listening[other.name]}
            pids = tuple(other.process.pid for other in others if other.process.pid is not None)
            trouble = self._not_the_proxies(one, listening[one.name], beside)
            yield (one.but(process={"members": pids}) if trouble is None and pids else one), trouble

    def _not_the_proxies(self, one: Dependency, own: Collection[int], beside: Collection[int]) -> UsageError | None:
        """Hosts are named differently in a container and outside; ports are the same, or published as `path` says."""
        assert one.path is not None
        try:
            brokers = kafka.cluster(one.path, deadline=monotonic() + LIMIT_S, access=_access_of(one)).brokers
        except ProbeError as error:
            return UsageError(f"{one.path} does not answer like Kafka: {error.detail}")
        here = [broker for broker in brokers if broker.port in own]
        past = [broker for broker in brokers if broker.port not in own and broker.port not in beside]
        if not here:
            return UsageError(
                f"Kafka sends its clients to {brokers[0]}, past the proxy {one.proxy.name} at {one.path}",
                hint=f"advertised.listeners must name the proxy's address ({one.path})",
            )
        if past:
            return UsageError(
                f"Kafka sends its clients on to {past[0]}, another broker of its cluster, past every proxy",
                hint="each broker is a dependency with a proxy of its own, which its advertised.listeners name",
            )
        if len(here) > 1:
            return UsageError(
                f"{len(here)} brokers of one cluster advertise the port of the proxy {one.proxy.name}, so a fault would"
                " hit some of their connections only",
                hint="a proxy for each broker, on a port of its own",
            )
        return None

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


def _listening(one: Dependency) -> set[int]:
    """The ports of its proxy: of its own, and as it is published."""
    ports = (one.path.port if one.path is not None else None, one.proxy.port)
    return {port for port in ports if port is not None}


class _Offsets:
    """written: total of end offsets; lag: of every consumer group, now. Each reading has a connection of its own.

    Of one broker among several `written` is what it leads, and there is no lag: a group's coordinator is one broker,
    and what the group reads is led by others.
    """

    def __init__(self, address: Address, access: kafka.Access) -> None:
        self._address, self._access = address, access
        self._alone: bool | None = None

    def read(self) -> Mapping[str, object]:
        deadline = monotonic() + COUNTERS_LIMIT_S
        if self._alone is None:
            found = kafka.cluster(self._address, deadline=deadline, access=self._access)
            self._alone = len(found.brokers) == 1
        if not self._alone:
            return {"written": kafka.records_written(self._address, deadline=deadline, access=self._access)}
        found_lag = kafka.lag(self._address, deadline=deadline, access=self._access)
        return {"written": found_lag.written, "lag": found_lag.lag}

    def close(self) -> None:
        pass


def _access_of(dependency: Dependency) -> kafka.Access:
    return _access(dependency, secret(dependency.credentials.password_env))


def _access(dependency: Dependency, password: str | None) -> kafka.Access:
    own = dependency.credentials
    return kafka.Access(tls=dependency.tls, mechanism=own.sasl, user=own.user or "", password=password or "")


KAFKA = Kafka()
