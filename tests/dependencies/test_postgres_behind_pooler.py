"""application - PgBouncer - proxy - PostgreSQL: what must come through the proxy are PgBouncer's own sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from harness.conductor.path_proof.clients import snapshot
from harness.conductor.path_proof.evidence import path_evidence
from harness.dependencies.configuration import load
from harness.fault import registered
from harness.model.records.faults import Dependency
from harness.model.records.process import ServerProcess
from harness.stack.external.check import look
from harness.testing import assert_fault_contract
from tests.support.servers.pooler import in_front, login, pgbouncer
from tests.support.servers.proxied import outside
from tests.support.servers.real import PostgresServer, wait_until

pytestmark = pytest.mark.stack

Shop = psycopg.Connection[tuple[object, ...]]


@pytest.fixture
def db(
    tmp_path: Path, toxiproxy_server: str, toxiproxy_process: ServerProcess, postgres_server: PostgresServer
) -> Iterator[tuple[Dependency, Shop]]:
    file = tmp_path / "harness.toml"
    file.write_text(
        f'[target]\nurl = "{toxiproxy_server}"\nhealth = "/version"\n[toxiproxy]\nurl = "{toxiproxy_server}"\n'
        f'[dependencies.db]\nkind = "postgres"\nproxy = "behind-pooler"\ndirect = "{postgres_server.address}"\n'
        f'login = "{postgres_server.login}"\nadmin = "{postgres_server.admin}"\n'
        f'probe_login = "{postgres_server.probe_login}"\n'
    )
    with (
        in_front(toxiproxy_server, "behind-pooler", postgres_server.address) as path,
        pgbouncer(path) as front,
        psycopg.connect(login(front.address), autocommit=True) as shop,
    ):
        looks = look(load(file), toxiproxy_server, allow_hosts=())
        yield next(one for one in looks.dependencies if one.name == "db"), shop


def test_the_poolers_sessions_are_told_from_others(db: tuple[Dependency, Shop]) -> None:
    one, shop = db
    assert not one.pooled
    shop.execute("SELECT 1")
    before = snapshot(one)
    assert before.clients and all(client.on_proxy for client in before.clients)
    shop.execute("SELECT 1")
    evidence = path_evidence(before, snapshot(one), one)
    assert evidence is not None and evidence.held, evidence


@pytest.mark.parametrize(
    "kind",
    ["down", "connection-limit", *(pytest.param(one, marks=pytest.mark.thorough) for one in ("latency", "hang"))],
)
def test_faults_on_the_poolers_path_keep_their_contract(kind: str, db: tuple[Dependency, Shop]) -> None:
    one, shop = db
    shop.execute("SELECT 1")
    assert_fault_contract(registered()[kind], one, look=outside)
    wait_until("PgBouncer has tried again", lambda: _works(shop), 30)


def _works(shop: Shop) -> bool:
    try:
        return bool(shop.execute("SELECT 1").fetchall())
    except psycopg.OperationalError:
        return False
