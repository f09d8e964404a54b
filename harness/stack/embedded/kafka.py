"""Apache Kafka in KRaft mode, one node: the `kafka` dependency. Its jars are fetched once, each pinned by SHA-256.

Listeners: PROXIED is what Toxiproxy forwards to; it advertises the proxy's address, since clients follow what the
broker advertises and would otherwise leave the proxy after the first exchange. DIRECT is for probes and advertises
itself. CONTROLLER is KRaft's own.
"""

from __future__ import annotations

import struct
from pathlib import Path

import msgspec

from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.model.clock import monotonic
from harness.model.records.faults import Address
from harness.model.records.process import ServerSpec
from harness.stack.embedded.java import Java
from harness.stack.embedded.kafka_files import VERSION, KafkaFiles
from harness.stack.embedded.private_folder import server_env
from harness.stack.starting.ready import PROBE_TIMEOUT_S, NotReady

TITLE = "Kafka"
NAME = "kafka"
TOPICS = ("anomaly-events",)
"""What the sample API writes to and reads; others are created when somebody asks for them."""

__all__ = ["NAME", "TITLE", "TOPICS", "VERSION", "KafkaPorts", "prepare", "probe", "spec"]

_METADATA = 3


class KafkaPorts(msgspec.Struct, frozen=True):
    """proxied: where Toxiproxy connects to. advertised: the proxy's own port, told to its clients."""

    proxied: int
    direct: int
    controller: int
    advertised: int


def properties(data: Path, ports: KafkaPorts) -> str:
    """server.properties for one node whose data is thrown away."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{ports.controller}",
        "listeners": f"PROXIED://127.0.0.1:{ports.proxied},DIRECT://127.0.0.1:{ports.direct}"
        f",CONTROLLER://127.0.0.1:{ports.controller}",
        "advertised.listeners": f"PROXIED://127.0.0.1:{ports.advertised},DIRECT://127.0.0.1:{ports.direct}",
        "listener.security.protocol.map": "PROXIED:PLAINTEXT,DIRECT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "DIRECT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        "num.partitions": "1",
        "auto.create.topics.enable": "true",
        # One node: every internal topic has one partition and one copy. Fifty partitions of the offsets topic
        # would cost the first consumer a second.
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # A consumer joins at once instead of waiting for others.
        "group.initial.rebalance.delay.ms": "0",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "log.cleaner.dedupe.buffer.size": "4194304",  # of a heap of 256 MB; the default takes half of it
        # A broker that was killed may only register again when its last session has run out.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        # Clients that lose their connection are gone: nothing waits for them at the end.
        "controlled.shutdown.enable": "false",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def prepare(files: KafkaFiles, folder: Path, ports: KafkaPorts) -> None:
    """Write the formatted data folder and server.properties into `folder`."""
    data = folder / "data"
    files.unpack_formatted(data)
    (folder / "server.properties").write_text(properties(data, ports), "utf-8")


def spec(java: Java, files: KafkaFiles, archive: Path | None, folder: Path, log: Path) -> ServerSpec:
    """folder: the one that `prepare` filled. archive: what `kafka_archive.ensure` gave."""
    return ServerSpec(
        name=NAME,
        argv=(str(java.program), *java.flags(archive), "kafka.Kafka", str(folder / "server.properties")),
        env=server_env(folder, CLASSPATH=files.classpath),
        cwd=str(folder),
        log=str(log),
    )


def probe(address: Address, topics: tuple[str, ...] = TOPICS) -> None:
    """Every topic has a leader; asking creates those that are missing. Raises NotReady.

    address: any listener of ours. One Metadata v4 exchange (Kafka protocol guide), request header v1.
    """
    client = b"harness-ready"
    names = b"".join(struct.pack(">h", len(topic)) + topic.encode() for topic in topics)
    request = (
        struct.pack(">hhih", _METADATA, 4, 1, len(client))
        + client
        + struct.pack(">i", len(topics))
        + names
        + b"\x01"  # allow_auto_topic_creation
    )
    try:
        with Exchange(address, deadline=monotonic() + PROBE_TIMEOUT_S) as exchange:
            exchange.send(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", exchange.exactly(4))
            if not 0 < size < 1 << 20:
                raise NotReady("the answer is not Kafka's")
            found = _topics(exchange.exactly(size))
    except ProbeError as error:
        raise NotReady(str(error)) from error
    except (struct.error, IndexError) as error:
        raise NotReady("Metadata was answered with something else") from error
    for topic in topics:
        code, leaders = found.get(topic, (3, []))
        if code != 0 or not leaders or min(leaders) < 0:
            raise NotReady(f"topic {topic} has no leader yet (error {code})")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def unpack(self, form: str) -> tuple[int, ...]:
        values = struct.unpack_from(form, self._data, self._at)
        self._at += struct.calcsize(form)
        return values

    def number(self, form: str) -> int:
        return self.unpack(form)[0]

    def string(self) -> str | None:
        size = self.number(">h")
        if size < 0:
            return None
        text = self._data[self._at : self._at + size].decode("utf-8", "replace")
        self._at += size
        return text


def _topics(body: bytes) -> dict[str, tuple[int, list[int]]]:
    """Topic -> (error code, leader of each partition), from a Metadata v4 response with its header."""
    reader = _Reader(body)
    reader.unpack(">ii")  # correlation id, throttle time
    for _ in range(reader.number(">i")):
        reader.unpack(">i")
        reader.string()
        reader.unpack(">i")
        reader.string()
    reader.string()  # cluster id
    reader.unpack(">i")  # controller
    found: dict[str, tuple[int, list[int]]] = {}
    for _ in range(reader.number(">i")):
        code = reader.number(">h")
        name = reader.string() or ""
        reader.unpack(">b")
        leaders = []
        for _ in range(reader.number(">i")):
            _, _, leader = reader.unpack(">hii")
            leaders.append(leader)
            for _ in range(2):  # replicas, in-sync replicas
                for _ in range(reader.number(">i")):
                    reader.unpack(">i")
        found[name] = (code, leaders)
    return found
