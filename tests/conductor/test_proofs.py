"""Does the application reach its dependency through the proxy, and only there? Real clients on real servers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
import redis

from harness.conductor.path_proof import evidence as proofs
from harness.conductor.path_proof.evidence import bypass_evidence, path_evidence, snapshot, trouble_of
from harness.model.records.faults import Address, Dependency, Evidence
from harness.model.records.process import ServerProcess
from tests.support.servers.proxied import proxied
from tests.support.servers.real import KafkaServer, PostgresServer, ValkeyServer, wait_until

pytestmark = pytest.mark.stack


@pytest.fixture
def cache(toxiproxy_server: str, toxiproxy_process: ServerProcess, valkey_server: ValkeyServer) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, valkey_server) as dependency:
        yield dependency


@pytest.fixture
def db(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, postgres_server: PostgresServer
) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, postgres_server) as dependency:
        yield dependency


def client(address: Address | None, name: str | None = None) -> redis.Redis:
    assert address is not None
    return redis.Redis(host=address.host, port=address.port, client_name=name, single_connection_client=True)


def session(db: Dependency, address: Address | None) -> psycopg.Connection[tuple[object, ...]]:
    assert address is not None
    return psycopg.connect(f"{db.credentials.login} host={address.host} port={address.port}", autocommit=True)


def judged(dependency: Dependency, *busy: redis.Redis | psycopg.Connection[tuple[object, ...]]) -> Evidence:
    """Two looks, between which the given clients are used."""
    before = snapshot(dependency)
    for one in busy:
        if isinstance(one, redis.Redis):
            one.ping()
        else:
            one.execute("SELECT 1")
    evidence = path_evidence(before, snapshot(dependency), dependency)
    assert evidence is not None and evidence.source == "path"
    return evidence


def test_a_cache_that_is_used_through_the_proxy(cache: Dependency) -> None:
    with client(cache.path) as one, client(cache.path) as two:
        one.ping(), two.ping()
        evidence = judged(cache, one)
        assert evidence.held, evidence.observed
        assert "2 connections through the proxy, 1 command in" in evidence.observed


def test_a_cache_that_is_reached_past_the_proxy(cache: Dependency) -> None:
    with client(cache.direct, "the-api") as one:
        one.ping()
        evidence = judged(cache, one)
        assert not evidence.held
        assert "0 connections through the proxy; 1 in use beside it (the-api from 127.0.0.1:" in evidence.observed


def test_one_client_in_two_beside_the_proxy_is_noticed(cache: Dependency) -> None:
    with client(cache.path) as one, client(cache.direct) as two:
        one.ping(), two.ping()
        evidence = judged(cache, one, two)
        assert not evidence.held
        assert "1 in use beside it" in evidence.observed


def test_an_idle_client_beside_the_proxy_does_no_harm(cache: Dependency) -> None:
    with client(cache.path) as one, client(cache.direct) as two:
        one.ping(), two.ping()
        evidence = judged(cache, one)
        assert evidence.held
        assert "1 idle beside it" in evidence.observed


def test_a_monitoring_client_can_be_named_and_left_out(cache: Dependency) -> None:
    with client(cache.path) as one, client(cache.direct, "exporter") as two:
        one.ping(), two.ping()
        before = snapshot(cache, exclude=["exporter"])
        one.ping(), two.ping()
        evidence = path_evidence(before, snapshot(cache, exclude=["exporter"]), cache)
        assert evidence is not None and evidence.held


def test_connections_that_nobody_uses_prove_nothing(cache: Dependency) -> None:
    with client(cache.path) as one:
        one.ping()
        evidence = judged(cache)
        assert not evidence.held
        assert "none of them used" in evidence.observed


def test_no_connection_at_all_proves_nothing(cache: Dependency) -> None:
    evidence = judged(cache)
    assert not evidence.held
    assert "0 connections through the proxy" in evidence.observed


def test_a_pool_that_reconnected_meanwhile_is_in_use(cache: Dependency) -> None:
    with client(cache.path) as one:
        one.ping()
        before = snapshot(cache)
    with client(cache.path) as two:
        two.ping()
        evidence = path_evidence(before, snapshot(cache), cache)
        assert evidence is not None and evidence.held


def test_without_the_proxys_process_nothing_is_claimed(cache: Dependency) -> None:
    unknown = cache.but(proxy={"pid": None})
    with client(cache.path) as one:
        one.ping()
        evidence = judged(unknown, one)
        assert not evidence.held
        assert "cannot be told" in evidence.observed


def test_a_database_that_is_used_through_the_proxy(db: Dependency) -> None:
    with session(db, db.path) as one, session(db, db.path):
        evidence = judged(db, one)
        assert evidence.held, evidence.observed
        assert "2 connections through the proxy, 1 of them used" in evidence.observed


def test_a_database_that_is_reached_past_the_proxy(db: Dependency) -> None:
    with session(db, db.direct) as one:
        evidence = judged(db, one)
        assert not evidence.held
        assert "1 in use beside it" in evidence.observed


def test_other_roles_of_the_database_are_not_the_application(db: Dependency) -> None:
    with session(db, db.path) as one, psycopg.connect(str(db.credentials.admin), autocommit=True) as theirs:
        before = snapshot(db)
        one.execute("SELECT 1"), theirs.execute("SELECT 1")
        evidence = path_evidence(before, snapshot(db), db)
        assert evidence is not None and evidence.held


def test_a_second_role_of_the_target_past_the_proxy_is_the_application_all_the_same(db: Dependency) -> None:
    """Two logins in its settings, and only one of them was led through the proxy."""
    assert db.direct is not None
    past = f"{db.credentials.probe_login} host={db.direct.host} port={db.direct.port}"
    with session(db, db.path) as one, psycopg.connect(past, autocommit=True) as second:
        for target, held in (({os.getpid()}, False), (set[int](), True)):
            before = snapshot(db, target=target)
            one.execute("SELECT 1"), second.execute("SELECT 1")
            evidence = path_evidence(before, snapshot(db, target=target), db)
            assert evidence is not None and evidence.held is held, evidence.observed
            assert ("1 in use beside it" in evidence.observed) is not held


def test_the_look_leaves_nothing_behind(cache: Dependency, db: Dependency) -> None:
    for dependency in (cache, db):
        snapshot(dependency)
        wait_until("our own session is gone", lambda one=dependency: not snapshot(one).clients)


@pytest.mark.parametrize("past", [False, True])
def test_who_came_after_a_look_that_was_told_of_nobody_is_judged_all_the_same(db: Dependency, past: bool) -> None:
    """Without an administrator PostgreSQL tells of nobody as long as the application has no session."""
    alone = db.but(credentials={"admin": None})
    before = snapshot(alone)
    assert not before.can_tell
    at = db.direct if past else db.path
    assert at is not None
    with psycopg.connect(f"{db.credentials.login} host={at.host} port={at.port}", autocommit=True) as session:
        session.execute("SELECT 1")
        evidence = path_evidence(before, snapshot(alone), alone)
    assert evidence is not None and evidence.held is not past, evidence.observed


def test_a_dependency_that_cannot_tell_demands_nothing() -> None:
    payments = Dependency(name="payments", kind="tcp", path=Address("127.0.0.1", 1), direct=Address("127.0.0.1", 1))
    assert path_evidence(snapshot(payments), snapshot(payments), payments) is None
    assert proofs.PathSnapshot(at=0.0).can_tell


def test_a_broker_that_is_used_through_the_proxy_and_one_that_is_not(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, kafka_server: KafkaServer
) -> None:
    from aiokafka import AIOKafkaProducer

    async def produce(address: Address, dependency: Dependency) -> Evidence | None:
        producer = AIOKafkaProducer(bootstrap_servers=str(address), request_timeout_ms=20_000)
        await producer.start()
        try:
            await producer.send_and_wait("proof", b"one")
            before = await asyncio.to_thread(snapshot, dependency)
            await producer.send_and_wait("proof", b"two")
            return path_evidence(before, await asyncio.to_thread(snapshot, dependency), dependency)
        finally:
            await producer.stop()

    with proxied(toxiproxy_server, toxiproxy_process, kafka_server, listen=kafka_server.advertised) as dependency:
        through = asyncio.run(produce(kafka_server.advertised, dependency))
        assert through is not None
        assert through.held, through.observed
        # Connections of the looking process itself are never the application's, and here that is this test.
        past = asyncio.run(produce(kafka_server.direct, dependency))
        assert past is not None
        assert not past.held and "0 connections through the proxy" in past.observed


def test_whoever_goes_past_the_proxy_while_a_fault_is_on_is_named(cache: Dependency) -> None:
    before = snapshot(cache)
    with client(cache.direct, "late") as one:
        one.ping()
        evidence = bypass_evidence(before, snapshot(cache), cache)
    assert evidence is not None and not evidence.held
    assert "1 in use past it (late from 127.0.0.1:" in evidence.observed and f"pid {os.getpid()}" in evidence.observed


def test_where_the_proxys_connections_are_not_known_nothing_is_said_of_any(cache: Dependency) -> None:
    """A proxy of this machine that is not seen: neither who goes through it can be told nor who goes past it."""
    unseen = cache.but(proxy={"pid": None})
    with client(cache.path) as through, client(cache.direct) as past:
        through.ping(), past.ping()
        before = snapshot(unseen)
        through.ping(), past.ping()
        after = snapshot(unseen)
    evidence = path_evidence(before, after, unseen)
    assert evidence is not None and not evidence.held
    assert (
        evidence.observed.startswith("of 2 connections from 127.0.0.1 it cannot be told")
        and "seen_as" in evidence.observed
    )
    assert trouble_of(before, after, unseen) == "it cannot be told whether the target uses redis through the proxy"
    assert bypass_evidence(before, after, unseen) is None


def test_a_fault_on_the_server_itself_hurts_everybody_who_uses_it(cache: Dependency) -> None:
    with client(cache.direct) as one:
        one.ping()
        before = snapshot(cache)
        one.ping()
        evidence = path_evidence(before, snapshot(cache), cache, on_proxy=False)
    assert evidence is not None and evidence.held, evidence


def test_a_session_whose_client_has_left_in_the_middle_of_a_query_is_no_bypass(db: Dependency) -> None:
    """PostgreSQL ends the query first: when a proxy is cut its sessions look like that."""
    before = snapshot(db)
    assert db.direct is not None
    login = f"{db.credentials.login} host={db.direct.host} port={db.direct.port}"
    code = f"import psycopg; psycopg.connect({login!r}).execute('SELECT pg_sleep(20)')"
    leaver = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_until("its query runs", lambda: len(snapshot(db).clients) == 1)
    finally:
        leaver.kill()
        leaver.wait()
    evidence = bypass_evidence(before, snapshot(db), db)
    with psycopg.connect(str(db.credentials.admin), autocommit=True) as admin:
        row = admin.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)%'"
            " AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row == (1,), "the server still had it"
    assert evidence is not None and evidence.held, evidence
