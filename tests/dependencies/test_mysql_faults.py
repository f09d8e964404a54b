"""Faults on a real MariaDB behind a real Toxiproxy, and a locked table in both databases: the contract of faults, the
death of whoever injected, and what the server's owner would notice."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import msgspec
import psycopg
import pymysql
import pytest

from faults.servers.lock import LEASE_S
from harness.conductor.recovery_probe import Prober
from harness.dependencies.probe import path_probe
from harness.fault import registered
from harness.model.errors import Refused, Rejected, UndoUnverified
from harness.model.records.faults import Dependency, UndoRecord
from harness.model.records.process import ServerProcess
from harness.safety.healing.undo import undo_record
from harness.testing import assert_fault_contract, assert_held, assert_refused, change_for, held, through_json
from harness.testing.fault_contract import undo_elsewhere
from tests.support.servers.mariadb import MOST_ERRORS, PASSWORD, MariaDbServer, behind, declared
from tests.support.servers.proxied import outside as postgres_outside
from tests.support.servers.proxied import proxied, raw
from tests.support.servers.real import PostgresServer

pytestmark = pytest.mark.stack

NEAR_NONE = 12
"""Of a server's 100 unless it is told otherwise."""
INJECT = """
import sys, time, msgspec
from harness.fault import registered
from harness.model.records.faults import UndoRecord
record = msgspec.json.decode(sys.stdin.buffer.read(), type=UndoRecord)
registered()[record.kind].inject(record)
print("on", flush=True)
time.sleep(300)
"""


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DB_PASSWORD", PASSWORD)


@pytest.fixture
def mysql(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, mariadb_server: MariaDbServer
) -> Iterator[Dependency]:
    with behind(toxiproxy_server, toxiproxy_process.pid, mariadb_server) as dependency:
        yield dependency


@pytest.fixture
def postgres(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, postgres_server: PostgresServer
) -> Iterator[Dependency]:
    with psycopg.connect(postgres_server.admin, autocommit=True) as admin:
        admin.execute("CREATE TABLE IF NOT EXISTS orders (id int)")
        admin.execute(f"GRANT ALL ON orders TO {postgres_server.role}".encode())
    with proxied(toxiproxy_server, toxiproxy_process, postgres_server) as dependency:
        database = psycopg.conninfo.conninfo_to_dict(postgres_server.admin)["dbname"]
        yield dependency.but(credentials={"login": f"user={postgres_server.role} dbname={database}"})


def outside(server: MariaDbServer) -> Callable[[Dependency], Any]:
    def look(dependency: Dependency) -> Any:
        return [
            raw(f"{dependency.proxy.url}/proxies/{dependency.proxy.name}"),
            server.ask("SELECT User, Host, max_user_connections, authentication_string FROM mysql.user ORDER BY 1, 2"),
            server.ask("SHOW GRANTS FOR app@'%'"),
            server.ask("SHOW OPEN TABLES WHERE In_use > 0"),
        ]

    return look


def application(dependency: Dependency) -> pymysql.Connection[Any]:
    assert dependency.path is not None
    where = {"host": dependency.path.host, "port": dependency.path.port}
    return pymysql.connect(**where, user="app", password=PASSWORD, database="shop", autocommit=True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("down", {}),
        ("latency", {}),
        ("hang", {}),
        ("slow-close", {}),
        ("bandwidth", {}),
        ("connection-limit", {}),
        ("lock", {"table": "orders"}),
    ],
)
def test_a_fault_is_proven_while_on_and_undone_without_a_trace(
    kind: str, params: dict[str, str], mysql: Dependency, mariadb_server: MariaDbServer
) -> None:
    assert_fault_contract(registered()[kind], mysql, look=outside(mariadb_server), params=params)


def test_reset_is_seen_and_undone(mysql: Dependency, mariadb_server: MariaDbServer) -> None:
    assert_fault_contract(registered()["reset"], mysql, look=outside(mariadb_server))


def test_a_locked_table_in_postgres_keeps_the_contract(postgres: Dependency) -> None:
    assert_fault_contract(registered()["lock"], postgres, look=_with_locks, params={"table": "orders"})


def _with_locks(dependency: Dependency) -> Any:
    with psycopg.connect(str(dependency.credentials.admin)) as connection:
        locks = connection.execute("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'").fetchall()
    return [postgres_outside(dependency), locks]


@contextmanager
def injected_elsewhere(record: UndoRecord) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", INJECT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(msgspec.json.encode(record))
        process.stdin.close()
        assert process.stdout.readline() == b"on\n"
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize(("kind", "params"), [("connection-limit", {}), ("lock", {"table": "shop.orders"})])
def test_the_death_of_whoever_injected_is_undone_elsewhere(
    kind: str, params: dict[str, str], mysql: Dependency, mariadb_server: MariaDbServer
) -> None:
    fault, look = registered()[kind], outside(mariadb_server)
    before = look(mysql)
    record = through_json(fault.capture(change_for(fault, mysql, **params), "r"))
    with injected_elsewhere(record) as process:
        assert_held(fault.prove(record, "injected"))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert_held(undo_elsewhere(record, {}))
    assert_held(fault.verify_undone(record))
    assert look(mysql) == before


@pytest.mark.parametrize("which", ["mysql", "postgres"])
def test_the_server_itself_ends_the_lock_of_a_harness_that_stands_still(
    which: str, request: pytest.FixtureRequest
) -> None:
    dependency: Dependency = request.getfixturevalue(which)
    fault = registered()["lock"]
    record = through_json(fault.capture(change_for(fault, dependency, table="orders"), "r"))
    with injected_elsewhere(record) as process:
        assert_held(fault.prove(record, "injected"))
        process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + LEASE_S + 20
        while held(fault.prove(record, "held")) and time.monotonic() < until:
            time.sleep(0.5)
        assert not held(fault.prove(record, "held")), "the lease is not enforced"
        assert_held(fault.verify_undone(record))


@contextmanager
def transaction(which: str, dependency: Dependency) -> Iterator[None]:
    """Somebody has just read the table and not ended their transaction."""
    if which == "postgres":
        with psycopg.connect(str(dependency.credentials.admin)) as reader:
            reader.execute("SELECT count(*) FROM orders")
            yield
        return
    with application(dependency) as connection:
        connection.query("BEGIN")
        connection.query("SELECT COUNT(*) FROM orders")
        yield


@pytest.mark.parametrize("which", ["mysql", "postgres"])
def test_a_lock_that_cannot_be_had_is_given_up_soon(which: str, request: pytest.FixtureRequest) -> None:
    dependency: Dependency = request.getfixturevalue(which)
    fault = registered()["lock"]
    record = fault.capture(change_for(fault, dependency, table="orders"), "r")
    with transaction(which, dependency):
        began = time.monotonic()
        with pytest.raises(Rejected, match=r"1205|55P03"):
            fault.inject(record)
        assert time.monotonic() - began < 10
        assert not held(fault.prove(record, "injected"))
    fault.undo(record)
    assert_held(fault.verify_undone(record))


@pytest.mark.parametrize("which", ["mysql", "postgres"])
def test_a_table_is_named_and_is_one(which: str, request: pytest.FixtureRequest) -> None:
    dependency: Dependency = request.getfixturevalue(which)
    fault = registered()["lock"]
    assert_refused(fault, dependency)
    with pytest.raises(Refused, match="needs to be told which table"):
        change_for(fault, dependency)
    for name in ("no_such_table", "no.such.table", "orders; DROP TABLE orders", "orders`", 'orders"'):
        with pytest.raises(Refused, match="has no table"):
            fault.capture(change_for(fault, dependency, table=name), "r")


def test_missing_rights_are_refused_with_the_grant_that_helps(mysql: Dependency, mariadb_server: MariaDbServer) -> None:
    mariadb_server.ask(f"CREATE USER weak@'%' IDENTIFIED BY '{PASSWORD}'")
    mariadb_server.ask("GRANT SELECT ON mysql.* TO weak@'%'")
    mariadb_server.ask("GRANT SELECT ON shop.orders TO weak@'%'")
    admin = f"host=127.0.0.1 port={mariadb_server.address.port} user=weak"
    weak = mysql.but(credentials={"admin": admin, "admin_password_env": "APP_DB_PASSWORD"})
    try:
        for kind, params in (("connection-limit", {}), ("lock", {"table": "orders"})):
            fault = registered()[kind]
            with pytest.raises(Refused) as refused:
                fault.capture(change_for(fault, weak, **params), "r")
            grant = str(refused.value.hint).removeprefix("what would let it: ")
            assert grant.startswith("GRANT "), refused.value
            mariadb_server.ask(grant.rstrip(";"))
            record = fault.capture(change_for(fault, weak, **params), "r")
            try:
                fault.inject(record)
                assert_held(fault.prove(record, "injected"))
            finally:
                fault.undo(record)
            assert_held(fault.verify_undone(record))
    finally:
        mariadb_server.ask("DROP USER weak@'%'")


def test_a_limit_counts_what_it_promises_and_a_third_state_is_left(
    mysql: Dependency, mariadb_server: MariaDbServer
) -> None:
    fault = registered()["connection-limit"]
    with pytest.raises(Refused, match="a limit of 0 means none"):
        change_for(fault, mysql, limit="0")
    mariadb_server.ask("ALTER USER app@'%' WITH MAX_USER_CONNECTIONS 2")
    try:
        with pytest.raises(Refused, match="already limited to 2"):
            fault.capture(change_for(fault, mysql), "r")
        mariadb_server.ask("ALTER USER app@'%' WITH MAX_USER_CONNECTIONS 50")
        record = fault.capture(change_for(fault, mysql, limit="1"), "r")
        with closing(application(mysql)), closing(application(mysql)):
            fault.inject(record)
            until = time.monotonic() + 10
            while True:
                try:
                    only = application(mysql)
                    break
                except pymysql.OperationalError:  # a session that was ended counts for a moment more
                    assert time.monotonic() < until
            with closing(only), pytest.raises(pymysql.OperationalError, match="1226"):
                application(mysql)
        mariadb_server.ask("ALTER USER app@'%' WITH MAX_USER_CONNECTIONS 7")
        with pytest.raises(UndoUnverified, match="somebody changed it") as left:
            fault.undo(record)
        assert left.value.mend == "ALTER USER 'app'@'%' WITH MAX_USER_CONNECTIONS 50;"
        mariadb_server.ask(left.value.mend.rstrip(";"))
        assert_held(fault.verify_undone(record))
    finally:
        mariadb_server.ask("ALTER USER app@'%' WITH MAX_USER_CONNECTIONS 0")


def test_two_accounts_of_one_name_are_refused(mysql: Dependency, mariadb_server: MariaDbServer) -> None:
    mariadb_server.ask("CREATE USER app@'10.%'")
    try:
        with pytest.raises(Rejected, match="2 accounts called app"):
            fault = registered()["connection-limit"]
            fault.capture(change_for(fault, mysql), "r")
    finally:
        mariadb_server.ask("DROP USER app@'10.%'")


def test_a_hang_that_is_looked_at_for_long_blocks_nobody(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, mariadb_server: MariaDbServer
) -> None:
    """An answer that does not come leaves an unfinished login on the server, which bears few of them in a row."""
    if mariadb_server.elsewhere is None:
        pytest.skip("needs an address that is not loopback: from there nobody is blocked")
    with behind(toxiproxy_server, toxiproxy_process.pid, mariadb_server, mariadb_server.elsewhere) as dependency:
        fault = registered()["hang"]
        record = fault.capture(change_for(fault, dependency), "r")
        fault.inject(record)
        assert_held(fault.prove(record, "injected"))
        for _ in range(2 * MOST_ERRORS):
            assert_held(fault.prove(record, "held"))
        fault.undo(record)
        assert_held(fault.verify_undone(record))
        assert path_probe(dependency)(5.0).ok


def test_a_hang_leaves_hardly_an_unfinished_login(mysql: Dependency, mariadb_server: MariaDbServer) -> None:
    """As a run goes about it: the proof every second of a long phase, probes around the undo."""
    fault, before = registered()["hang"], mariadb_server.status("Aborted_connects")["Aborted_connects"]
    record = fault.capture(change_for(fault, mysql), "long")
    fault.inject(record)
    assert_held(fault.prove(record, "injected"))
    for _ in range(30):
        assert_held(fault.prove(record, "held"))
    prober = Prober(mysql, record)
    prober.start()
    time.sleep(3.0)
    asked = time.monotonic()
    outcome = undo_record(record, on_answer=prober.look_now)
    zero = prober.first_good_after(asked, wait_s=20.0)
    prober.stop()
    assert outcome.state == "verified", outcome.left
    assert zero is not None, "recovery still has its zero"
    time.sleep(0.5)
    assert mariadb_server.status("Aborted_connects")["Aborted_connects"] - before <= NEAR_NONE


def test_the_server_blocks_whoever_leaves_logins_unfinished(mariadb_server: MariaDbServer) -> None:
    """So that the test before means something."""
    if mariadb_server.elsewhere is None:
        pytest.skip("needs an address that is not loopback: from there nobody is blocked")
    there = mariadb_server.elsewhere
    for _ in range(MOST_ERRORS + 1):
        with socket.create_connection((there.host, there.port)) as bare:
            bare.recv(100)
        time.sleep(0.1)
    found = path_probe(declared(mariadb_server, path=there, direct=there))(5.0)
    mariadb_server.ask("FLUSH HOSTS")
    assert not found.ok and "blocked because of many connection errors" in found.detail
    assert not found.full
