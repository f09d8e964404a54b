"""Undoing: what is restored, what is left alone, and what a person is told, on a real Toxiproxy and PostgreSQL."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from harness.fault import registered
from harness.model.errors import Gone, OutcomeUnknown, Refused, UndoUnverified, Unreachable, UsageError
from harness.model.records.faults import (
    Applied,
    Credentials,
    Dependency,
    DependencyFront,
    DependencyProxy,
    Evidence,
    UndoRecord,
)
from harness.model.records.process import ServerProcess
from harness.safety.healing.dead_run import heal_all
from harness.safety.healing.undo import Patience, check_addresses, order_of_undo, undo_record
from harness.safety.journal.view import read_journal
from tests.safety.world import Proxy, call, gone, stop, wait_for
from tests.support.servers.real import PostgresServer, ValkeyServer

pytestmark = pytest.mark.stack

QUICK = Patience(limit_s=1.0, clean_s=0.5)
LATENCY = {"latency": 0.2, "jitter": 0.0, "direction": "down"}


def captured(at: Proxy, kind: str, params: dict[str, Any], **more: Any) -> UndoRecord:
    fault = registered()[kind]
    return fault.capture(fault.plan(at.dependency(**more), params), f"redis-{kind}-1")


def inject(record: UndoRecord) -> UndoRecord:
    registered()[record.kind].inject(record)
    return record


def test_undoing_twice_is_harmless(proxy: Proxy) -> None:
    record = inject(captured(proxy, "latency", LATENCY))
    first = undo_record(record)
    assert first.state == "verified" and first.applied is not None and all(item.held for item in first.evidence)
    assert {item.source for item in first.evidence} == {"undo"} and len(first.evidence) >= 2, "read back and probed"
    assert undo_record(record).state == "verified" and proxy.clean()


def test_overlapping_faults_are_undone_newest_first(proxy: Proxy) -> None:
    captures = [captured(proxy, "latency", LATENCY), captured(proxy, "hang", {"direction": "down"})]
    captures.append(captured(proxy, "down", {}))
    records = [inject(msgspec.structs.replace(record, id=f"r-{n}")) for n, record in enumerate(captures)]
    outcomes = [undo_record(record) for record in order_of_undo(records)]
    assert [outcome.record_id for outcome in outcomes] == ["r-2", "r-1", "r-0"]
    assert [outcome.state for outcome in outcomes] == ["verified"] * 3 and proxy.clean()


def test_what_makes_a_process_run_again_comes_first() -> None:
    base = UndoRecord(
        id="a", kind="down", dependency=Dependency(name="x", kind="tcp"), params={}, where={}, original={}, ours={}
    )

    class Pause:
        kind, needs = "pause", "runtime"

    kinds = dict(registered())
    records = [msgspec.structs.replace(base, id="pause", kind="pause"), base]
    import harness.fault as door

    original = door.registered
    door.registered = lambda: {**kinds, "pause": Pause()}  # type: ignore[assignment,dict-item]  # not shipped yet
    try:
        assert [record.id for record in order_of_undo(records)] == ["pause", "a"]
    finally:
        door.registered = original


def test_nobody_waits_for_another_server_s_start() -> None:
    """A killed one may take a minute to come up; its own changes stay newest first."""

    def record(name: str, kind: str) -> UndoRecord:
        dependency = Dependency(name=name, kind="tcp")
        return UndoRecord(
            id=f"{name}-{kind}", kind=kind, dependency=dependency, params={}, where={}, original={}, ours={}
        )

    made = [
        record("a", "pause"),
        record("b", "cpu"),
        record("b", "kill"),
        record("b", "disconnect"),
        record("c", "down"),
    ]
    assert [one.id for one in order_of_undo(made)] == ["a-pause", "b-disconnect", "b-kill", "b-cpu", "c-down"]


def test_an_unreachable_toxiproxy_is_not_taken_for_undone(proxy: Proxy) -> None:
    record = captured(proxy, "latency", LATENCY)
    away = record.dependency.but(proxy={"url": "http://127.0.0.1:9"})
    said: list[str] = []
    outcome = undo_record(msgspec.structs.replace(record, dependency=away), say=said.append, patience=QUICK)
    assert outcome.state == "unverified"
    assert outcome.left is not None and "redis-latency" in outcome.left and "127.0.0.1:9" in outcome.left
    assert outcome.mend is not None and proxy.name in outcome.mend and "heal" in outcome.mend
    assert "trying again" in said[0]


def test_a_stopped_toxiproxy_is_waited_for(start_own_toxiproxy: Any, valkey_server: ValkeyServer) -> None:
    api, process = start_own_toxiproxy()
    proxy = Proxy(api, "own", valkey_server.address)
    record = inject(captured(proxy, "latency", LATENCY))
    stop(process.pid)
    wake = threading.Timer(2.0, os.kill, (process.pid, signal.SIGCONT))
    wake.start()
    try:
        said: list[str] = []
        assert undo_record(record, say=said.append).state == "verified"
        assert proxy.clean()
    finally:
        wake.join()
        os.kill(process.pid, signal.SIGCONT)


def test_a_wedged_toxiproxy_of_ours_is_restarted_and_its_proxy_made_again(
    start_own_toxiproxy: Any, valkey_server: ValkeyServer
) -> None:
    api, process = start_own_toxiproxy()
    proxy = Proxy(api, "own", valkey_server.address)
    record = inject(captured(proxy, "latency", LATENCY, proxy={"pid": process.pid}))
    stop(process.pid)
    restarted: list[bool] = []

    def restart() -> bool:
        os.kill(process.pid, signal.SIGKILL)
        start_own_toxiproxy(again=True)
        restarted.append(True)
        return True

    patience = Patience(limit_s=6.0, clean_s=0.5)
    outcome = undo_record(record, restart_toxiproxy=restart, patience=patience)
    assert outcome.state == "verified", outcome
    assert restarted and proxy.clean()
    # Without a Toxiproxy of our own there is nothing to restart: it is told.


@pytest.fixture
def start_own_toxiproxy(tmp_path: Path) -> Iterator[Any]:
    """Starts a Toxiproxy of the test's own, again on the same port with again=True. Returns URL and process."""
    import subprocess

    import psutil

    from harness.stack.embedded import toxiproxy
    from harness.stack.starting.ports import Ports

    program = toxiproxy.ensure(lambda _: None)
    with Ports() as ports:
        port = ports.take()
    children: list[subprocess.Popen[bytes]] = []

    def start(again: bool = False) -> tuple[str, ServerProcess]:
        child = subprocess.Popen(
            [str(program), "-host", "127.0.0.1", "-port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        children.append(child)
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                call("GET", f"{url}/version")
            except OSError:
                return False
            return True

        wait_for("Toxiproxy", answers)
        return url, ServerProcess(name="t", pid=child.pid, start_time=psutil.Process(child.pid).create_time())

    yield start
    for child in children:
        child.kill()
        child.wait()


def test_an_unknown_outcome_is_read_back_until_it_stays_clean(proxy: Proxy) -> None:
    """The request that was given up is carried out late: 24 of 100 were, with a wedged Toxiproxy."""
    record = captured(proxy, "latency", LATENCY)
    late = threading.Timer(0.8, inject, (record,))
    late.start()
    outcome = undo_record(record, unsure=True, patience=Patience(limit_s=20, clean_s=2.0))
    late.join()
    assert outcome.state == "verified" and proxy.clean()
    time.sleep(0.3)
    assert proxy.clean()


def test_what_comes_between_the_undo_and_the_first_look_is_undone_again(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that was given up is carried out right after the undo was answered "not there"."""
    record = captured(proxy, "latency", LATENCY)
    fault = registered()["latency"]
    answered = fault.undo
    late = [record]

    def undo_then_late(undone: UndoRecord) -> Applied:
        applied = answered(undone)
        if late:
            inject(late.pop())
        return applied

    monkeypatch.setattr(type(fault), "undo", lambda self, undone: undo_then_late(undone))
    outcome = undo_record(record, unsure=True, patience=Patience(limit_s=8, clean_s=0.5))
    assert not late and outcome.state == "verified" and proxy.clean()


def test_what_never_stays_clean_is_unverified(proxy: Proxy) -> None:
    record = captured(proxy, "latency", LATENCY)
    stop = threading.Event()

    def again_and_again() -> None:
        while not stop.wait(0.05):
            try:
                inject(record)
            except Exception:  # it is there already
                pass

    hand = threading.Thread(target=again_and_again)
    hand.start()
    try:
        outcome = undo_record(record, unsure=True, patience=Patience(limit_s=2.5, clean_s=1.0))
    finally:
        stop.set()
        hand.join()
    assert outcome.state == "unverified" and outcome.left and outcome.mend
    assert undo_record(record).state == "verified"


class Scripted:
    """A user's fault that behaves as told: real ones cannot be made to raise each of these on demand."""

    kind, needs = "scripted", "nothing"

    def __init__(self, *undos: BaseException | None, verify: tuple[bool, ...] = (True,)) -> None:
        self._undos = list(undos)
        self._verify = list(verify)
        self.calls = 0

    def undo(self, record: UndoRecord) -> Applied:
        self.calls += 1
        step = self._undos.pop(0) if self._undos else None
        if step is not None:
            raise step
        return Applied(float(self.calls), float(self.calls))

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        held = self._verify.pop(0) if len(self._verify) > 1 else self._verify[0]
        return (Evidence(source="undo", expected="off", observed="off" if held else "on", held=held, at=0.0),)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(fault: Any) -> UndoRecord:
        monkeypatch.setattr("harness.fault.registered", lambda: {"scripted": fault})
        return UndoRecord(
            id="r",
            kind="scripted",
            dependency=Dependency(name="db", kind="postgres"),
            params={},
            where={"role": "app"},
            original={"limit": -1},
            ours={"limit": 2},
            secrets={"password": "SAFETY_TEST_PASSWORD"},
        )

    return use


def test_gone_is_moot_only_when_the_data_path_answers(scripted: Any) -> None:
    assert undo_record(scripted(Scripted(Gone("role 7 no longer exists")))).state == "moot"
    outcome = undo_record(scripted(Scripted(*[Gone("x")] * 50, verify=(False,))), patience=QUICK)
    assert outcome.state == "unverified" and "expected off, found on" in str(outcome.left)


def test_somebody_elses_repair_is_not_tried_again(scripted: Any) -> None:
    fault = Scripted(UndoUnverified("limit is 5: somebody set it", "ALTER ROLE app CONNECTION LIMIT -1;"))
    outcome = undo_record(scripted(fault))
    assert (outcome.state, outcome.left, outcome.mend, fault.calls) == (
        "unverified",
        "limit is 5: somebody set it",
        "ALTER ROLE app CONNECTION LIMIT -1;",
        1,
    )


def test_a_verification_that_comes_late_is_waited_for(scripted: Any) -> None:
    outcome = undo_record(scripted(Scripted(Unreachable("no"), verify=(False, False, True))))
    assert outcome.state == "verified" and outcome.applied == Applied(2.0, 2.0)


def test_an_unanswered_undo_makes_it_unsure(scripted: Any) -> None:
    fault = Scripted(OutcomeUnknown("503"))
    said: list[str] = []
    outcome = undo_record(scripted(fault), say=said.append, patience=Patience(limit_s=10, clean_s=0.5))
    assert outcome.state == "verified" and fault.calls == 2 and any("unknown" in line for line in said)
    assert outcome.applied == Applied(2.0, 2.0), "the bounds of the undo, not of the looks after it"


def test_a_fault_that_breaks_does_not_stop_the_others(scripted: Any) -> None:
    record = scripted(Scripted(*[KeyError("bug")] * 2))
    outcomes = [undo_record(msgspec.structs.replace(record, id=name)) for name in ("r", "s", "t")]
    assert [outcome.state for outcome in outcomes] == ["unverified", "unverified", "verified"]
    assert "KeyError" in str(outcomes[0].left) and "limit -1" in str(outcomes[0].mend)


def test_a_fault_that_is_no_longer_installed_is_told(scripted: Any) -> None:
    outcome = undo_record(msgspec.structs.replace(scripted(Scripted()), kind="vanished"))
    assert outcome.state == "unverified" and "vanished" in str(outcome.left)


def test_no_secret_gets_into_what_is_told(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAFETY_TEST_PASSWORD", "tiger lily 77")
    error = UndoUnverified('missing "=" after "lily" in "password=tiger lily 77"', "psql postgresql://u:tiger@h/db")
    outcome = undo_record(scripted(Scripted(error)))
    text = f"{outcome.left} {outcome.mend}"
    assert "tiger" not in text and "lily" not in text and "psql" in text


def test_a_variable_that_is_not_set_is_named_at_once(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAFETY_TEST_PASSWORD", raising=False)
    missing = UsageError("the environment variable SAFETY_TEST_PASSWORD is not set")
    began = time.monotonic()
    outcome = undo_record(scripted(Scripted(*[missing] * 50)))
    assert outcome.state == "unverified" and time.monotonic() - began < 20
    said = outcome.mend or ""
    assert said.startswith("set the environment variable SAFETY_TEST_PASSWORD (password of ")
    assert "harness heal --all" in said


def test_a_record_from_a_file_reaches_only_allowed_hosts(proxy: Proxy) -> None:
    record = captured(proxy, "latency", LATENCY)
    for changed in (
        {"proxy": {"url": "http://203.0.113.9:8474"}},
        {"proxy": {"url": "http://10.1.2.3:8474"}},
        {"front": DependencyFront(url="http://203.0.113.9:9901", name="redis")},
        {"proxy": {"url": "http://127.0.0.1@203.0.113.9:8474"}},
        {"direct": msgspec.structs.replace(record.dependency.path, host="10.1.2.3")},
        {"credentials": {"admin": "user=a host=203.0.113.9 dbname=x"}},
        {"credentials": {"admin": "postgresql://a@203.0.113.9/x"}},
        {"credentials": {"admin": "hostaddr='203.0.113.9' user=a"}},
    ):
        other = msgspec.structs.replace(record, dependency=record.dependency.but(**changed))
        with pytest.raises(Refused):
            check_addresses(other, ())
        assert undo_record(other, allowed=()).state == "unverified"
    socket = record.dependency.but(credentials={"admin": "user=a host=/run/pg dbname=x"})
    check_addresses(msgspec.structs.replace(record, dependency=socket), ())
    named = record.dependency.but(proxy={"url": "http://10.1.2.3:8474"})
    check_addresses(msgspec.structs.replace(record, dependency=named), ("10.0.0.0/8",))


def test_a_role_limit_is_healed_after_a_kill(
    toxiproxy_server: str, postgres_server: PostgresServer, start_run: Any, tmp_path: Path
) -> None:
    proxy = Proxy(toxiproxy_server, "safety-db", postgres_server.address)
    dependency = Dependency(
        name="db",
        kind="postgres",
        proxy=DependencyProxy(url=proxy.api, name=proxy.name),
        credentials=Credentials(
            admin=postgres_server.admin,
            login=postgres_server.login,
            probe_login=postgres_server.probe_login,
            role=postgres_server.role,
        ),
        path=proxy.path,
        direct=postgres_server.address,
    )

    def limit() -> int:
        with psycopg.connect(postgres_server.admin) as connection:
            row = connection.execute(
                "SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", (postgres_server.role,)
            ).fetchone()
        assert row is not None
        return int(row[0])

    before = limit()
    try:
        run = start_run(dependency=msgspec.to_builtins(dependency), faults=[["connection-limit", {"limit": 2}]])
        run.wait("injected")
        assert limit() == 2
        run.kill()
        wait_for("the limit as before", lambda: limit() == before)
        wait_for("keeper gone", lambda: gone(run.said["keeper"]))
        assert not run.state.exists()
        # Somebody else's value is not touched.
        run = start_run(
            name="run-2", dependency=msgspec.to_builtins(dependency), faults=[["connection-limit", {"limit": 2}]]
        )
        run.wait("injected")
        os.kill(run.said["keeper"], signal.SIGKILL)
        run.kill()
        run.process.wait(30)
        with psycopg.connect(postgres_server.admin, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE {postgres_server.role} CONNECTION LIMIT 7")
        (healed,) = heal_all(lambda _: None)
        assert limit() == 7 and "somebody changed it" in healed.left[0] and "ALTER ROLE" in healed.left[0]
        assert read_journal(run.state).pending
    finally:
        with psycopg.connect(postgres_server.admin, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE {postgres_server.role} CONNECTION LIMIT {before}")
        proxy.remove()
