"""Each defect shows under the fault it belongs to, does no harm without it, and is over soon after it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from .conftest import Api, World, running, wait_until
from .traffic import Seen, Traffic

RATE = 25.0
LIMIT_S = 5.0
SEEDS = {"redis": 31, "kafka": 32, "db": 33}
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
        elif defect == "no-timeout":
            hung = [reply for reply in during.replies if reply.kind == "predict" and reply.seconds > 0.5]
            assert len(hung) > 0.5 * sum(reply.kind == "predict" for reply in during.replies), during.summary()
        else:
            assert during.error_rate > 0.1, during.summary()
        assert defect not in api.log.read_text() + api.get("/metrics") + str(api.get("/health"))
