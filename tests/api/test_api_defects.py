"""Each defect shows under the fault it belongs to, does no harm without it, and is over soon after it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.adapters.clients.envoy import Envoy

from .conftest import Api, World, running, wait_until
from .traffic import Seen, Traffic, Transactions, client

RATE = 25.0
LIMIT_S = 5.0
SEEDS = {"redis": 31, "kafka": 32, "db": 33, "risk": 34}
"""Transactions that no other test has sent: what is in the cache already touches nothing else."""


async def through(api: Api, world: World, name: str, kind: str) -> tuple[Seen, Seen, Seen]:
    """Replies before, during and well after the fault."""
    traffic = Traffic(api.port, RATE, seed=SEEDS[name], limit_s=LIMIT_S, repeats=0.3)
    traffic.start()
    begun = time.monotonic()
    await asyncio.sleep(1.2)
    injecting = time.monotonic()
    undo = await asyncio.to_thread(world.inject, name, kind)
    injected = time.monotonic()
    try:
        await asyncio.sleep(2.5)
    finally:
        undoing = time.monotonic()
        await asyncio.to_thread(undo)
    await asyncio.to_thread(wait_until, "recovery", lambda: set(api.health().values()) == {"up"})
    await asyncio.sleep(1.5)
    healthy = time.monotonic()
    await asyncio.sleep(1.5)
    seen = await traffic.stop()
    # Requests still open when the fault came belong to neither side.
    before = seen.between(begun, injecting - 0.5)
    return before, seen.between(injected, undoing), seen.between(healthy, time.monotonic())


@pytest.mark.parametrize(
    ("defect", "name", "kind"),
    [
        ("no-fallback", "redis", "down"),
        ("no-timeout", "redis", "hang"),
        ("sync-kafka", "kafka", "latency"),
        ("small-pool", "db", "connection-limit"),
        ("retry-storm", "redis", "latency"),
        ("upstream-no-timeout", "risk", "delay"),
    ],
)
def test_a_defect_shows_under_its_fault_and_only_there(
    world: World, tmp_path: Path, defect: str, name: str, kind: str
) -> None:
    with running(world, tmp_path / "log", ANOMALY_API_DEFECT=defect) as api:
        before, during, after = asyncio.run(through(api, world, name, kind))
        assert before.error_rate == 0, before.summary()
        assert after.error_rate == 0, after.summary()
        if defect == "sync-kafka":
            predictions = Seen([reply for reply in during.replies if reply.kind == "predict"])
            assert predictions.quantile(0.5) >= 0.3, during.summary()
        elif defect in ("no-timeout", "upstream-no-timeout"):
            hung = [reply for reply in during.replies if reply.kind == "predict" and reply.seconds > 0.5]
            assert len(hung) > 0.5 * sum(reply.kind == "predict" for reply in during.replies), during.summary()
        elif defect == "retry-storm":
            # Five attempts of 50 ms each before the answer goes without the cache.
            assert Seen([reply for reply in during.replies if reply.kind == "predict"]).quantile(0.5) >= 0.2
        else:
            assert during.error_rate > 0.1, during.summary()
        assert defect not in api.log.read_text() + api.get("/metrics") + str(api.get("/health"))


async def predictions(api: Api, seed: int, many: int) -> list[str]:
    """The hashes of so many transactions, all of them acknowledged."""
    transactions = Transactions(seed, repeats=0.0)
    acknowledged: list[str] = []
    async with client(api.port, LIMIT_S) as connection:
        while len(acknowledged) < many:
            sent = [transactions.one() for _ in range(50)]
            status, _ = await connection.request("POST", "/api/v1/batch/predict", {"transactions": sent})
            assert status == 200, status
            acknowledged += [str(one["hash"]) for one in sent]
    return acknowledged


def missing(world: World, hashes: list[str]) -> int:
    stored = world.query("SELECT count(*) FROM predictions WHERE hash = ANY(%s)", hashes)
    return len(hashes) - int(stored[0][0])


@pytest.mark.parametrize(("defect", "lost"), [("", 0), ("lost-writes", 3)])
def test_writes_acknowledged_without_the_database_are_there_later_or_one_in_200_is_not(
    world: World, tmp_path: Path, defect: str, lost: int
) -> None:
    with running(world, tmp_path / "log", ANOMALY_API_DEFECT=defect) as api:
        before = asyncio.run(predictions(api, 70 + lost, 300))
        with world.fault("db", "down"):
            wait_until("the API to notice", lambda: api.health()["database"] == "down")
            during = asyncio.run(predictions(api, 80 + lost, 600))
        wait_until("the backlog to be written", lambda: api.health()["database"] == "up" and not backlog(api))
        assert missing(world, before) == 0
        assert missing(world, during) == lost


def backlog(api: Api) -> float:
    return api.signal("db_write_backlog")


def test_a_full_backlog_refuses_and_drops_nothing_that_was_acknowledged(world: World, tmp_path: Path) -> None:
    with running(world, tmp_path / "log", WRITE_BACKLOG="100") as api:
        with world.fault("db", "down"):
            wait_until("the API to notice", lambda: api.health()["database"] == "down")
            kept = asyncio.run(predictions(api, 90, 100))
            with pytest.raises(AssertionError, match="503"):
                asyncio.run(predictions(api, 91, 50))
        wait_until("the backlog to be written", lambda: api.health()["database"] == "up" and not backlog(api))
        assert missing(world, kept) == 0


def test_a_leaky_pool_is_empty_for_ever_after_a_fault(world: World, tmp_path: Path) -> None:
    with running(world, tmp_path / "log", ANOMALY_API_DEFECT="leaky-pool") as api:
        traffic = asyncio.run(through_an_outage(api, world))
        assert traffic.error_rate > 0.5, traffic.summary()


async def through_an_outage(api: Api, world: World) -> Seen:
    """Replies well after the database was down for two seconds."""
    traffic = Traffic(api.port, RATE, seed=95, limit_s=LIMIT_S, repeats=0.0)
    traffic.start()
    await asyncio.sleep(1.0)
    undo = await asyncio.to_thread(world.inject, "db", "down")
    await asyncio.sleep(2.0)
    await asyncio.to_thread(undo)
    await asyncio.sleep(3.0)
    after = time.monotonic()
    await asyncio.sleep(2.0)
    until = time.monotonic()
    seen = await traffic.stop()
    return Seen([reply for reply in seen.between(after, until).replies if reply.kind in ("predict", "batch")])


@pytest.mark.parametrize("defect", ["", "retry-storm"])
def test_a_storm_asks_an_upstream_that_refuses_five_times_for_each_request(
    world: World, tmp_path: Path, defect: str
) -> None:
    risk = world.dependencies["risk"]
    assert risk.front is not None
    server = Envoy(risk.front)
    with running(world, tmp_path / "log", ANOMALY_API_DEFECT=defect) as api:
        with world.fault("risk", "503"):
            before = server.counts()
            answers = [asyncio.run(assessed(api)) for _ in range(20)]
            after = server.counts()
        assert [one["risk_score"] for one in answers] == [None] * 20
        # As shipped it is left alone for the second that it asks for.
        calls = after.application - before.application
        assert (60 <= calls <= 100) if defect else (1 <= calls <= 20), calls
        assert after.upstream == before.upstream
        wait_until("the upstream to be asked again", lambda: asyncio.run(assessed(api))["risk_score"] is not None)


NEW = Transactions(35, repeats=0.0)


async def assessed(api: Api) -> dict[str, Any]:
    """The answer for a transaction that is new."""
    async with client(api.port, LIMIT_S) as one:
        status, body = await one.request("POST", "/api/v1/predict", {"transaction": NEW.one()})
    assert status == 200, body
    return dict(msgspec.json.decode(body))
