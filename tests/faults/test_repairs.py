"""Undo meets a world that changed meanwhile: somebody's repair is left alone, and nothing broken is called undone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import msgspec
import psycopg
import pytest
from psycopg import sql

from harness.fault import Fault, registered
from harness.model.errors import Gone, OutcomeUnknown, UndoUnverified, Unreachable
from harness.model.records.faults import Address, Dependency, UndoRecord
from harness.testing import assert_held, change_for
from tests.support.misbehaving.relay import Relay, relay_to
from tests.support.servers.proxied import outside, raw

pytestmark = pytest.mark.stack


def on(fault: Fault, dependency: Dependency, **params: str) -> UndoRecord:
    record = fault.capture(change_for(fault, dependency, **params), "r")
    fault.inject(record)
    return record


def api(dependency: Dependency) -> str:
    return f"{dependency.proxy.url}/proxies/{dependency.proxy.name}"


def test_a_proxy_that_somebody_enabled_is_done(redis: Dependency) -> None:
    down = registered()["down"]
    record = on(down, redis)
    raw(api(redis), "POST", {"enabled": True})
    down.undo(record)
    assert_held(down.verify_undone(record))


def test_a_proxy_that_somebody_moved_is_left_alone_and_told(redis: Dependency) -> None:
    down = registered()["down"]
    record = on(down, redis)
    raw(api(redis), "POST", {"upstream": "127.0.0.1:9"})
    before = outside(redis)
    with pytest.raises(UndoUnverified, match=r"somebody made it .* to 127\.0\.0\.1:9") as unverified:
        down.undo(record)
    assert "curl" in unverified.value.mend
    assert outside(redis) == before
    raw(api(redis), "POST", {"enabled": True})


def test_a_toxic_that_somebody_removed_is_done(redis: Dependency) -> None:
    latency = registered()["latency"]
    record = on(latency, redis)
    (toxic,) = raw(api(redis))["toxics"]
    raw(f"{api(redis)}/toxics/{toxic['name']}", "DELETE")
    latency.undo(record)
    assert_held(latency.verify_undone(record))


def test_a_toxic_that_somebody_changed_is_left_alone_and_told(redis: Dependency) -> None:
    latency = registered()["latency"]
    record = on(latency, redis)
    (toxic,) = raw(api(redis))["toxics"]
    raw(f"{api(redis)}/toxics/{toxic['name']}", "POST", {"attributes": {"latency": 7, "jitter": 0}})
    before = outside(redis)
    with pytest.raises(UndoUnverified, match="somebody changed the toxic") as unverified:
        latency.undo(record)
    assert f"toxics/{toxic['name']}" in unverified.value.mend
    assert outside(redis) == before


def test_a_restarted_toxiproxy_of_ours_gets_its_proxy_back(redis: Dependency) -> None:
    """A Toxiproxy that restarted has no proxies; removing the proxy looks the same to the harness."""
    for kind in ("down", "hang"):
        before = outside(redis)
        record = on(registered()[kind], redis)
        raw(api(redis), "DELETE")
        registered()[kind].undo(record)
        assert_held(registered()[kind].verify_undone(record))
        assert outside(redis) == before


def test_a_restarted_toxiproxy_of_somebody_else_is_told_as_json(redis: Dependency) -> None:
    for kind in ("down", "hang"):
        record = on(registered()[kind], redis)
        record = msgspec.structs.replace(record, dependency=redis.but(proxy={"pid": None}))
        proxy = raw(api(redis))
        raw(api(redis), "DELETE")
        with pytest.raises(UndoUnverified, match="no longer has the proxy") as unverified:
            registered()[kind].undo(record)
        body = {"name": proxy["name"], "listen": proxy["listen"], "upstream": proxy["upstream"]}
        for value in body.values():
            assert f'"{value}"' in unverified.value.mend
        raw(f"{redis.proxy.url}/proxies", "POST", body)


def test_an_unreachable_control_plane_is_never_taken_for_undone(redis: Dependency) -> None:
    for kind in ("down", "latency"):
        fault = registered()[kind]
        record = on(fault, redis)
        away = redis.but(proxy={"url": "http://127.0.0.1:9"})
        for call in (fault.undo, fault.verify_undone):
            with pytest.raises(Unreachable):
                call(msgspec.structs.replace(record, dependency=away))
        fault.undo(record)


@pytest.fixture
def relay(toxiproxy_server: str) -> Iterator[Relay]:
    with relay_to(toxiproxy_server) as relay:
        yield relay


@pytest.mark.parametrize("kind", ["down", "latency"])
def test_an_injection_that_is_carried_out_after_its_time_out_is_undone(
    redis: Dependency, relay: Relay, kind: str
) -> None:
    """The request is held back, gives up, the undo is answered, and only then is the fault carried out."""
    before = outside(redis)
    fault = registered()[kind]
    record = fault.capture(change_for(fault, redis.but(proxy={"url": relay.url})), "r")
    injecting = [True]
    relay.hold = lambda what: what.startswith("POST") and injecting[0]
    with pytest.raises(OutcomeUnknown):
        fault.inject(record)
    injecting[0] = False
    fault.undo(record)
    assert_held(fault.verify_undone(record))
    relay.release.set()
    deadline = time.monotonic() + 10
    while outside(redis) == before:
        assert time.monotonic() < deadline, "the held request was never carried out"
        time.sleep(0.02)
    assert not all(item.held for item in fault.verify_undone(record))
    fault.undo(record)
    assert_held(fault.verify_undone(record))
    assert outside(redis) == before


def test_a_fault_undone_under_another_one_does_not_claim_or_demand_an_answer(redis: Dependency) -> None:
    hang, down = registered()["hang"], registered()["down"]
    records = [fault.capture(change_for(fault, redis), name) for fault, name in ((hang, "a"), (down, "b"))]
    hang.inject(records[0])
    down.inject(records[1])
    hang.undo(records[0])
    assert_held(hang.verify_undone(records[0]))
    assert "not probed" in hang.verify_undone(records[0])[-1].observed
    down.undo(records[1])
    assert "answered" in down.verify_undone(records[1])[-1].observed


def test_a_path_that_answers_slowly_is_not_verified(redis: Dependency) -> None:
    down = registered()["down"]
    record = on(down, redis)
    down.undo(record)
    toxic = {"name": "theirs", "type": "latency", "attributes": {"latency": 700}}
    raw(f"{api(redis)}/toxics", "POST", toxic)
    assert [item.held for item in down.verify_undone(record)] == [True, False]


class TestRoleLimit:
    def test_a_limit_that_somebody_changed_is_left_alone_and_told(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        record = on(fault, db)
        set_limit(db, 7)
        before = outside(db)
        with pytest.raises(UndoUnverified, match="limit 7: it was -1, the harness had set 2") as unverified:
            fault.undo(record)
        assert outside(db) == before
        with psycopg.connect(str(db.credentials.admin), autocommit=True) as admin:
            admin.execute(unverified.value.mend.encode())
        assert_held(fault.verify_undone(record))

    def test_the_original_limit_comes_back_not_just_none(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        set_limit(db, 30)
        try:
            before = outside(db)
            record = on(fault, db)
            fault.undo(record)
            assert_held(fault.verify_undone(record))
            assert outside(db) == before
        finally:
            set_limit(db, -1)

    def test_the_newest_sessions_above_the_limit_end_and_the_oldest_stay(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        sessions = [connect(db) for _ in range(6)]
        try:
            record = on(fault, db, limit="2")
            try:
                assert [alive(session) for session in sessions] == [True, True, False, False, False, False]
                with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
                    connect(db)
                assert_held(fault.prove(record, "injected"))
            finally:
                fault.undo(record)
            sessions.append(connect(db))
        finally:
            for session in sessions:
                session.close()

    def test_free_slots_are_given_back_right_after_the_refused_login(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        record = on(fault, db, limit="3")
        try:
            evidence = fault.prove(record, "injected")[-1]
            assert evidence.held and "3 free slots were taken and released" in evidence.observed
            limit_s = time.monotonic() + 10
            while True:  # the server takes a moment to notice that a client has left
                try:
                    connect(db).close()
                    break
                except psycopg.OperationalError:
                    assert time.monotonic() < limit_s
        finally:
            fault.undo(record)

    def test_a_pool_that_storms_in_meanwhile_does_not_break_the_fault(self, db: Dependency) -> None:
        """Sixteen clients that reconnect for ever, as a retrying pool does."""
        fault = registered()["connection-limit"]
        stop = threading.Event()

        def client() -> None:
            while not stop.is_set():
                try:
                    with connect(db) as session:
                        while not stop.wait(0.01):
                            session.execute("SELECT 1")
                except psycopg.OperationalError:
                    stop.wait(0.02)

        threads = [threading.Thread(target=client) for _ in range(16)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.3)
            record = on(fault, db, limit="2")
            try:
                assert_held(fault.prove(record, "injected"))
                assert_held(fault.prove(record, "held"))
            finally:
                fault.undo(record)
            assert_held(fault.verify_undone(record))
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_a_role_that_was_dropped_is_gone_and_the_path_is_still_asked(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        with psycopg.connect(str(db.credentials.admin), autocommit=True) as admin:
            admin.execute("CREATE ROLE passing LOGIN")
            record = on(fault, db.but(credentials={"role": "passing"}))
            admin.execute("DROP ROLE passing")
            # The same name, but not that very role: nothing of ours is on it.
            admin.execute("CREATE ROLE passing LOGIN CONNECTION LIMIT 2")
            try:
                with pytest.raises(Gone, match="no longer exists"):
                    fault.undo(record)
                assert_held(fault.verify_undone(record))
            finally:
                admin.execute("DROP ROLE passing")

    def test_a_renamed_role_with_a_hostile_name_is_still_undone(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        hostile = 'x"; DROP ROLE harness_probe; --'
        with psycopg.connect(str(db.credentials.admin), autocommit=True) as admin:
            admin.execute("CREATE ROLE passing LOGIN")
            record = on(fault, db.but(credentials={"role": "passing"}))
            admin.execute(sql.SQL("ALTER ROLE passing RENAME TO {}").format(sql.Identifier(hostile)))
            try:
                fault.undo(record)
                assert_held(fault.verify_undone(record))
            finally:
                admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(hostile)))

    def test_another_cluster_at_the_same_address_is_never_touched(self, db: Dependency) -> None:
        fault = registered()["connection-limit"]
        record = on(fault, db)
        try:
            other = msgspec.structs.replace(record, where={**record.where, "system_identifier": "1"})
            for call in (fault.undo, fault.verify_undone):
                with pytest.raises(UndoUnverified, match="another PostgreSQL server"):
                    call(other)
        finally:
            fault.undo(record)


def set_limit(db: Dependency, limit: int) -> None:
    with psycopg.connect(str(db.credentials.admin), autocommit=True) as admin:
        admin.execute(f"ALTER ROLE {db.credentials.role} CONNECTION LIMIT {limit}".encode())


def connect(db: Dependency) -> psycopg.Connection[tuple[object, ...]]:
    path: Address | None = db.path
    assert path is not None
    return psycopg.connect(f"{db.credentials.login} host={path.host} port={path.port}", autocommit=True)


def alive(session: psycopg.Connection[tuple[object, ...]]) -> bool:
    try:
        session.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True
