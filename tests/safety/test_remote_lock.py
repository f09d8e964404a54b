"""Two machines on one Toxiproxy or PostgreSQL: two state directories here. Exactly one run goes on."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from harness.adapters.toxiproxy.lock import LOCK, LockHolder, read_holder
from harness.model.errors import Refused, SetupError
from harness.safety.healing.dead_run import heal_all
from harness.safety.journal.entries import ProxyLock
from harness.safety.locks.remote import LISTEN, Wanted, drop_proxy, hold_database, hold_proxy
from harness.safety.locks.steal import advice, look, steal
from harness.safety.state_folders import find_active
from tests.safety.world import Proxy, Run, call, gone, stop, wait_for
from tests.support.servers.real import PostgresServer, SubprocessLauncher, start_toxiproxy

pytestmark = pytest.mark.stack

LATENCY = ["latency", {"latency": 0.2, "jitter": 0.0, "direction": "both"}]
DOWN = ["down", {}]


@pytest.fixture
def machines(tmp_path: Path, toxiproxy_server: str) -> Iterator[Any]:
    """Starts runs in miniature, each on a "machine" of its own: a state directory."""
    runs: list[Run] = []

    def start(machine: str, **config: Any) -> Run:
        runs.append(Run(tmp_path / machine, **config))
        return runs[-1]

    yield start
    for run in runs:
        run.end()
    call("DELETE", f"{toxiproxy_server}/proxies/{LOCK}")


def shared(proxy: Proxy) -> list[dict[str, str]]:
    return [{"toxiproxy": proxy.api}]


def refusal(run: Run) -> str:
    """What a run was told that did not get its locks."""
    said = run.wait("refused")
    assert said is not None, f"{run.name} got the lock"
    return str(said)


def lock_of(api: str) -> str | None:
    found = call("GET", f"{api}/proxies/{LOCK}")
    return None if found is None else str(found["upstream"])


def test_the_second_machine_is_told_who_has_the_toxiproxy_and_changes_nothing(proxy: Proxy, machines: Any) -> None:
    # The name of this machine and its address lead to one server, and so to one lock.
    first = machines("a", name="run-a", shared=[{"toxiproxy": proxy.api.replace("127.0.0.1", "localhost")}])
    first.wait("locked")
    before = call("GET", f"{proxy.api}/proxies")
    second = machines("b", name="run-b", shared=shared(proxy))
    said = refusal(second)
    assert "run-a" in said and f"pid {first.process.pid}" in said and socket.gethostname() in said
    assert second.process.wait(60) == 2
    assert call("GET", f"{proxy.api}/proxies") == before
    first.kill(signal.SIGTERM)
    assert first.process.wait(60) == 0
    assert lock_of(proxy.api) is None
    third = machines("b", name="run-c", shared=shared(proxy))
    third.wait("locked")


def test_of_many_that_start_at_once_exactly_one_goes_on(
    proxy: Proxy, postgres_server: PostgresServer, machines: Any
) -> None:
    both = [*shared(proxy), {"admin": postgres_server.admin, "name": "db"}]
    runs = [machines(f"m{number}", name=f"run-{number}", shared=both) for number in range(4)]
    ends = wait_for(
        "three refusals", lambda: ends if (ends := [r for r in runs if r.process.poll() is not None])[2:] else None
    )
    assert [run.process.returncode for run in ends] == [2, 2, 2]
    winner = next(run for run in runs if run not in ends)
    winner.wait("locked")
    assert f"run {winner.name} " in (lock_of(proxy.api) or "")
    winner.kill(signal.SIGTERM)
    assert winner.process.wait(60) == 0


def test_a_killed_run_keeps_the_lock_until_it_is_healed(proxy: Proxy, machines: Any) -> None:
    dependency = msgspec.to_builtins(proxy.dependency())
    run = machines("a", shared=shared(proxy), dependency=dependency, faults=[LATENCY, DOWN])
    run.wait("injected")
    assert lock_of(proxy.api) is not None
    run.kill()
    wait_for("the lock is gone", lambda: lock_of(proxy.api) is None)
    assert proxy.clean()  # the lock went last
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    assert not run.state.exists()


def test_what_is_not_undone_keeps_the_lock(proxy: Proxy, machines: Any) -> None:
    dependency = msgspec.to_builtins(proxy.dependency())
    run = machines("a", shared=shared(proxy), dependency=dependency, faults=[LATENCY])
    run.wait("injected")
    toxic = proxy.toxics()[0]
    call("POST", f"{proxy.url}/toxics/{toxic}", {"attributes": {"latency": 7}})  # somebody changes it
    run.kill()
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    assert run.state.exists() and lock_of(proxy.api) is not None
    other = machines("b", name="run-b", shared=shared(proxy))
    said = refusal(other)
    assert "has died" in said and "harness heal --all" in said and f"--toxiproxy {proxy.api} --steal" in said
    # Without its journal the lock and the toxics can be taken away, and nothing else.
    call("POST", f"{proxy.url}/toxics", {"name": "mine", "type": "latency", "attributes": {"latency": 1}})
    call("POST", proxy.url, {"enabled": False})
    assert steal(look(proxy.api), lambda _: None) == []
    assert proxy.toxics() == ["mine"] and lock_of(proxy.api) is None and look(proxy.api).nothing
    assert any(f"proxy {proxy.name} is disabled and stays so" in line for line in advice(look(proxy.api)))


def test_with_run_and_keeper_dead_heal_removes_the_lock_last(
    proxy: Proxy, machines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dependency = msgspec.to_builtins(proxy.dependency())
    run = machines("a", shared=shared(proxy), dependency=dependency, faults=[DOWN])
    run.wait("injected")
    stop(run.said["keeper"])
    run.kill()
    os.kill(run.said["keeper"], signal.SIGKILL)
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a"))
    # A process is a zombie when its first thread has ended; its files are closed with the last.
    wait_for("its journal closed", find_active)
    assert find_active()[0].locks == (f"the lock of {proxy.api}",)
    healed = heal_all(lambda _: None)
    assert healed[0].unlocked == (proxy.api,) and not healed[0].left
    assert proxy.clean() and lock_of(proxy.api) is None
    assert heal_all(lambda _: None) == []


def copied(session: psycopg.Connection[Any]) -> bool:
    """A template may have no session but ours; what an earlier test has left, and the server's own workers, end."""
    others = "FROM pg_stat_activity WHERE datname = 'anomalies' AND pid <> pg_backend_pid()"
    session.execute(f"SELECT pg_terminate_backend(pid) {others}")
    try:
        session.execute("CREATE DATABASE lock_test TEMPLATE anomalies")
    except psycopg.errors.ObjectInUse:
        return False
    return True


def test_another_database_of_the_cluster_is_no_way_round(postgres_server: PostgresServer, machines: Any) -> None:
    with psycopg.connect(postgres_server.admin, autocommit=True) as session:
        session.execute("DROP DATABASE IF EXISTS lock_test")
        wait_for("nobody else in the template", lambda: copied(session))
    wanted = [{"admin": postgres_server.admin, "name": "db"}]
    run = machines("a", name="run-a", shared=wanted)
    run.wait("locked")
    said = refusal(machines("b", name="run-b", shared=wanted))
    assert "PostgreSQL db is in use by a run" in said and f"pid {run.process.pid}" in said and "run-a" in said
    # Another database of the same cluster is no way round.
    elsewhere = [{"admin": f"{postgres_server.admin} dbname=lock_test", "name": "db"}]
    assert "run-a" in refusal(machines("c", name="run-c", shared=elsewhere))
    run.kill(signal.SIGTERM)
    assert run.process.wait(60) == 0
    machines("e", name="run-e", shared=elsewhere).wait("locked")


@pytest.mark.parametrize("alive", ["run", "keeper"])
def test_the_half_of_whoever_lives_keeps_others_out(postgres_server: PostgresServer, alive: str, machines: Any) -> None:
    lock = Wanted(admin=postgres_server.admin, name="db")
    half = hold_database(lock, "run-a", 1, alive)
    try:
        other = machines("b", name="run-b", shared=[msgspec.to_builtins(lock)])
        said = refusal(other)
        assert "pid 1 on" in said and "run-a" in said
    finally:
        half.release()
    assert other.process.wait(60) == 2
    hold_database(lock, "run-c", 1, "run").release()


def test_a_postgresql_session_that_is_ended_takes_its_lock_again(
    postgres_server: PostgresServer, machines: Any
) -> None:
    wanted = [{"admin": postgres_server.admin, "name": "db"}]
    run = machines("a", name="run-a", shared=wanted)
    run.wait("locked")

    def holders() -> list[int]:
        with psycopg.connect(postgres_server.admin) as session:
            rows = session.execute("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted").fetchall()
        return [row[0] for row in rows]

    before = holders()
    assert len(before) == 2
    with psycopg.connect(postgres_server.admin, autocommit=True) as session:
        for pid in before:
            session.execute("SELECT pg_terminate_backend(%s)", (pid,))
    wait_for("both are held again", lambda: len(after := holders()) == 2 and not set(after) & set(before))


def test_a_dead_toxiproxy_took_the_lock_with_it() -> None:
    launcher = SubprocessLauncher()
    try:
        url, process = start_toxiproxy(launcher)
        lock = ProxyLock(url=url, text="run x host y pid 1 keeper 2 since z token ab")
        hold_proxy(lock)
        assert call("GET", f"{url}/proxies/{LOCK}")["listen"] == LISTEN
        hold_proxy(lock)  # what was made by a request without an answer is ours
        assert drop_proxy(lock) is None and drop_proxy(lock) is None
        os.kill(process.pid, signal.SIGKILL)
        wait_for("Toxiproxy gone", lambda: gone(process.pid))
        with pytest.raises(SetupError, match=r"cannot be locked"):
            hold_proxy(lock)
    finally:
        launcher.close()


def test_a_lock_that_somebody_else_has_by_now_is_left(toxiproxy_server: str) -> None:
    ours = ProxyLock(url=toxiproxy_server, text="run x host y pid 1 keeper 2 since z token ab")
    theirs = ProxyLock(url=toxiproxy_server, text="run x host y pid 1 keeper 2 since z token cd")
    hold_proxy(theirs)
    with pytest.raises(Refused, match="in use by run x"):
        hold_proxy(ours)
    assert drop_proxy(ours) is None and lock_of(toxiproxy_server) == theirs.text
    assert drop_proxy(theirs) is None and lock_of(toxiproxy_server) is None


def test_words_in_a_lock_that_no_harness_wrote_are_shown_as_they_are(toxiproxy_server: str) -> None:
    body = {"name": LOCK, "listen": LISTEN, "upstream": "kept by\tops", "enabled": False}
    call("POST", f"{toxiproxy_server}/proxies", body)
    try:
        with pytest.raises(Refused, match=r"says 'kept by\\tops'") as caught:
            hold_proxy(ProxyLock(url=toxiproxy_server, text="x"))
        assert "--steal" in str(caught.value.hint)
    finally:
        call("DELETE", f"{toxiproxy_server}/proxies/{LOCK}")


def test_whoever_holds_it_is_read_back_whatever_the_names_are() -> None:
    holder = LockHolder(
        owner="2026 a,b\n", host="höst", pid=1, keeper=2, since="2026-01-01T00:00:00.000Z", disables=("a b", "c,d")
    )
    read = read_holder(holder.text())
    assert read is not None and (read.owner, read.host, read.disables) == ("2026-a-b-", "h-st", ("a-b", "c-d"))
    assert holder.text() != holder.text()  # each lock is one of its own
    assert read_holder("run a host b") is None and not read.alive()
