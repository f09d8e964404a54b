"""PostgreSQL over TLS through a real proxy: the certificate is held against the server's name wherever the connection
goes, and every probe ends in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from harness.dependencies.configuration import load
from harness.dependencies.postgres import POSTGRES
from harness.dependencies.probe import handshake, path_probe
from harness.fault import registered
from harness.model.records.faults import Address, Dependency
from harness.stack.external.check import Look, look
from harness.testing import assert_fault_contract
from harness.testing.dependency_contract import assert_moves
from tests.support.servers.pooler import in_front
from tests.support.servers.proxied import raw
from tests.support.servers.tls_postgres import NAME, TlsPostgres, tls_postgres

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def server() -> Iterator[TlsPostgres]:
    with tls_postgres() as found:
        yield found


@pytest.fixture
def proxy(toxiproxy_server: str, server: TlsPostgres) -> Iterator[Address]:
    with in_front(toxiproxy_server, "tls", server.address) as address:
        yield address


def looked(folder: Path, toxiproxy: str, server: TlsPostgres, tls: str) -> Look:
    file = folder / "harness.toml"
    file.write_text(
        f'[target]\nurl = "{toxiproxy}"\nhealth = "/version"\n[toxiproxy]\nurl = "{toxiproxy}"\n[dependencies.db]\n'
        f'kind = "postgres"\nproxy = "tls"\ndirect = "{server.address}"\nadmin = "{server.admin}"\n'
        f'login = "user=anomaly_api dbname=anomalies {tls}"\n'
        f'probe_login = "user=harness_probe dbname=anomalies {tls}"\n'
    )
    return look(load(file), toxiproxy, allow_hosts=())


def verified(server: TlsPostgres, name: str | None = NAME, ca: Path | None = None) -> str:
    host = f"host={name} " if name else ""
    return f"{host}sslmode=verify-full sslrootcert={ca or server.ca}"


@pytest.fixture
def db(tmp_path: Path, toxiproxy_server: str, server: TlsPostgres, proxy: Address) -> Dependency:
    looks = looked(tmp_path, toxiproxy_server, server, verified(server))
    trouble = [part.trouble for part in looks.parts if part.trouble is not None]
    assert not trouble, trouble
    return next(one for one in looks.dependencies if one.name == "db")


def trouble_of(looks: Look) -> str:
    return str(next(part.trouble for part in looks.parts if part.name == "db"))


def test_the_certificate_is_held_against_the_servers_name_at_each_address(db: Dependency, proxy: Address) -> None:
    assert db.path == proxy and path_probe(db)(9.0).ok
    assert POSTGRES.identity(db)
    assert_moves(db)


def test_a_certificate_of_another_name_or_authority_is_refused(
    tmp_path: Path, toxiproxy_server: str, server: TlsPostgres, proxy: Address
) -> None:
    other_name = trouble_of(looked(tmp_path, toxiproxy_server, server, verified(server, "db.other.test")))
    assert "certificate" in other_name and "db.other.test" in other_name
    # Without a name it is the one of `direct`, here an address.
    assert "127.0.0.1" in trouble_of(looked(tmp_path, toxiproxy_server, server, verified(server, None)))
    unknown = trouble_of(looked(tmp_path, toxiproxy_server, server, verified(server, ca=server.other_ca)))
    assert "certificate verify failed" in unknown
    assert "no encryption" in trouble_of(looked(tmp_path, toxiproxy_server, server, "sslmode=disable"))


def test_the_name_of_direct_is_the_certificates_where_a_login_has_none(
    tmp_path: Path, toxiproxy_server: str, server: TlsPostgres
) -> None:
    from harness.stack.external.declared import dependencies

    file = tmp_path / "harness.toml"
    file.write_text(
        f'[target]\nurl = "http://127.0.0.1:1"\n[dependencies.db]\nkind = "postgres"\ndirect = "{NAME}:5432"\n'
        f'login = "user=a {verified(server, None)}"\n'
    )
    (found, _) = dependencies(load(file), "http://127.0.0.1:1")
    assert f"host={NAME}" in (found.credentials.login or "")


def test_probes_over_tls_end_in_order(db: Dependency, server: TlsPostgres) -> None:
    ask = "SELECT sum(sessions_abandoned), sum(sessions_fatal), sum(sessions_killed) FROM pg_stat_database"
    with psycopg.connect(server.admin, autocommit=True) as admin:
        before = admin.execute(ask).fetchone()
        said = len(server.log.read_text())
        assert all(path_probe(db)(9.0).ok for _ in range(200))
        assert all(handshake(db, 9.0).ok for _ in range(20))
        time.sleep(0.5)  # the last session reports what it did
        assert admin.execute(ask).fetchone() == before
        assert server.log.read_text()[said:] == "", "PostgreSQL logs a connection that is left in the middle"


@pytest.mark.parametrize("kind", ["down", "latency", "hang", "reset", "connection-limit"])
def test_faults_keep_their_contract_over_tls(kind: str, db: Dependency, server: TlsPostgres) -> None:
    def outside(one: Dependency) -> object:
        with psycopg.connect(server.admin) as connection:
            roles = connection.execute("SELECT rolname, rolconnlimit FROM pg_roles ORDER BY 1").fetchall()
        return raw(f"{one.proxy.url}/proxies/{one.proxy.name}"), roles

    assert_fault_contract(registered()[kind], db, look=outside)
