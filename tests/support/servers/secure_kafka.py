"""A real Kafka with listeners that ask for logins and certificates: one for each way, beside the plain one."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from harness.adapters.wire.exchange import Exchange
from harness.model.clock import monotonic
from harness.model.records.faults import Address
from harness.model.records.process import ServerProcess
from harness.stack.embedded import java as java_runtime
from harness.stack.embedded import kafka, kafka_archive, kafka_files
from harness.stack.embedded.private_folder import PrivateFolder
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import wait_ready
from tests.support.servers.certificates import Authority
from tests.support.servers.real import SubprocessLauncher, say

NAME = "kafka.internal.test"
USER, PASSWORD, PASSWORD_ENV = "harness", "kafka-secret", "KAFKA_SECRET"


class SecureKafka(NamedTuple):
    """sasl: SASL without TLS. both: SASL over TLS. mutual: TLS with certificates on both sides. proxies: where a proxy
    must listen for each, by name. ca, cert, key: files."""

    sasl: Address
    both: Address
    mutual: Address
    plain: Address
    proxies: dict[str, Address]
    ca: Path
    cert: Path
    key: Path
    log: Path
    process: ServerProcess


@contextmanager
def secure_kafka() -> Iterator[SecureKafka]:
    launcher = SubprocessLauncher()
    try:
        java = java_runtime.find()
        files = kafka_files.ensure(java, say)
        archive = kafka_archive.ensure(java, files, say)
        private = PrivateFolder(launcher)
        folder, certificates = private.sub("kafka"), private.sub("certificates")
        authority = Authority(certificates)
        cert, key = authority.issue(NAME)
        own = authority.issue("client.test")
        (certificates / "broker.pem").write_text(key.read_text() + cert.read_text())
        with Ports() as ports:
            at = {name: ports.take() for name in ("sasl", "both", "mutual")}
            told = {name: ports.take() for name in at}
            numbers = kafka.KafkaPorts(ports.take(), ports.take(), ports.take(), ports.take())
            kafka.prepare(files, folder, numbers)
            settings = folder / "server.properties"
            settings.write_text(_with_listeners(settings.read_text(), at, told, certificates / "broker.pem", authority))
            log = folder / "log"
            process = launcher.launch(kafka.spec(java, files, archive, folder, log))
            plain = Address("127.0.0.1", numbers.direct)
            wait_ready("Kafka", lambda: kafka.probe(plain), launcher=launcher, name=kafka.NAME, log=log, limit_s=120)
        _make_users(plain)
        addresses = {name: Address("127.0.0.1", port) for name, port in at.items()}
        proxies = {name: Address("127.0.0.1", port) for name, port in told.items()}
        yield SecureKafka(
            **addresses,
            plain=plain,
            proxies=proxies,
            ca=authority.ca,
            cert=own[0],
            key=own[1],
            log=log,
            process=process,
        )
    finally:
        launcher.close()


def _with_listeners(text: str, at: dict[str, int], told: dict[str, int], pem: Path, authority: Authority) -> str:
    kinds = {"sasl": "SASL_PLAINTEXT", "both": "SASL_SSL", "mutual": "SSL"}
    lines = []
    for line in text.splitlines():
        name = line.partition("=")[0]
        if name == "listeners":
            line += "".join(f",{one.upper()}://127.0.0.1:{port}" for one, port in at.items())
        elif name == "advertised.listeners":
            line += "".join(f",{one.upper()}://127.0.0.1:{port}" for one, port in told.items())
        elif name == "listener.security.protocol.map":
            line += "".join(f",{one.upper()}:{kind}" for one, kind in kinds.items())
        lines.append(line)
    lines += [
        "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={pem}",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={authority.ca}",
        "listener.name.mutual.ssl.client.auth=required",
    ]
    modules = "org.apache.kafka.common.security"
    for one in ("sasl", "both"):
        plain = f'{modules}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        lines.append(f"listener.name.{one}.plain.sasl.jaas.config={plain}")
        for scram in ("scram-sha-256", "scram-sha-512"):
            lines.append(f"listener.name.{one}.{scram}.sasl.jaas.config={modules}.scram.ScramLoginModule required;")
    return "\n".join(lines) + "\n"


def _make_users(plain: Address) -> None:
    """AlterUserScramCredentials v0 by hand: no client here speaks it."""

    def short(data: bytes) -> bytes:
        assert len(data) < 127
        return bytes([len(data) + 1]) + data

    for number, name in ((1, "sha256"), (2, "sha512")):
        salt = b"salt-of-the-tests"
        salted = hashlib.pbkdf2_hmac(name, PASSWORD.encode(), salt, 4096)
        wanted = short(USER.encode()) + struct.pack(">bi", number, 4096) + short(salt) + short(salted) + b"\0"
        request = struct.pack(">hhih", 51, 0, 1, -1) + b"\0" + b"\x01" + b"\x02" + wanted + b"\0"
        with Exchange(plain, deadline=monotonic() + 20.0) as exchange:
            exchange.send(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", exchange.exactly(4))
            answer = exchange.exactly(size)
        # Correlation, tags, throttle time, how many, the user's name, then whether it went well.
        place = 4 + 1 + 4 + 1 + 1 + len(USER)
        assert answer[place : place + 2] == b"\0\0", answer
