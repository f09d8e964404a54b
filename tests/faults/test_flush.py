"""flush: proven though the application fills the cache again at once; and nothing of ours is left."""

from __future__ import annotations

import threading

import msgspec
import pytest
import redis as redis_client

from harness.fault import registered
from harness.model.errors import Refused, Rejected
from harness.model.records.faults import Dependency, UndoRecord
from harness.testing import assert_held, change_for, through_json
from tests.support.servers.proxied import proxied
from tests.support.servers.real import SubprocessLauncher, ValkeyServer, start_valkey

pytestmark = pytest.mark.stack

FLUSH = registered()["flush"]


def captured(redis: Dependency) -> UndoRecord:
    return through_json(FLUSH.capture(change_for(FLUSH, redis), "r"))


def client(redis: Dependency, **options: object) -> redis_client.Redis:
    assert redis.direct is not None
    return redis_client.Redis(redis.direct.host, redis.direct.port, **options)  # type: ignore[arg-type]


def test_it_is_proven_while_the_cache_fills_again(redis: Dependency) -> None:
    over = threading.Event()

    def fill() -> None:
        with client(redis) as mine:
            number = 0
            while not over.is_set():
                mine.set(f"k{number % 100}", "v")
                number += 1

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        record = captured(redis)
        assert not all(item.held for item in FLUSH.prove(record, "injected"))
        applied = FLUSH.inject(record)
        assert_held(applied.evidence + FLUSH.prove(record, "injected"))
    finally:
        over.set()
        filler.join()
    FLUSH.undo(record)
    assert_held(FLUSH.verify_undone(record))
    with client(redis) as mine:
        assert not mine.keys("harness*")
        mine.flushall()


def test_every_database_is_emptied_and_nothing_of_ours_stays_when_it_never_came(redis: Dependency) -> None:
    with client(redis, db=3) as mine:
        mine.set("there", "1")
        record = captured(redis)
        assert record.original["keys"] == 1
        FLUSH.undo(record)
        assert_held(FLUSH.verify_undone(record))
        assert mine.get("there") == b"1", "an undo empties nothing"
        FLUSH.inject(record)
        assert mine.get("there") is None
        FLUSH.undo(record)


def test_a_path_that_leads_to_another_server_is_refused(redis: Dependency) -> None:
    launcher = SubprocessLauncher()
    try:
        other = start_valkey(launcher)
        with pytest.raises(Refused, match="does not lead to the server"):
            captured(msgspec.structs.replace(redis, direct=other.address))
        with client(redis) as mine, redis_client.Redis(other.address.host, other.address.port) as theirs:
            theirs.replicaof(redis.direct.host, str(redis.direct.port))  # type: ignore[union-attr]
            with pytest.raises(Refused, match="is a replica"):
                captured(msgspec.structs.replace(redis, direct=other.address, path=other.address))
            assert mine.ping()
    finally:
        launcher.close()


def test_a_password_that_is_wrong_is_told_without_the_password(
    valkey_server: ValkeyServer, toxiproxy_server: str, toxiproxy_process: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_PASSWORD", "correct horse battery")
    with proxied(toxiproxy_server, toxiproxy_process, valkey_server) as dependency:  # type: ignore[arg-type]
        secured = dependency.but(credentials={"password_env": "CACHE_PASSWORD"})
        with client(dependency) as mine:
            mine.config_set("requirepass", "another")
            try:
                with pytest.raises(Rejected) as rejected:
                    captured(secured)
                assert "correct" not in str(rejected.value) and "horse" not in str(rejected.value)
                mine.config_set("requirepass", "correct horse battery")
                record = captured(secured)
                assert "horse" not in msgspec.json.encode(record).decode()
                assert_held(FLUSH.inject(record).evidence + FLUSH.prove(record, "injected"))
                FLUSH.undo(record)
                assert_held(FLUSH.verify_undone(record))
            finally:
                mine.config_set("requirepass", "")
