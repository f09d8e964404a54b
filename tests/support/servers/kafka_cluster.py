"""A real Kafka cluster of two brokers, each of which names a proxy's port to its clients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec

from harness.model.records.faults import Address
from harness.stack.embedded import java as java_runtime
from harness.stack.embedded import kafka, kafka_archive, kafka_files
from harness.stack.embedded.private_folder import PrivateFolder
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import wait_ready
from tests.support.servers.real import SubprocessLauncher, say


class Broker(NamedTuple):
    """direct: past the proxy. upstream: where its proxy is to lead. advertised: where that is to listen."""

    direct: Address
    upstream: Address
    advertised: Address
    pid: int


@contextmanager
def kafka_cluster() -> Iterator[tuple[Broker, Broker]]:
    launcher = SubprocessLauncher()
    try:
        java = java_runtime.find()
        files = kafka_files.ensure(java, say)
        archive = kafka_archive.ensure(java, files, say)
        private = PrivateFolder(launcher)
        with Ports() as ports:
            first, second = (kafka.KafkaPorts(ports.take(), ports.take(), ports.take(), ports.take()) for _ in range(2))
            brokers = []
            for number, at in enumerate((first, second), start=1):
                folder = private.sub(f"broker{number}")
                kafka.prepare(files, folder, at)
                if number == 2:
                    settings = folder / "server.properties"
                    settings.write_text(_joining(settings.read_text(), first, second))
                    meta = folder / "data" / "meta.properties"
                    meta.write_text(
                        re.sub(r"node\.id=.*", "node.id=2", re.sub(r"directory\.id=.*\n", "", meta.read_text()))
                    )
                log = folder / "log"
                spec = msgspec.structs.replace(kafka.spec(java, files, archive, folder, log), name=f"broker{number}")
                process = launcher.launch(spec)
                direct = Address("127.0.0.1", at.direct)
                wait_ready(
                    "Kafka",
                    lambda direct=direct: kafka.probe(direct, ()),  # type: ignore[misc]
                    launcher=launcher,
                    name=spec.name,
                    log=log,
                    limit_s=120,
                )
                brokers.append(
                    Broker(direct, Address("127.0.0.1", at.proxied), Address("127.0.0.1", at.advertised), process.pid)
                )
        yield brokers[0], brokers[1]
    finally:
        launcher.close()


def _joining(text: str, first: kafka.KafkaPorts, second: kafka.KafkaPorts) -> str:
    """Of the second node: a broker only, whose controller is the first."""
    lines = []
    for line in text.splitlines():
        key = line.partition("=")[0]
        if key == "process.roles":
            line = "process.roles=broker"
        elif key == "node.id":
            line = "node.id=2"
        elif key == "controller.quorum.voters":
            line = f"{key}=1@127.0.0.1:{first.controller}"
        elif key == "listeners":
            line = line.replace(f",CONTROLLER://127.0.0.1:{second.controller}", "")
        lines.append(line)
    return "\n".join(lines) + "\n"
