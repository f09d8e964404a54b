"""connection-hog: the server is full while it lasts, whoever dies its slots come back, and a repair is left alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import msgspec
import psycopg
import pytest
from test_refusals import granted, over_tcp

import faults.servers.slot_holder
from harness.fault import registered
from harness.model.errors import Refused
from harness.model.records.faults import Dependency, Evidence, UndoRecord
from harness.testing import assert_held, change_for, through_json
from tests.support.servers.proxied import outside
from tests.support.servers.real import wait_until

pytestmark = pytest.mark.stack

HOG = registered()["connection-hog"]

HOLD = """
import sys, time, msgspec
import faults.servers.slot_holder
from harness.fault import registered
from harness.model.records.faults import UndoRecord
faults.servers.slot_holder.LEASE_S = float(sys.argv[1])
record = msgspec.json.decode(sys.stdin.buffer.readline(), type=UndoRecord)
registered()[record.kind].inject(record)
print("held", flush=True)
time.sleep(600)
"""


def hogs(db: Dependency) -> int:
    with psycopg.connect(str(db.credentials.admin)) as admin:
        rows = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'harness-hog-%'")
        return int(rows.fetchone()[0])  # type: ignore[index]


def captured(db: Dependency, **params: str) -> UndoRecord:
    return through_json(HOG.capture(change_for(HOG, db, **params), "r"))


def application(db: Dependency) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(over_tcp(db, db.credentials.login))


def gets_in(db: Dependency, number: int) -> bool:
    """Can the application have so many more connections at once?"""
    with contextlib.ExitStack() as sessions:
        try:
            for _ in range(number):
                sessions.enter_context(application(db))
        except psycopg.OperationalError as error:
            assert "remaining connection slots" in str(error)
            return False
    return True


def elsewhere(record: UndoRecord, lease_s: float) -> subprocess.Popen[bytes]:
    """A process that holds the slots, as a run does."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lease_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
    )
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(msgspec.json.encode(record) + b"\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"held\n"
    return child


def end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.communicate()


def test_the_application_keeps_what_it_has_and_gets_only_what_is_left(db: Dependency) -> None:
    before = outside(db)
    with application(db) as old:
        record = captured(db, leave="1")
        try:
            HOG.inject(record)
            assert_held(HOG.prove(record, "injected"))
            assert old.execute("SELECT 1").fetchone() == (1,)
            # The proof's own login gave its slot back; the server takes a moment to see that.
            wait_until("one slot is free", lambda: gets_in(db, 1))
            assert not gets_in(db, 2)
        finally:
            HOG.undo(record)
        assert_held(HOG.verify_undone(record))
        application(db).close()
    assert hogs(db) == 0
    assert outside(db) == before


def test_what_the_application_gives_back_is_taken_too(db: Dependency) -> None:
    theirs = [application(db) for _ in range(5)]
    record = captured(db)
    try:
        HOG.inject(record)
        held = hogs(db)
        for one in theirs:
            one.close()
        wait_until("its five slots are taken", lambda: hogs(db) == held + 5)
        assert_held(HOG.prove(record, "held"))
    finally:
        HOG.undo(record)


def test_sessions_that_somebody_ends_are_not_taken_again(db: Dependency) -> None:
    record = captured(db)
    try:
        HOG.inject(record)
        with psycopg.connect(str(db.credentials.admin), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'harness-hog-%'"
            )
        time.sleep(2 * faults.servers.slot_holder._RENEW_S)
        assert hogs(db) == 0
        assert not all(item.held for item in HOG.prove(record, "held"))
    finally:
        HOG.undo(record)
    assert_held(HOG.verify_undone(record))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_slots_of_a_dead_process_are_free_at_once(db: Dependency, how: signal.Signals) -> None:
    record = captured(db)
    child = elsewhere(record, 15)
    try:
        assert hogs(db) > 10
        os.kill(child.pid, how)
        wait_until("the slots are free", lambda: hogs(db) == 0)
        assert_held(HOG.verify_undone(record))
    finally:
        end(child)


def test_a_stopped_process_loses_its_slots_to_the_undo_of_another(db: Dependency) -> None:
    record = captured(db)
    child = elsewhere(record, 600)
    try:
        os.kill(child.pid, signal.SIGSTOP)
        HOG.undo(record)
        assert_held(HOG.verify_undone(record))
        # Even when it wakes up (a run would have been killed) it takes nothing again.
        os.kill(child.pid, signal.SIGCONT)
        time.sleep(2 * faults.servers.slot_holder._RENEW_S)
        assert hogs(db) == 0
    finally:
        end(child)


def test_the_server_itself_ends_what_nobody_renews(db: Dependency) -> None:
    record = captured(db)
    child = elsewhere(record, 4)
    try:
        os.kill(child.pid, signal.SIGSTOP)
        wait_until("the lease has run out", lambda: hogs(db) == 0)
    finally:
        end(child)


def test_an_admin_needs_not_be_a_superuser_but_must_see_every_session(db: Dependency) -> None:
    weak = db.but(credentials={"admin": over_tcp(db, db.credentials.probe_login)})
    with pytest.raises(Refused, match="may not see other roles' sessions"):
        captured(weak)
    with (
        granted(db, "WITH ADMIN TRUE, INHERIT TRUE"),
        psycopg.connect(str(db.credentials.admin), autocommit=True) as admin,
    ):
        admin.execute("GRANT pg_read_all_stats TO harness_probe")
        admin.execute("ALTER ROLE harness_probe CONNECTION LIMIT -1")
        try:
            record = captured(weak, leave="3")
            found: tuple[Evidence, ...] = ()
            try:
                HOG.inject(record)
                found = HOG.prove(record, "injected")
            finally:
                HOG.undo(record)
            assert_held(found)
            assert_held(HOG.verify_undone(record))
        finally:
            admin.execute("ALTER ROLE harness_probe CONNECTION LIMIT 10")
            admin.execute("REVOKE pg_read_all_stats FROM harness_probe")


def test_a_server_that_is_full_already_is_refused(db: Dependency) -> None:
    with pytest.raises(Refused, match=r"free slots of 57; leaving 60 changes nothing"):
        captured(db, leave="60")


def test_too_few_files_for_so_many_sessions_is_told_before() -> None:
    with pytest.raises(Refused, match="1000000000 sessions would have to be held") as refused:
        faults.servers.slot_holder.files_for(10**9)
    assert "ulimit" in str(refused.value.hint)
