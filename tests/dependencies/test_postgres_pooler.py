"""PostgreSQL behind Debian's PgBouncer: who is connected and what is full comes from its own console, through a real
Toxiproxy before it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import msgspec
import psycopg
import pytest

from faults.path.health import answers_normally
from harness.conductor.path_proof.clients import snapshot
from harness.conductor.path_proof.evidence import path_evidence
from harness.dependencies.configuration import load
from harness.dependencies.counters import Counters
from harness.dependencies.kind import attempts
from harness.dependencies.postgres import POSTGRES
from harness.dependencies.probe import path_probe
from harness.fault import registered
from harness.model.clock import monotonic
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Address, Dependency, UndoRecord
from harness.model.records.process import ServerProcess
from harness.stack.external.check import Look, look
from harness.testing import assert_fault_contract, assert_held, change_for, held, through_json
from harness.testing.fault_contract import UNDO_ELSEWHERE
from tests.support.servers.pooler import (
    PASSWORD,
    PASSWORD_ENV,
    STRANGER,
    WATCHER,
    Pooler,
    in_front,
    login,
    pgbouncer,
)
from tests.support.servers.proxied import raw, record_like
from tests.support.servers.real import PostgresServer, wait_until

pytestmark = pytest.mark.stack
_numbers = count(1)


@pytest.fixture(scope="module")
def pooler(postgres_server: PostgresServer) -> Iterator[Pooler]:
    with pgbouncer(postgres_server.address) as found:
        yield found


@pytest.fixture
def listens(toxiproxy_server: str, pooler: Pooler, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Address]]:
    """A proxy in front of PgBouncer: its name, and where it listens."""
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    name = f"pooled{next(_numbers)}"
    with in_front(toxiproxy_server, name, pooler.address) as address:
        yield name, address


def looked(folder: Path, toxiproxy: str, proxy: str, direct: Address, more: str) -> Look:
    file = folder / "harness.toml"
    file.write_text(
        f'[target]\nurl = "{toxiproxy}"\nhealth = "/version"\n[toxiproxy]\nurl = "{toxiproxy}"\n[dependencies.db]\n'
        f'kind = "postgres"\nproxy = "{proxy}"\ndirect = "{direct}"\n{more}'
    )
    return look(load(file), toxiproxy, allow_hosts=())


def found(looks: Look) -> Dependency:
    trouble = [part.trouble for part in looks.parts if part.trouble is not None]
    assert not trouble, trouble
    return next(one for one in looks.dependencies if one.name == "db")


def trouble_of(looks: Look) -> str:
    part = next(part for part in looks.parts if part.name == "db")
    assert part.trouble is not None
    return f"{part.trouble} ({part.trouble.hint})"


def pooled(user: str = WATCHER) -> str:
    secret = f'password_env = "{PASSWORD_ENV}"\npooler_password_env = "{PASSWORD_ENV}"\n'
    return f'login = "user=anomaly_api dbname=anomalies"\n{secret}pooler_admin = "user={user}"\n'


@pytest.fixture
def db(
    tmp_path: Path,
    toxiproxy_server: str,
    toxiproxy_process: ServerProcess,
    pooler: Pooler,
    listens: tuple[str, Address],
    postgres_server: PostgresServer,
) -> Dependency:
    """As `harness run` would have it."""
    return found(
        looked(
            tmp_path,
            toxiproxy_server,
            listens[0],
            pooler.address,
            pooled() + f'admin = "{postgres_server.admin}"\nprobe_login = "user=harness_probe dbname=anomalies"\n'
            f'probe_password_env = "{PASSWORD_ENV}"\n',
        )
    )


def without_probe_login(db: Dependency) -> Dependency:
    """Probes wait in the application's own pool."""
    return db.but(credentials={"probe_login": None, "probe_password_env": None})


def test_a_console_is_said_to_prove_the_path_and_none_is_missed(
    tmp_path: Path, toxiproxy_server: str, pooler: Pooler, listens: tuple[str, Address]
) -> None:
    with_console = looked(tmp_path, toxiproxy_server, listens[0], pooler.address, pooled())
    one = found(with_console)
    assert one.pooled and POSTGRES.tells_clients(one) and POSTGRES.countable(one)
    assert not [note for note in with_console.notes if note.startswith("db:")]
    bare = pooled().rpartition("pooler_password_env")[0]
    without = looked(tmp_path, toxiproxy_server, listens[0], pooler.address, bare)
    assert not POSTGRES.tells_clients(found(without))
    (note,) = [note for note in without.notes if note.startswith("db:")]
    assert "declare `pooler_admin`, a user of `stats_users`" in note


def test_a_login_without_the_right_is_no_error_and_the_line_that_gives_it_is_told(
    tmp_path: Path, toxiproxy_server: str, pooler: Pooler, listens: tuple[str, Address]
) -> None:
    looks = looked(tmp_path, toxiproxy_server, listens[0], pooler.address, pooled(STRANGER))
    (note,) = [note for note in looks.notes if note.startswith("db:")]
    assert f"add {STRANGER} to `stats_users` in pgbouncer.ini, then RELOAD" in note
    assert not POSTGRES.tells_clients(found(looks)) and path_probe(found(looks))(9.0).ok


def test_what_is_wrong_with_a_console_is_one_line_without_the_password(
    tmp_path: Path,
    toxiproxy_server: str,
    pooler: Pooler,
    listens: tuple[str, Address],
    postgres_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(more: str, direct: Address = pooler.address, proxy: str = listens[0]) -> str:
        return trouble_of(looked(tmp_path, toxiproxy_server, proxy, direct, more))

    own = f"host={pooler.address.host} port={pooler.address.port} user=harness_probe dbname=anomalies"
    admin = f'admin = "{own}"\nadmin_password_env = "{PASSWORD_ENV}"\n'
    assert "admin leads to a pooler such as PgBouncer" in told(pooled() + admin)
    with in_front(toxiproxy_server, "past-pooler", postgres_server.address):
        said = told(pooled(), postgres_server.address, "past-pooler")
    assert "pooler_admin: PostgreSQL itself answers" in said and "leave it out" in said
    with (
        pgbouncer(postgres_server.address) as other,
        in_front(toxiproxy_server, "other-pooler", other.address),
    ):
        assert "two different PgBouncers" in told(pooled(), proxy="other-pooler")
    monkeypatch.setenv("WRONG", "hunter2")
    said = told(pooled().replace(f'pooler_password_env = "{PASSWORD_ENV}"', 'pooler_password_env = "WRONG"'))
    assert "pooler_admin: no login at PgBouncer's console" in said and "hunter2" not in said


def test_what_the_file_cannot_mean_is_refused(tmp_path: Path, pooler: Pooler) -> None:
    for more, words in (
        (pooled("watcher host=127.0.0.1"), "pooler_admin names a host"),
        ('login = "user=a"\npooler_password_env = "X"\n', "pooler_password_env has no pooler_admin"),
        ('login = "user=a sslmode=verify-full sslrootcert=ca.pem"\n', "sslrootcert is no absolute path"),
    ):
        with pytest.raises(UsageError, match=words):
            looked(tmp_path, "http://127.0.0.1:1", "x", pooler.address, more)


def test_who_is_connected_is_the_application_and_whether_by_the_proxy(db: Dependency) -> None:
    assert db.path is not None and db.direct is not None
    with (
        psycopg.connect(login(db.path) + " application_name=shop", autocommit=True) as through,
        psycopg.connect(login(db.path, "harness_probe") + " application_name=neighbour", autocommit=True) as other,
    ):
        through.execute("SELECT 1")
        other.execute("SELECT 1")
        before = snapshot(db)
        assert [(one.label, one.on_proxy) for one in before.clients] == [("shop", True)], "neither others nor ours"
        idle = path_evidence(before, snapshot(db), db)
        assert idle is not None and not idle.held, "connected is not used"
        time.sleep(1.1)  # the time of the last request is in whole seconds
        through.execute("SELECT 1")
        used = path_evidence(before, snapshot(db), db)
        assert used is not None and used.held, used
        with psycopg.connect(login(db.direct) + " application_name=stray", autocommit=True) as past:
            past.execute("SELECT 1")
            bypassed = path_evidence(before, snapshot(db), db)
            assert bypassed is not None and not bypassed.held and "stray" in bypassed.observed


def test_probes_leave_nothing_at_the_server_and_are_in_nobodys_way(
    db: Dependency, pooler: Pooler, postgres_server: PostgresServer
) -> None:
    ask = "SELECT sum(sessions_abandoned), sum(sessions_fatal), sum(sessions_killed) FROM pg_stat_database"
    log = Path(pooler.log)
    said = len(log.read_text())
    with psycopg.connect(postgres_server.admin, autocommit=True) as admin:
        before = admin.execute(ask).fetchone()
        assert all(path_probe(db)(9.0).ok for _ in range(200))
        for _ in range(20):
            POSTGRES.clients(db, (), ())
        POSTGRES.handshake(attempts(db, db.path)(monotonic() + 9.0))
        assert admin.execute(ask).fetchone() == before
    ends = Counter(re.findall(r"closing because: ([^(]*) \(", log.read_text()[said:]))
    # The handshake asks for TLS, is told no, and leaves without a login.
    assert ends.pop("client unexpected eof", 0) <= 1 and set(ends) == {"client close request"}, ends


def test_counters_are_the_poolers(db: Dependency) -> None:
    assert db.path is not None
    counters = Counters(db)
    first = counters.read()
    with psycopg.connect(login(db.path), autocommit=True) as shop:
        for _ in range(25):
            shop.execute("SELECT 1")
        wait_until("its statistics", lambda: counters.read()["transactions"] >= first["transactions"] + 25)
        assert counters.read()["clients"] == first["clients"] + 1
    assert set(first) == {"transactions", "busy_s", "waited_s", "clients", "waiting"}


@pytest.mark.parametrize("kind", ["down", "latency", "hang"])
def test_faults_of_the_proxy_keep_their_contract(kind: str, db: Dependency) -> None:
    assert_fault_contract(registered()[kind], db, look=lambda one: raw(f"{one.proxy.url}/proxies/{one.proxy.name}"))


def limits(postgres: PostgresServer) -> object:
    with psycopg.connect(postgres.admin) as connection:
        return connection.execute("SELECT rolname, rolconnlimit FROM pg_roles ORDER BY 1").fetchall()


def test_a_limit_acts_on_the_poolers_connections_and_keeps_the_contract(
    db: Dependency, postgres_server: PostgresServer
) -> None:
    fault = registered()["connection-limit"]
    change = change_for(fault, db, limit="2")
    assert "they are PgBouncer's" in change.does and "3 transactions at once" in change.proves
    assert "PgBouncer" not in change_for(fault, msgspec.structs.replace(db, pooled=False)).does
    with psycopg.connect(login(db.path or db.direct), autocommit=True) as stays:  # type: ignore[arg-type]
        stays.execute("SELECT 1")
        assert_fault_contract(fault, db, look=lambda _: limits(postgres_server), params={"limit": "2"})
        stays.execute("SELECT 1")


def test_a_limit_that_the_pool_itself_has_shows_nothing(db: Dependency) -> None:
    fault = registered()["connection-limit"]
    with pytest.raises(Refused, match="4 transactions at once through PgBouncer not all"):
        fault.capture(change_for(fault, db, limit="3"), "r")


def test_a_limit_that_was_not_set_is_not_proven(db: Dependency, postgres_server: PostgresServer) -> None:
    fault = registered()["connection-limit"]
    record = fault.capture(change_for(fault, db, limit="2"), "r")
    before = limits(postgres_server)
    assert not any(one.held for one in fault.prove(record, "injected"))
    assert limits(postgres_server) == before


def test_a_limit_of_a_killed_process_is_undone_by_another(db: Dependency, postgres_server: PostgresServer) -> None:
    fault = registered()["connection-limit"]
    record = through_json(fault.capture(change_for(fault, db, limit="2"), "r"))
    before = limits(postgres_server)
    script = UNDO_ELSEWHERE.partition("fault.undo(record)")[0] + "fault.inject(record)\nprint('on', flush=True)\n"
    script += "import time\ntime.sleep(600)\n"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as injector:
        assert injector.stdin is not None and injector.stdout is not None
        injector.stdin.write(msgspec.json.encode(record))
        injector.stdin.close()
        assert injector.stdout.readline() == b"on\n" and limits(postgres_server) != before
        injector.send_signal(signal.SIGKILL)
    done = subprocess.run([sys.executable, "-c", UNDO_ELSEWHERE], input=msgspec.json.encode(record), timeout=60)
    assert done.returncode == 0 and limits(postgres_server) == before


def test_a_hog_is_refused_behind_a_pooler(db: Dependency) -> None:
    with pytest.raises(Refused, match="would not be seen behind a pooler"):
        change_for(registered()["connection-hog"], db)


def verified(record: UndoRecord) -> tuple[bool, str]:
    evidence = answers_normally(record)
    return evidence.held, evidence.observed


def test_a_full_pool_after_the_undo_is_the_services_own_aftermath(db: Dependency, pooler: Pooler) -> None:
    db = without_probe_login(db)
    down, hang = registered()["down"], registered()["hang"]
    record = down.capture(change_for(down, db), "r")
    stuck = hang.capture(change_for(hang, db), "h")
    down.inject(record)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(psycopg.connect(login(pooler.address))).execute("SELECT 1")
        assert not held(down.verify_undone(record)), "the pool is full, and the path still cut"
        down.undo(record)
        evidence = down.verify_undone(record)
        assert_held(evidence)
        said = evidence[-1].observed
        assert "PgBouncer's pool is full: 3 of 3 server connections" in said
        assert "3 by user anomaly_api from 127.0.0.1" in said
        hang.inject(stuck)
        try:
            assert not answers_normally(record).held, "a path that hangs is no full pool"
        finally:
            hang.undo(stuck)
    assert_held(down.verify_undone(record))


def test_a_pool_with_room_and_a_server_that_is_slow_is_not_called_full(db: Dependency) -> None:
    db = without_probe_login(db)
    assert db.path is not None
    with psycopg.connect(login(db.path)) as one, psycopg.connect(login(db.path)) as two:
        one.execute("SELECT 1")
        two.execute("SELECT 1")
        assert path_probe(db)(9.0).ok, "the third has room"
        assert POSTGRES.full(attempts(db, db.path)(monotonic() + 9.0)) == "PgBouncer's pool has room"


def test_too_many_clients_is_told_with_who_they_are(
    tmp_path: Path, toxiproxy_server: str, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_ENV, PASSWORD)
    with (
        pgbouncer(postgres_server.address, settings="max_client_conn = 4") as small,
        in_front(toxiproxy_server, "small", small.address),
    ):
        db = found(looked(tmp_path, toxiproxy_server, "small", small.address, pooled()))
        wait_until("no other is left", lambda: not snapshot(db).clients)
        with ExitStack() as stack:
            for _ in range(4):
                stack.enter_context(psycopg.connect(login(small.address) + " application_name=leaky"))
            ok, said = verified(record_like(db, good_below_s=2.0))
        assert ok and "no more connections allowed" in said and "4 by user anomaly_api as leaky" in said
        assert "slots" not in said, "PostgreSQL's own slots are not what is full"
