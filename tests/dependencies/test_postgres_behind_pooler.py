"""application - PgBouncer - proxy - PostgreSQL: what must come through the proxy are PgBouncer's own sessions."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from harness.conductor.path_proof.clients import snapshot
from harness.conductor.path_proof.evidence import path_evidence
from harness.dependencies.configuration import load
from harness.fault import registered
from harness.model.records.process import ServerProcess
from harness.stack.external.check import look
from harness.testing import assert_fault_contract
from tests.support.servers.pooler import in_front, login, pgbouncer
from tests.support.servers.proxied import outside
from tests.support.servers.real import PostgresServer, wait_until

pytestmark = pytest.mark.stack


def test_the_poolers_sessions_are_told_from_others_and_its_faults_are_proven(
    tmp_path: Path,
    toxiproxy_server: str,
    toxiproxy_process: ServerProcess,
    postgres_server: PostgresServer,
) -> None:
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
        db = next(one for one in looks.dependencies if one.name == "db")
        assert not db.pooled
        shop.execute("SELECT 1")
        before = snapshot(db)
        assert before.clients and all(one.on_proxy for one in before.clients)
        shop.execute("SELECT 1")
        evidence = path_evidence(before, snapshot(db), db)
        assert evidence is not None and evidence.held, evidence
        for kind in ("down", "latency", "hang", "connection-limit"):
            assert_fault_contract(registered()[kind], db, look=outside)
            wait_until("PgBouncer has tried again", lambda: _works(shop), 30)


def _works(shop: psycopg.Connection[tuple[object, ...]]) -> bool:
    try:
        return bool(shop.execute("SELECT 1").fetchall())
    except psycopg.OperationalError:
        return False
