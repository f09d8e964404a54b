"""What an administrator of PostgreSQL lacks is named with the statements that grant it, and these suffice."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from harness.dependencies.registry import kind_of
from harness.fault import registered
from harness.model.records.faults import Dependency
from harness.model.records.process import ServerProcess
from tests.support.servers.proxied import outside, proxied
from tests.support.servers.real import PostgresServer

pytestmark = pytest.mark.stack


@pytest.fixture
def db(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, postgres_server: PostgresServer
) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, postgres_server) as dependency:
        yield dependency


@pytest.fixture
def clerk(db: Dependency) -> Iterator[Dependency]:
    """The same, administered by a login that has no rights yet: that of the probes."""
    assert db.credentials.admin is not None and db.credentials.probe_login is not None and db.direct is not None
    login = f"{db.credentials.probe_login} host={db.direct.host} port={db.direct.port}"
    name = conninfo_to_dict(login)["user"]
    try:
        yield db.but(credentials={"admin": login})
    finally:
        with psycopg.connect(db.credentials.admin, autocommit=True) as admin:
            admin.execute(f'REVOKE "{db.credentials.role}", pg_read_all_stats FROM "{name}"'.encode())
            admin.execute(f'ALTER ROLE "{name}" NOCREATEROLE'.encode())


def notes(dependency: Dependency) -> list[str]:
    found: list[str] = []
    kind_of(dependency).check(dependency, "db", None, found.append)
    return found


def test_the_statements_of_the_note_are_what_connection_limit_needs(clerk: Dependency, db: Dependency) -> None:
    (note,) = notes(clerk)
    assert "connection-limit would fail" in note and "cannot be seen" in note
    statements = note.partition("to grant it: ")[2]
    assert db.credentials.admin is not None
    with psycopg.connect(db.credentials.admin, autocommit=True) as admin:
        for statement in statements.split("; "):
            admin.execute(statement.encode())
    assert notes(clerk) == [] and notes(db) == []
    before = outside(db)
    fault = registered()["connection-limit"]
    record = fault.capture(fault.plan(clerk, {"limit": 1}), "rights")
    try:
        fault.inject(record)
        assert outside(db) != before
    finally:
        fault.undo(record)
    assert outside(db) == before


def test_without_an_administrator_the_note_says_which_login_suffices(db: Dependency) -> None:
    (note,) = notes(db.but(credentials={"admin": None}))
    assert f'GRANT "{db.credentials.role}" TO "harness_admin" WITH ADMIN OPTION' in note


def test_a_role_to_which_no_limit_applies_is_told_before_any_load(db: Dependency) -> None:
    """The official image makes a superuser of POSTGRES_USER."""
    assert db.credentials.admin is not None
    with psycopg.connect(db.credentials.admin, autocommit=True) as admin:
        admin.execute("CREATE ROLE unlimited SUPERUSER")
        try:
            (note,) = notes(db.but(credentials={"role": "unlimited"}))
        finally:
            admin.execute("DROP ROLE unlimited")
    assert "the role unlimited is a superuser" in note and "connection-limit would be refused" in note
    assert notes(db) == []
