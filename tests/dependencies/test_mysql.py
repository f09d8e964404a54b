"""The kind mysql on a real MariaDB: the contract of kinds, and that its owner notices nothing of being looked at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pymysql
import pytest

from harness.adapters.allowed_hosts import reached, with_admin_host
from harness.adapters.clients.mysql_session import is_ours
from harness.adapters.wire.exchange import ProbeError
from harness.conductor.recovery_probe import MOST_UNFINISHED, Prober
from harness.console.certificate import made
from harness.dependencies.configuration import parse
from harness.dependencies.kind import attempts
from harness.dependencies.mysql import MARIADB, MYSQL
from harness.dependencies.probe import closing, handshake, path_probe
from harness.dependencies.result import ProbeResult
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Address, Dependency
from harness.safety.locks.remote import Wanted, hold_database
from harness.stack.external.declared import dependencies
from harness.testing import DependencyContract
from tests.support.servers.mariadb import PASSWORD, MariaDbServer, declared
from tests.support.servers.proxied import record_like

pytestmark = pytest.mark.stack

NOTICED = ("Aborted_", "Connection_errors_")


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DB_PASSWORD", PASSWORD)


class TestMysql(DependencyContract):
    kind = MYSQL

    @pytest.fixture
    def dependency(self, mariadb_server: MariaDbServer) -> Dependency:
        return declared(mariadb_server)

    def application(self, dependency: Dependency) -> AbstractContextManager[object]:
        assert dependency.path is not None
        return pymysql.connect(host=dependency.path.host, port=dependency.path.port, user="app", password=PASSWORD)


class TestMariadb(TestMysql):
    kind = MARIADB

    @pytest.fixture
    def dependency(self, mariadb_server: MariaDbServer) -> Dependency:
        return declared(mariadb_server).but(kind="mariadb")


@pytest.mark.parametrize("own_login", [True, False], ids=["probe_login", "the application's"])
def test_two_hundred_probes_leave_nothing_on_the_server(mariadb_server: MariaDbServer, own_login: bool) -> None:
    dependency = declared(mariadb_server)
    if not own_login:
        dependency = dependency.but(credentials={"probe_login": None, "probe_password_env": None})
    before, held = mariadb_server.status(*NOTICED), mariadb_server.status("Threads_connected")
    for _ in range(66):
        for probe in (path_probe(dependency), lambda s: handshake(dependency, s), lambda s: closing(dependency, s)):
            assert probe(5.0).ok
    MYSQL.check(dependency, "dependencies.db", None, lambda _: None)
    MYSQL.clients(dependency, (), ())
    MYSQL.identity(dependency)
    MYSQL.counters(dependency).close()
    time.sleep(0.2)
    assert mariadb_server.status(*NOTICED) == before
    assert mariadb_server.status("Threads_connected") == held


def test_probes_of_ours_are_no_client_of_the_application(mariadb_server: MariaDbServer) -> None:
    dependency = declared(mariadb_server).but(credentials={"probe_login": None, "probe_password_env": None})
    attempt = attempts(dependency, dependency.path)(time.monotonic() + 5)
    with MYSQL.login(attempt):
        assert MYSQL.clients(dependency, (), ()) == []
        with pymysql.connect(host="127.0.0.1", port=mariadb_server.address.port, user="app", password=PASSWORD) as app:
            (first,) = MYSQL.clients(dependency, (), ())
            assert first.label == "app" and first.address == Address(*app._sock.getsockname())  # type: ignore[attr-defined]
            (idle,) = MYSQL.clients(dependency, (), ())
            app.query("SELECT 1")
            (used,) = MYSQL.clients(dependency, (), ())
            assert None not in (first.work, idle.work, used.work)
            assert idle.work == first.work < used.work  # type: ignore[operator]


def test_a_session_of_ours_that_has_ended_is_nobody_s(mariadb_server: MariaDbServer) -> None:
    """A server that was started again counts its connections from 1: the application's would be taken for ours."""
    dependency = declared(mariadb_server)
    with MYSQL.login(attempts(dependency, dependency.path)(time.monotonic() + 5)) as session:
        assert is_ours("db", session.id) and not is_ours("other", session.id)
    with MYSQL.admin(dependency) as kept:
        kept.kept_as("harness-kept")
        assert not is_ours("db", kept._session.id)
    time.sleep(1.1)
    assert not is_ours("db", session.id)


@pytest.fixture
def weak(mariadb_server: MariaDbServer) -> Iterator[str]:
    """An admin that may nothing yet."""
    mariadb_server.ask(f"CREATE USER weak@'%' IDENTIFIED BY '{PASSWORD}'")
    yield f"host=127.0.0.1 port={mariadb_server.address.port} user=weak"
    mariadb_server.ask("DROP USER weak@'%'")


def test_a_missing_right_is_told_with_the_grant_and_is_no_error(mariadb_server: MariaDbServer, weak: str) -> None:
    dependency = declared(mariadb_server).but(credentials={"admin": weak, "admin_password_env": "APP_DB_PASSWORD"})
    notes: list[str] = []
    MYSQL.check(dependency, "dependencies.db", None, notes.append)
    (note,) = notes
    assert "GRANT PROCESS ON *.* TO 'weak'@'%';" in note and "connection-limit is off" in note
    with pymysql.connect(host="127.0.0.1", port=mariadb_server.address.port, user="app", password=PASSWORD):
        assert [one.label for one in MYSQL.clients(dependency, (), ())] == ["app"], "by the application's own login"
    mariadb_server.ask(note[note.index("GRANT ") :].rstrip(";"))
    MYSQL.check(dependency, "dependencies.db", None, notes.append)
    assert len(notes) == 1, "said although it has the right"
    MYSQL.check(dependency.but(credentials={"admin": None, "admin_password_env": None}), "x", None, notes.append)
    assert "GRANT PROCESS ON *.*" in notes[1] and "lock" in notes[1]


def test_what_cannot_be_is_one_line(mariadb_server: MariaDbServer) -> None:
    dependency = declared(mariadb_server)

    def refused(error: type[UsageError], words: str, **credentials: str | None) -> None:
        with pytest.raises(error, match=words) as caught:
            MYSQL.check(dependency.but(credentials=credentials), "dependencies.db", None, lambda _: None)
        assert PASSWORD not in str(caught.value) and "\n" not in str(caught.value)

    refused(UsageError, "Access denied for user 'nobody'", login="user=nobody")
    app = f"host=127.0.0.1 port={mariadb_server.address.port} user=app"
    refused(Refused, "the application's own account", admin=app, admin_password_env="APP_DB_PASSWORD")
    refused(Refused, "probes would take its slots", probe_login="user=app")
    refused(UsageError, "dependencies.db.admin: no MySQL session", admin="host=/nowhere user=root")
    refused(UsageError, "no login at .*Access denied", probe_login="user=nobody")


def test_a_password_is_in_no_message(mariadb_server: MariaDbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DB_PASSWORD", "wrong horse")
    found = path_probe(declared(mariadb_server))(5.0)
    assert found.error_kind == "auth" and "wrong horse" not in found.detail


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("dbname=shop", "login names no user"),
        ("user=app sslmode=maybe", "sslmode maybe is not known"),
        ("user=app sslmode=verify-full", "needs sslrootcert"),
        ("user=app target_session_attrs=any", "no connection option of MySQL"),
        ("nonsense", "not understood"),
    ],
)
def test_options_are_looked_at_in_the_file(options: str, words: str) -> None:
    table = MYSQL.table(kind="mysql", direct="127.0.0.1:3306", login=options)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=words):
        table.declared(Dependency(name="db", kind="mysql", direct=Address("127.0.0.1", 3306)), "dependencies.db")


def test_an_admin_elsewhere_says_its_port() -> None:
    table = MYSQL.table(kind="mysql", login="user=app", admin="host=db user=root")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="names a host and no port"):
        table.declared(Dependency(name="db", kind="mysql", direct=Address("127.0.0.1", 3306)), "dependencies.db")


def test_compose_files_get_a_table() -> None:
    lines = MYSQL.table_lines({"MARIADB_USER": "shop", "MARIADB_DATABASE": "orders"}, "DB", None)
    assert 'login = "user=shop dbname=orders"' in lines[0]


def test_one_run_at_a_time_on_a_server(mariadb_server: MariaDbServer) -> None:
    lock = Wanted(admin=mariadb_server.admin, name="db", kind="mysql")
    run, keeper = hold_database(lock, "run-a", 1, "run"), hold_database(lock, "run-a", 2, "keeper")
    run.release()
    hold_database(lock, "run-b", 3, "run").release()
    with pytest.raises(
        Refused,
        match=r"MySQL db is in use by a run \(session \d+ of root at localhost has the lock harness-lock-keeper\)",
    ):
        hold_database(lock, "run-b", 3, "keeper")
    keeper.release()
    hold_database(lock, "run-b", 3, "keeper").release()


def test_tls_is_what_the_login_asks_for(mariadb_server: MariaDbServer, tmp_path: Path) -> None:
    def cipher(options: str) -> str:
        dependency = declared(mariadb_server).but(credentials={"probe_login": f"user=probe {options}"})
        attempt = attempts(dependency, dependency.path)(time.monotonic() + 10)
        with MYSQL.login(attempt) as session:
            return str(session.rows("SHOW STATUS LIKE 'Ssl_cipher'")[0][1])

    verified = f"sslrootcert={mariadb_server.certificate}"
    assert cipher("") and cipher("sslmode=require") and not cipher("sslmode=disable")
    assert cipher(f"sslmode=verify-ca {verified}") and cipher(f"sslmode=verify-full host=localhost {verified}")
    other, _ = made(tmp_path, "localhost")
    before = mariadb_server.status("Connection_errors_")
    for options in (
        f"sslmode=verify-full host=elsewhere.example {verified}",
        f"sslmode=verify-ca sslrootcert={other}",
    ):
        with pytest.raises(ProbeError, match="TLS failed") as failed:
            cipher(options)
        assert failed.value.kind == "protocol"
    assert mariadb_server.status("Connection_errors_") == before


def test_probes_that_get_no_answer_are_few() -> None:
    """Each leaves an unfinished login on the server; those that are answered leave nothing, and go on."""
    dependency = Dependency(name="db", kind="mysql")

    def prober(ok: bool) -> Prober:
        def run(_: float) -> ProbeResult:
            now = time.monotonic()
            return ProbeResult(ok=ok, started=now, ended=now, error_kind=None if ok else "timeout")

        return Prober(dependency, record_like(dependency), every_s=0.01, run=run)

    silent, well = prober(False), prober(True)
    for one in (silent, well):
        one.start()
    until = time.monotonic() + 20
    while len(well.results()) < 12 and time.monotonic() < until:
        time.sleep(0.01)
    for one in (silent, well):
        one.stop()
    assert len(well.results()) >= 12 and len(silent.results()) < 12
    assert 1 <= len(silent.results()) <= MOST_UNFINISHED


def test_a_table_of_harness_toml_is_read(tmp_path: Path) -> None:
    text = """
[target]
url = "http://127.0.0.1:8000"

[dependencies.shop]
kind = "mariadb"
direct = "127.0.0.1:3307"
login = "user=shop dbname=shop"
password_env = "SHOP_DB_PASSWORD"
admin = "user=root"
"""
    found = dependencies(parse(text.encode(), tmp_path / "harness.toml"), "http://127.0.0.1:8000")[0]
    assert (found.kind, found.credentials.role, found.credentials.password_env) == (
        "mariadb",
        "shop",
        "SHOP_DB_PASSWORD",
    )
    assert reached(with_admin_host(found)) == [("127.0.0.1", 3307)], "an admin without a host is for the server itself"
    with pytest.raises(UsageError, match="login is missing"):
        parse(text.replace('login = "user=shop dbname=shop"', "").encode(), tmp_path / "harness.toml")
    with pytest.raises(UsageError, match="a password does not belong in this file"):
        parse(text.replace("dbname=shop", "password=hunter2").encode(), tmp_path / "harness.toml")
