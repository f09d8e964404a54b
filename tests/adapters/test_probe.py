"""Probes say what happened on the wire: on real servers, and on sockets that misbehave on purpose."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psycopg
import pytest

from harness.adapters.clients import redis_admin
from harness.adapters.wire import kafka
from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.kind import Attempt
from harness.dependencies.probe import path_probe
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult, observed, secret
from harness.model.clock import monotonic
from harness.model.errors import UsageError
from harness.model.records.faults import Address, Credentials, Dependency
from harness.stack.starting.ports import Ports
from tests.support.servers.real import KafkaServer, PostgresServer, ValkeyServer

KINDS: tuple[str, ...] = ("redis", "postgres", "kafka", "http")


def probe(
    kind: str, address: Address, *, timeout_s: float, login: str | None = None, password: str | None = None
) -> ProbeResult:
    dependency = Dependency(name="it", kind=kind, credentials=Credentials(login=login), path=address)
    attempt = partial(Attempt, dependency=dependency, address=address, password=password)
    return observed(lambda deadline: kind_of(dependency).probe(attempt(deadline=deadline)), timeout_s)


@contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[Address]:
    """A server of one line: calls `serve` with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        stop = threading.Event()
        held: list[socket.socket] = []

        def accept() -> None:
            while not stop.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                held.append(connection)
                try:
                    serve(connection)
                except OSError:
                    pass

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield Address("127.0.0.1", server.getsockname()[1])
        finally:
            stop.set()
            thread.join()
            for connection in held:
                connection.close()


@pytest.mark.stack
def test_real_servers_answer(
    valkey_server: ValkeyServer, postgres_server: PostgresServer, kafka_server: KafkaServer, toxiproxy_server: str
) -> None:
    http = Address("127.0.0.1", int(toxiproxy_server.rsplit(":", 1)[1]))
    assert probe("redis", valkey_server.address, timeout_s=10).detail == "PING answered"
    assert probe("postgres", postgres_server.address, timeout_s=10, login=postgres_server.probe_login).ok
    assert probe("kafka", kafka_server.direct, timeout_s=10).ok
    assert probe("http", http, timeout_s=10).ok
    assert probe("tcp", valkey_server.address, timeout_s=10).ok


@pytest.mark.parametrize("kind", (*KINDS, "tcp"))
def test_nothing_listening_is_refused(kind: str) -> None:
    with Ports() as ports:
        address = Address("127.0.0.1", ports.take())
    result = probe(kind, address, timeout_s=10, login="user=x dbname=x")
    assert (result.ok, result.error_kind, result.connected) == (False, "refused", False)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_is_a_time_out_on_an_accepted_connection(kind: str) -> None:
    with listening(lambda _: None) as address:
        result = probe(kind, address, timeout_s=0.3, login="user=x dbname=x")
    assert (result.ok, result.error_kind, result.connected) == (False, "timeout", True)
    assert result.seconds >= 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_drips_bytes_cannot_hold_a_probe(kind: str) -> None:
    """Time-outs of a socket are for each operation: half a second of them once took six."""

    def drip(connection: socket.socket) -> None:
        for _ in range(60):
            connection.sendall(b"H")
            time.sleep(0.05)

    with listening(drip) as address:
        result = probe(kind, address, timeout_s=0.4, login="user=x dbname=x")
    assert not result.ok
    assert result.seconds < 2.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_hangs_up_did_not_answer(kind: str) -> None:
    def hang_up(connection: socket.socket) -> None:
        connection.recv(1)
        connection.shutdown(socket.SHUT_RDWR)

    with listening(hang_up) as address:
        result = probe(kind, address, timeout_s=10, login="user=x dbname=x")
    assert (result.ok, result.connected) == (False, True)
    assert result.error_kind in ("closed", "reset")


@pytest.mark.parametrize("kind", KINDS)
def test_another_protocol_is_no_answer(kind: str) -> None:
    with listening(lambda connection: connection.sendall(b"* BYE wrong number\r\n" * 3)) as address:
        result = probe(kind, address, timeout_s=5, login="user=x dbname=x sslmode=disable")
    assert not result.ok


def test_a_redis_that_is_still_loading_is_not_healthy() -> None:
    loading = b"-LOADING Redis is loading the dataset in memory\r\n"
    with listening(lambda connection: connection.sendall(loading * 2)) as address:
        result = probe("redis", address, timeout_s=5)
    assert not result.ok and "LOADING" in result.detail


def test_an_http_server_in_trouble_is_not_healthy() -> None:
    with listening(lambda connection: connection.sendall(b"HTTP/1.1 503 no\r\n\r\n")) as address:
        assert not probe("http", address, timeout_s=5).ok


@pytest.mark.stack
def test_a_full_role_is_told_from_a_wrong_login(postgres_server: PostgresServer) -> None:
    address = postgres_server.address
    with psycopg.connect(postgres_server.admin, autocommit=True) as admin:
        admin.execute(f"ALTER ROLE {postgres_server.role} CONNECTION LIMIT 0".encode())
        try:
            full = probe("postgres", address, timeout_s=10, login=postgres_server.login)
        finally:
            admin.execute(f"ALTER ROLE {postgres_server.role} CONNECTION LIMIT -1".encode())
    assert (full.error_kind, full.connected) == ("limit", True)
    assert f'"{postgres_server.role}"' in full.detail
    wrong = probe("postgres", address, timeout_s=10, login="user=nobody_of_that_name dbname=postgres")
    assert wrong.error_kind != "limit" and not wrong.ok


def test_a_password_never_comes_back_in_an_error() -> None:
    with pytest.raises(UsageError) as refused:
        probe(
            "postgres", Address("127.0.0.1", 1), timeout_s=1, login="user=x password='hunter2 oops", password="hunter2"
        )
    assert "hunter2" not in str(refused.value)


def test_the_application_path_is_probed_with_a_login_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    dependency = Dependency(
        name="db",
        kind="postgres",
        credentials=Credentials(password_env="NO_SUCH_VARIABLE"),
        path=Address("127.0.0.1", 1),
    )
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    with pytest.raises(UsageError, match="NO_SUCH_VARIABLE is not set"):
        path_probe(dependency)
    with pytest.raises(UsageError, match="no address"):
        path_probe(Dependency(name="db", kind="postgres"))
    assert secret(None) is None


@pytest.mark.stack
def test_a_probe_is_never_taken_for_a_client_of_the_application(valkey_server: ValkeyServer) -> None:
    with socket.create_connection((valkey_server.address.host, valkey_server.address.port)) as named:
        named.sendall(b"CLIENT SETNAME harness-probe\r\nPING\r\n")
        named.recv(100)
        assert all(not client.name.startswith("harness") for client in redis_admin.clients(valkey_server.address))


@pytest.mark.stack
def test_kafka_tells_what_it_has_and_how_much(kafka_server: KafkaServer) -> None:
    cluster = kafka.cluster(kafka_server.direct, deadline=monotonic() + 20)
    assert cluster.brokers and cluster.brokers[0].port
    assert kafka.records_written(kafka_server.direct, deadline=monotonic() + 20) >= 0


def test_a_kafka_answer_cut_short_is_an_error() -> None:
    torn = b"\x00\x00\x00\x0a" + b"HRNS" + b"\x00\x00\x00\x00\x00\x01"
    with listening(lambda connection: connection.sendall(torn)) as address, pytest.raises(ProbeError):
        kafka.cluster(address, deadline=monotonic() + 5)
