"""The PostgreSQL admin session on a real server: what is said when it breaks, and what it never touches."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import psycopg
import pytest

from harness.adapters.clients.postgres_admin import Admin, Role, conninfo, quote_identifier
from harness.adapters.clients.postgres_probe import Login
from harness.model.clock import monotonic
from harness.model.errors import OutcomeUnknown, Rejected, Unreachable, UsageError
from harness.model.records.faults import Address
from tests.support.servers.real import PostgresServer

pytestmark = pytest.mark.stack


@pytest.fixture
def role(postgres_server: PostgresServer) -> Iterator[Role]:
    with Admin(postgres_server.admin) as admin:
        found = admin.role(name=postgres_server.role)
        assert found is not None
        yield found
        admin.set_limit(found, -1)


def test_a_session_of_ours_is_neither_counted_as_theirs_nor_ended(postgres_server: PostgresServer, role: Role) -> None:
    """The probes log in as the application's role where there is no other login."""
    with (
        Login(postgres_server.login, postgres_server.address, password=None, deadline=monotonic() + 20) as ours,
        Admin(postgres_server.admin) as admin,
    ):
        assert admin.session_count(role) == 1
        assert not [session for session in admin.sessions() if session.role == role.name]
        with pytest.raises(Rejected, match="1 sessions of role"):
            admin.end_excess(role, 0, limit_s=0.2)
        ours.select(b"SELECT 1")


def test_a_statement_that_waits_too_long_was_not_done(postgres_server: PostgresServer, role: Role) -> None:
    with psycopg.connect(postgres_server.admin) as other, Admin(postgres_server.admin, timeout_s=1.0) as admin:
        other.execute(f"ALTER ROLE {role.name} CONNECTION LIMIT 9".encode())  # holds the row until its transaction ends
        with pytest.raises(Rejected, match=r"57014|55P03|tuple concurrently"):
            admin.set_limit(role, 3)
        other.rollback()
        assert admin.role(oid=role.oid) == role


def test_a_session_that_breaks_under_a_statement_leaves_it_unknown(postgres_server: PostgresServer, role: Role) -> None:
    with psycopg.connect(postgres_server.admin) as other, Admin(postgres_server.admin, timeout_s=20.0) as admin:
        other.execute(f"ALTER ROLE {role.name} CONNECTION LIMIT 9".encode())

        def end_it() -> None:
            with psycopg.connect(postgres_server.admin, autocommit=True) as third:
                waiting = b"SELECT pid FROM pg_stat_activity WHERE application_name = %s AND wait_event_type = 'Lock'"
                while not (rows := third.execute(waiting, ("harness-admin",)).fetchall()):
                    pass
                third.execute("SELECT pg_terminate_backend(%s)", rows[0])

        thread = threading.Thread(target=end_it)
        thread.start()
        with pytest.raises(OutcomeUnknown, match="session broke"):
            admin.set_limit(role, 3)
        thread.join()
        other.rollback()


def test_no_server_means_not_done_and_no_password_is_told() -> None:
    with pytest.raises(Unreachable) as error:
        Admin("host=127.0.0.1 port=1 user=x dbname=y", password="hunter2")
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "options", ["user=x password='hunter2", "hunter2 x", "postgresql://x:hunter2@[::1", "nonsense=1"]
)
def test_options_that_do_not_parse_are_not_echoed(options: str) -> None:
    with pytest.raises(UsageError) as error:
        conninfo(options, address=Address("127.0.0.1", 1))
    assert "hunter2" not in str(error.value)


def test_the_address_of_the_path_wins_over_every_other(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An address in the login's options or in the environment must not lead past the proxy."""
    for name, value in (("PGHOST", "127.0.0.2"), ("PGHOSTADDR", "127.0.0.2"), ("PGPORT", "1")):
        monkeypatch.setenv(name, value)
    options = f"{postgres_server.probe_login} host=elsewhere hostaddr=127.0.0.2 port=1"
    with Login(options, postgres_server.address, password=None, deadline=monotonic() + 20) as login:
        login.select(b"SELECT 1")
    text = conninfo(options, address=Address("127.0.0.1", 5))
    assert "elsewhere" not in text and "127.0.0.2" not in text


def test_a_role_is_found_by_name_or_by_number(postgres_server: PostgresServer, role: Role) -> None:
    with Admin(postgres_server.admin) as admin:
        assert admin.role(oid=role.oid) == role
        assert admin.role(name="no such role") is None
        assert admin.system_identifier().isdigit()
        assert admin.user() != role.name


def test_names_are_quoted_for_people_to_paste(postgres_server: PostgresServer) -> None:
    hostile = 'a"b; --'
    with psycopg.connect(postgres_server.admin) as admin:
        admin.execute(f"CREATE ROLE {quote_identifier(hostile)}".encode())
        assert admin.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", (hostile,)).fetchone() == (1,)
        admin.rollback()
