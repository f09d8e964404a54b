"""RabbitMQ as a dependency: probes leave nothing, and who uses it and what is missing is told, on a real node."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pika
import pytest

from harness.adapters.nodes.rabbitmq_ctl import Status
from harness.adapters.wire.http import Client
from harness.conductor.path_proof.evidence import path_evidence, snapshot
from harness.dependencies.configuration import load
from harness.dependencies.probe import path_probe
from harness.dependencies.rabbitmq import RABBITMQ
from harness.dependencies.result import ProbeResult
from harness.model.errors import UsageError
from harness.model.records.faults import Address, Dependency, Tls
from harness.model.records.process import ServerProcess
from harness.testing import DependencyContract
from tests.support.servers.rabbitmq import GUEST, RabbitServer, behind_proxy, declared

PROBES = 200


@pytest.fixture
def mq(rabbitmq_server: RabbitServer, tmp_path: Path) -> Dependency:
    return declared(rabbitmq_server, tmp_path)


def connections(server: RabbitServer) -> tuple[int, int]:
    """Of the whole life of the node: opened, closed."""
    with Client(login=GUEST) as client:
        churn = msgspec.json.decode(client.get(f"{server.management}/api/overview", 10.0).body)["churn_rates"]
    return (churn or {}).get("connection_created", 0), (churn or {}).get("connection_closed", 0)


@pytest.mark.stack
class TestRabbitmq(DependencyContract):
    kind = RABBITMQ

    @pytest.fixture
    def dependency(self, mq: Dependency) -> Dependency:
        return mq

    @contextmanager
    def application(self, dependency: Dependency) -> Iterator[None]:
        assert dependency.path is not None
        where = pika.ConnectionParameters(dependency.path.host, dependency.path.port)
        with pika.BlockingConnection(where) as connection:
            connection.channel()
            yield


@pytest.mark.stack
def test_probes_leave_nothing_that_an_owner_would_notice(mq: Dependency, rabbitmq_server: RabbitServer) -> None:
    before, start = connections(rabbitmq_server), len(rabbitmq_server.log.read_text())
    for _ in range(PROBES):
        result = path_probe(mq)(10.0)
        assert result.ok, result.detail
    until = time.monotonic() + 15
    while connections(rabbitmq_server)[1] < before[1] + PROBES and time.monotonic() < until:
        time.sleep(0.5)  # told every five seconds
    said = rabbitmq_server.log.read_text()[start:]
    accepted, closed = (re.findall(rf"{word} AMQP connection (<[\d.]+>)", said) for word in ("accepting", "closing"))
    assert len(set(accepted)) == PROBES and set(accepted) <= set(closed)
    assert "[warning]" not in said and "[error]" not in said


@pytest.mark.stack
def test_a_client_of_the_application_is_seen_through_the_proxy_and_only_its_use_counts(
    mq: Dependency, toxiproxy_server: str, toxiproxy_process: ServerProcess
) -> None:
    with behind_proxy(mq, toxiproxy_server, toxiproxy_process) as proxied, application(proxied) as busy:
        told(proxied, used=True)
        first = snapshot(proxied)
        time.sleep(6)  # its bytes are told every five seconds
        second = snapshot(proxied)
        proof = path_evidence(first, second, proxied)
        assert proof is not None and not proof.held and "none of them used" in proof.observed, proof
        busy.set()
        until = time.monotonic() + 40
        while not (proof := path_evidence(second, snapshot(proxied), proxied)) or not proof.held:
            assert time.monotonic() < until, proof
            time.sleep(1)


def told(mq: Dependency, *, used: bool) -> None:
    until = time.monotonic() + 20
    while not any((one.work is not None) == used for one in RABBITMQ.clients(mq, (), ())):
        assert time.monotonic() < until
        time.sleep(0.5)


@contextmanager
def application(mq: Dependency) -> Iterator[threading.Event]:
    """Connected with a heartbeat a second; publishes once the event is set."""
    assert mq.path is not None
    busy, over = threading.Event(), threading.Event()
    ready = threading.Event()

    def work() -> None:
        where = pika.ConnectionParameters(mq.path.host, mq.path.port, heartbeat=2)  # type: ignore[union-attr]
        with pika.BlockingConnection(where) as connection:
            channel = connection.channel()
            ready.set()
            while not over.is_set():
                connection.process_data_events(0.1)
                if busy.is_set():
                    channel.basic_publish("", "harness-test-nowhere", b"x" * 50)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert ready.wait(20)
        yield busy
    finally:
        over.set()
        thread.join()


@pytest.mark.stack
def test_what_a_login_may_not_is_told_with_what_would_allow_it(
    mq: Dependency, rabbitmq_server: RabbitServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MQ_PASSWORD", "correct horse")
    ctl(rabbitmq_server, "add_user", "plain", "correct horse")
    ctl(rabbitmq_server, "set_permissions", "plain", "", "", ".*")
    own = mq.but(credentials={"user": "plain", "password_env": "MQ_PASSWORD"}, broker={"ctl_config": None})
    for tags, command in (
        ((), "set_user_tags plain monitoring"),
        (("management",), "set_user_tags plain management mon"),
    ):
        ctl(rabbitmq_server, "set_user_tags", "plain", *tags)
        notes: list[str] = []
        checked, version = RABBITMQ.check(own, "it", None, notes.append)
        assert version and not RABBITMQ.tells_clients(checked) and not RABBITMQ.countable(checked)
        assert any(f"rabbitmqctl {command}" in note for note in notes), notes
        assert any("mq-block is off" in note for note in notes)
        assert any("may not publish" in note and "set_permissions -p / plain" in note for note in notes)
        assert not any("horse" in note for note in notes)
    with_rights: list[str] = []
    checked, _ = RABBITMQ.check(mq, "it", None, with_rights.append)
    assert checked == mq and not with_rights


def ctl(server: RabbitServer, *words: str) -> None:
    subprocess.run([*server.ctl, *words], capture_output=True, timeout=120, check=True)


@pytest.mark.stack
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"broker": {"vhost": "nowhere"}}, "vhost nowhere not found"),
        ({"credentials": {"user": "stranger"}}, "ACCESS_REFUSED"),
        (
            {"broker": {"management": "http://127.0.0.1:1"}},
            "it.management: http://127.0.0.1:1/api/whoami could not be reached",
        ),
        ({"broker": {"management_user": "stranger"}}, "does not accept the login of stranger"),
        ({"direct": Address("127.0.0.1", 1)}, "refused while connecting"),
        ({"tls": Tls(ca="/nowhere.pem")}, "TLS cannot be set up with /nowhere.pem"),
    ],
)
def test_what_does_not_answer_is_one_line(mq: Dependency, changed: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        RABBITMQ.check(mq.but(**changed), "it", None, lambda _: None)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.stack
def test_tls_is_spoken_to_the_server_that_the_certificate_is_for(mq: Dependency, rabbitmq_server: RabbitServer) -> None:
    def probed(address: Address, name: str | None) -> ProbeResult:
        tls = Tls(ca=str(rabbitmq_server.certificate), name=name)
        return path_probe(mq.but(path=address, direct=address, tls=tls))(10.0)

    assert probed(rabbitmq_server.tls, "localhost").ok and probed(rabbitmq_server.tls, None).ok
    other = probed(rabbitmq_server.tls, "mq.example")
    assert other.error_kind == "protocol" and "not valid for 'mq.example'" in other.detail
    plain = probed(rabbitmq_server.address, "localhost")
    assert plain.error_kind == "protocol" and "while starting TLS" in plain.detail
    in_clear = path_probe(mq.but(path=rabbitmq_server.tls))(3.0)
    assert not in_clear.ok and in_clear.error_kind in ("closed", "protocol", "reset", "timeout")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('management = "http://h:1/api"', "a URL without a path is wanted"),
        ('management_user = "x"', "management is missing"),
        ('tls_name = "x"', "tls_name is for TLS"),
        ("ctl = []", "a program and its arguments are wanted"),
        ('ctl = ["rabbitmqctl", "--password=x1y2"]', "a password does not belong in this file"),
        ('password_env = "not a name"', "environment variable is wanted"),
    ],
)
def test_a_table_that_is_wrong_is_told_with_its_key(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "harness.toml"
    file.write_text(
        '[target]\nurl = "http://127.0.0.1:1"\n[dependencies.mq]\nkind = "rabbitmq"\ndirect = "127.0.0.1:2"\n' + line
    )
    with pytest.raises(UsageError, match=words):
        load(file)


@pytest.mark.parametrize(
    ("setting", "watermark"),
    [
        ({"relative": 0.4}, "0.4"),
        ({"absolute": 2147483648}, "absolute 2147483648"),
        ({"absolute": "2GB"}, "absolute 2000000000"),
        ({"absolute": "2GiB"}, "absolute 2147483648"),
        ({"absolute": "512M"}, "absolute 536870912"),
    ],
)
def test_a_watermark_is_read_as_it_is_set(setting: dict[str, float | str], watermark: str) -> None:
    assert Status(data_directory="", vm_memory_high_watermark_setting=setting).watermark == watermark
