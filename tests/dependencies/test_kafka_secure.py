"""Kafka with SASL and TLS, on a real broker through a real Toxiproxy."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness.dependencies.configuration import load
from harness.dependencies.kafka import KAFKA
from harness.dependencies.probe import path_probe
from harness.fault import registered
from harness.model.errors import UsageError
from harness.model.records.faults import Dependency
from harness.stack.external.check import Look, look
from harness.testing import assert_fault_contract, change_for
from harness.testing.dependency_contract import assert_counts, assert_moves
from tests.support.servers.pooler import in_front
from tests.support.servers.proxied import raw
from tests.support.servers.secure_kafka import NAME, PASSWORD, PASSWORD_ENV, USER, SecureKafka, secure_kafka

pytestmark = pytest.mark.stack
LOGIN = f'user = "{USER}"\npassword_env = "{PASSWORD_ENV}"\n'


@pytest.fixture(scope="module")
def kafka() -> Iterator[SecureKafka]:
    with secure_kafka() as found:
        yield found


@pytest.fixture
def proxies(toxiproxy_server: str, kafka: SecureKafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """One before each listener, called as that is; Toxiproxy's URL."""
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    with (
        in_front(toxiproxy_server, "sasl", kafka.sasl, kafka.proxies["sasl"]),
        in_front(toxiproxy_server, "both", kafka.both, kafka.proxies["both"]),
        in_front(toxiproxy_server, "mutual", kafka.mutual, kafka.proxies["mutual"]),
    ):
        yield toxiproxy_server


def looked(folder: Path, toxiproxy: str, kafka: SecureKafka, listener: str, more: str) -> Look:
    file = folder / "harness.toml"
    direct = getattr(kafka, listener)
    file.write_text(
        f'[target]\nurl = "{toxiproxy}"\nhealth = "/version"\n[toxiproxy]\nurl = "{toxiproxy}"\n'
        f'[dependencies.events]\nkind = "kafka"\nproxy = "{listener}"\ndirect = "{direct}"\n{more}'
    )
    return look(load(file), toxiproxy, allow_hosts=())


def found(looks: Look) -> Dependency:
    trouble = [part.trouble for part in looks.parts if part.trouble is not None]
    assert not trouble, trouble
    return next(one for one in looks.dependencies if one.name == "events")


def trouble_of(looks: Look) -> str:
    trouble = next(part.trouble for part in looks.parts if part.name == "events")
    assert trouble is not None
    return f"{trouble} ({trouble.hint})"


def tls(kafka: SecureKafka) -> str:
    return f'tls = true\ntls_ca = "{kafka.ca}"\ntls_name = "{NAME}"\n'


def ways(kafka: SecureKafka) -> dict[str, tuple[str, str]]:
    return {
        "plain": ("sasl", f'sasl = "PLAIN"\n{LOGIN}'),
        "scram-256": ("sasl", f'sasl = "SCRAM-SHA-256"\n{LOGIN}'),
        "scram-512 over TLS": ("both", f'sasl = "SCRAM-SHA-512"\n{LOGIN}{tls(kafka)}'),
        "certificates": ("mutual", f'{tls(kafka)}tls_cert = "{kafka.cert}"\ntls_key = "{kafka.key}"\n'),
    }


@pytest.mark.parametrize("way", ["plain", "scram-256", "scram-512 over TLS", "certificates"])
def test_each_way_in_is_probed_moved_over_and_counted(
    way: str, tmp_path: Path, proxies: str, kafka: SecureKafka
) -> None:
    one = found(looked(tmp_path, proxies, kafka, *ways(kafka)[way]))
    result = path_probe(one)(9.0)
    assert result.ok and "ApiVersions answered" in result.detail
    assert_moves(one)
    assert_counts(one)
    assert KAFKA.total(one) is not None
    assert PASSWORD not in msgspec.json.encode(one).decode()


def test_probes_leave_nothing_in_the_brokers_log(tmp_path: Path, proxies: str, kafka: SecureKafka) -> None:
    one = found(looked(tmp_path, proxies, kafka, *ways(kafka)["scram-512 over TLS"]))
    said = len(kafka.log.read_text())
    assert all(path_probe(one)(9.0).ok for _ in range(60))
    assert not re.findall("(?i).*(?:fail|error|exception|unexpected).*", kafka.log.read_text()[said:])


@pytest.mark.parametrize(
    "kind", ["down", *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("latency", "hang"))]
)
def test_faults_keep_their_contract_over_sasl_and_tls(
    kind: str, tmp_path: Path, proxies: str, kafka: SecureKafka
) -> None:
    one = found(looked(tmp_path, proxies, kafka, *ways(kafka)["scram-512 over TLS"]))
    assert_fault_contract(registered()[kind], one, look=lambda of: raw(f"{of.proxy.url}/proxies/{of.proxy.name}"))


def test_what_is_wrong_is_one_line_without_the_password(
    tmp_path: Path, proxies: str, kafka: SecureKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(listener: str, more: str) -> str:
        return trouble_of(looked(tmp_path, proxies, kafka, listener, more))

    monkeypatch.setenv("WRONG", "hunter2")
    for mechanism in ("PLAIN", "SCRAM-SHA-256"):
        said = told("sasl", f'sasl = "{mechanism}"\nuser = "{USER}"\npassword_env = "WRONG"\n')
        assert "the login is not accepted" in said and "hunter2" not in said
    assert "declare sasl, user and password_env" in told("sasl", "")
    other = f'tls = true\ntls_ca = "{kafka.ca}"\ntls_name = "other.test"\n'
    assert "certificate is not accepted: Hostname mismatch" in told("both", f'sasl = "PLAIN"\n{LOGIN}{other}')
    assert "certificate is not accepted" in told("mutual", f'tls = true\ntls_name = "{NAME}"\n')
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    said = told("mutual", f'tls = true\ntls_ca = "{broken}"\ntls_name = "{NAME}"\n')
    assert f"TLS cannot be set up with {broken}" in said
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", kafka.key, "-out", tmp_path / "locked.key", "-passout", "pass:x"],
        check=True,
        timeout=60,
    )
    said = told("mutual", f'{tls(kafka)}tls_cert = "{kafka.cert}"\ntls_key = "locked.key"\n')
    assert "TLS cannot be set up with" in said and "a key without a passphrase" in said
    assert "does not answer" in told("mutual", tls(kafka)), "without a certificate of our own"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('sasl = "GSSAPI"\nuser = "x"\npassword_env = "X"\n', "'GSSAPI' is none of PLAIN"),
        ('sasl = "PLAIN"\n', "needs all of sasl, user and password_env"),
        ('tls_ca = "ca.pem"\n', "k.tls_ca is for TLS"),
        ("tls = true\n", "k.tls: by what is its certificate known"),
        ('tls = true\ntls_name = "k.test"\ntls_cert = "x"\n', "tls_cert and tls_key belong together"),
        ('password_env = "hunter2 !"\n', "password_env"),
    ],
)
def test_what_the_file_cannot_mean_is_refused(more: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "harness.toml"
    file.write_text(f'[target]\nurl = "http://127.0.0.1:1"\n[dependencies.k]\nkind = "kafka"\ndirect = "h:1"\n{more}')
    with pytest.raises(UsageError, match=words) as error:
        load(file)
    assert "hunter2" not in str(error.value)


def test_a_record_has_the_variables_name_and_undoes_elsewhere(tmp_path: Path, proxies: str, kafka: SecureKafka) -> None:
    one = found(looked(tmp_path, proxies, kafka, *ways(kafka)["scram-512 over TLS"]))
    fault = registered()["down"]
    record = fault.capture(change_for(fault, one), "r")
    assert record.secrets == {"password": PASSWORD_ENV}
