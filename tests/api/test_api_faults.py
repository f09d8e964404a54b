"""The sample API as shipped, while each of its dependencies fails: every request answered, and answered right."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from .conftest import LIMIT_S, Api, World, running, wait_until
from .traffic import Seen, Traffic, Transactions, client

RATE = 30.0
HEALTHY_S = 0.6
FAULT_S = 1.8

FAULTS = [(name, kind) for name in ("redis", "db", "kafka") for kind in ("down", "hang", "latency")]
FAULTS += [("risk", kind) for kind in ("down", "hang", "503", "half-429", "delay", "slow-body")]
WORD = {"redis": "redis", "db": "database", "kafka": "kafka", "risk": "risk"}


async def through(api: Api, world: World, name: str, kind: str, seed: int) -> tuple[Seen, list[str], dict[str, str]]:
    """Load before, during and after a fault; the replies, the acknowledged hashes, and the health seen during it."""
    traffic = Traffic(api.port, RATE, seed=seed, limit_s=LIMIT_S)
    traffic.start()
    await asyncio.sleep(HEALTHY_S)
    undo = await asyncio.to_thread(world.inject, name, kind)
    try:
        await asyncio.sleep(FAULT_S)
        during = await asyncio.to_thread(api.health)
    finally:
        await asyncio.to_thread(undo)
    await asyncio.sleep(HEALTHY_S)
    return await traffic.stop(), traffic.acknowledged, during


@pytest.mark.parametrize(("name", "kind"), FAULTS)
def test_no_request_fails_while_a_dependency_does(api: Api, world: World, name: str, kind: str) -> None:
    wait_until("every dependency", lambda: set(api.health().values()) == {"up"})
    seen, _, during = asyncio.run(through(api, world, name, kind, seed=100 + FAULTS.index((name, kind))))
    assert len(seen.replies) > 20
    assert seen.error_rate == 0, seen.summary()
    # A slow broker is still a broker: its events simply wait. One that wants a second's pause is down and up by turns.
    if kind not in ("503", "half-429"):
        assert during[WORD[name]] == ("up" if (name, kind) == ("kafka", "latency") else "down")
    wait_until("recovery", lambda: set(api.health().values()) == {"up"})


def test_the_good_connections_are_kept_when_the_database_admits_no_more(api: Api, world: World) -> None:
    wait_until("every dependency", lambda: set(api.health().values()) == {"up"})
    before = api.signal("stale_answers_total")
    seen, _, during = asyncio.run(through(api, world, "db", "connection-limit", seed=7))
    assert seen.error_rate == 0, seen.summary()
    assert during["database"] == "up"
    # Fresh answers from the database all along: only those cut off at the injection were stale.
    queries = sum(reply.kind == "anomalies" for reply in seen.replies)
    assert api.signal("stale_answers_total") - before < max(5, queries)


def test_what_was_acknowledged_while_the_database_was_away_is_written_later(api: Api, world: World) -> None:
    wait_until("every dependency", lambda: set(api.health().values()) == {"up"})
    seen, acknowledged, _ = asyncio.run(through(api, world, "db", "down", seed=8))
    assert seen.error_rate == 0, seen.summary()
    wanted = sorted(set(acknowledged))
    count = "SELECT count(*) FROM predictions WHERE hash = ANY(%s)"
    wait_until("every acknowledged prediction", lambda: world.query(count, wanted) == [(len(wanted),)])
    assert api.signal("db_writes_lost_total") == 0


def test_known_predictions_and_anomalies_are_answered_from_memory(api: Api, world: World) -> None:
    """With cache and database away at once: still from_cache, still a list, and the list says that it is stale."""
    odd = {**Transactions(seed=21).one(), "value": 1e9}

    async def ask(method: str, path: str, body: object = None) -> dict[str, Any]:
        async with client(api.port, LIMIT_S) as one:
            status, text = await one.request(method, path, body)
        assert status == 200, text
        return dict(msgspec.json.decode(text))

    first = asyncio.run(ask("POST", "/api/v1/predict", {"transaction": odd}))
    with world.fault("redis", "down"), world.fault("db", "down"):
        wait_until("both to be missed", lambda: list(api.health().values()).count("down") == 2)
        again = asyncio.run(ask("POST", "/api/v1/predict", {"transaction": odd}))
        assert again == {**first, "from_cache": True, "risk_score": None}
        listed = asyncio.run(ask("GET", "/api/v1/anomalies?limit=100&severity=critical"))
        assert listed["stale"] is True
        assert odd["hash"] in {one["transaction_hash"] for one in listed["anomalies"]}
    wait_until("recovery", lambda: set(api.health().values()) == {"up"})


def test_it_starts_without_its_dependencies_and_finds_them_later(world: World, tmp_path: Path) -> None:
    undo = [world.inject(name, "down") for name in world.dependencies]
    try:
        with running(world, tmp_path / "log", wait=False) as lonely:
            assert set(lonely.health().values()) == {"down"}
            seen = asyncio.run(_short(lonely))
            assert seen.error_rate == 0, seen.summary()
            while undo:
                undo.pop()()
            wait_until("all of them", lambda: set(lonely.health().values()) == {"up"})
    finally:
        for one in undo:
            one()


async def _short(api: Api) -> Seen:
    traffic = Traffic(api.port, RATE, seed=9, limit_s=LIMIT_S)
    traffic.start()
    await asyncio.sleep(1.0)
    return await traffic.stop()
