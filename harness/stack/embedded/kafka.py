"""Apache Kafka in KRaft mode, one node: the `kafka` dependency. Its jars are fetched once, each pinned by SHA-256.

Listeners: PROXIED is what Toxiproxy forwards to; it advertises the proxy's address, since clients follow what the
broker advertises and would otherwise leave the proxy after the first exchange. DIRECT is for probes and advertises
itself. CONTROLLER is KRaft's own.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.adapters.wire import kafka as wire
from harness.adapters.wire.exchange import ProbeError
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
    """Every topic has a leader; asking creates those that are missing. address: any listener of ours. Raises
    NotReady."""
    try:
        found = wire.leaders(address, topics, deadline=monotonic() + PROBE_TIMEOUT_S)
    except ProbeError as error:
        raise NotReady(str(error)) from error
    for topic in topics:
        code, leaders = found.get(topic, (3, []))
        if code != 0 or not leaders or min(leaders) < 0:
            raise NotReady(f"topic {topic} has no leader yet (error {code})")
