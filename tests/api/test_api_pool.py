"""Connections under time-outs and cancellation: a reply never reaches another request than its own."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from harness.model.resources import resource

from .conftest import World

sys.path.insert(0, str(resource("compose", "api")))

from anomaly_api.cache import Cache
from anomaly_api.pool import Pool, Unavailable
from anomaly_api.schemas import Prediction
from anomaly_api.scoring import VERSION
from anomaly_api.settings import Settings


def hash_of(number: int) -> str:
    return f"0x{number:064x}"


@pytest.mark.parametrize("kind", ["jitter", "hang", "latency"])
def test_no_cached_prediction_reaches_another_request(world: World, kind: str) -> None:
    """Answers arrive around the budget, callers give up at random: what does arrive must be one's own."""
    settings = replace(Settings(), redis_url=world.environment()["REDIS_URL"])
    wrong: list[str] = []
    outcomes = {"found": 0, "unavailable": 0, "cancelled": 0}

    async def ask(cache: Cache, draw: random.Random) -> None:
        numbers = [draw.randrange(200) for _ in range(draw.choice((1, 1, 5)))]
        try:
            async with asyncio.timeout(draw.choice((None, 0.01, 0.03))):
                found = await cache.lookup([hash_of(number) for number in numbers])
        except Unavailable:
            outcomes["unavailable"] += 1
            return
        except TimeoutError:
            outcomes["cancelled"] += 1
            return
        for number, prediction in zip(numbers, found, strict=True):
            if prediction is not None:
                outcomes["found"] += 1
                if prediction.confidence != 0.5 + number / 1000:
                    wrong.append(f"{number} got {prediction.confidence}")

    async def go() -> None:
        cache = Cache(settings)
        assert cache.pool is not None
        cache.start()
        async with asyncio.timeout(60):
            await cache.pool.wait_up()
            for number in range(200):
                cache.store(Prediction(hash_of(number), False, 0.5 + number / 1000, None, False, VERSION))
            while None in (await cache.lookup([hash_of(number) for number in range(200)])):
                await asyncio.sleep(0.05)
        draw = random.Random(3)
        asks: list[asyncio.Task[None]] = []
        for turn in range(6):
            undo = await asyncio.to_thread(world.inject, "redis", kind) if turn % 2 else None
            for _ in range(40):
                asks.append(asyncio.create_task(ask(cache, draw)))
                await asyncio.sleep(0.01)
            if undo is not None:
                await asyncio.to_thread(undo)
        await asyncio.gather(*asks)
        await cache.stop()

    asyncio.run(go())
    assert not wrong, wrong[:5]
    assert outcomes["found"] > 20 and outcomes["unavailable"] + outcomes["cancelled"] > 0, outcomes


class Line:
    """A connection to nothing: what a pool sees of one. Real servers cannot be made to fail at a chosen await."""

    def __init__(self) -> None:
        self.open = True
        self.busy = False

    async def ask(self, seconds: float) -> str:
        assert self.open and not self.busy, "a closed or busy connection was handed out"
        self.busy = True
        await asyncio.sleep(seconds)
        self.busy = False
        return "answer"

    def close(self) -> None:
        assert self.open, "closed twice"
        self.open = False


def pool_of(dial: Callable[[], Awaitable[Line]], **settings: object) -> Pool[Line]:
    return Pool(
        "line",
        dial=dial,
        close=Line.close,
        alive=lambda line: line.open,
        **{"size": 2, "budget_s": 0.05, "dial_budget_s": 1.0, "retry_s": 0.02, **settings},  # type: ignore[arg-type]
    )


def test_without_a_connection_calls_fail_at_once_and_a_trial_goes_on_alone() -> None:
    dials = 0

    async def dial() -> Line:
        nonlocal dials
        dials += 1
        if dials < 4:
            raise ConnectionRefusedError
        return Line()

    async def go() -> None:
        pool = pool_of(dial)
        pool.start()
        for _ in range(1000):
            with pytest.raises(Unavailable):
                await pool.run(lambda line: line.ask(0))
        assert dials <= 1
        async with asyncio.timeout(30):
            await pool.wait_up()
        assert await pool.run(lambda line: line.ask(0)) == "answer"
        await pool.stop()

    asyncio.run(go())


def test_a_server_that_admits_few_is_shared_by_all_who_wait() -> None:
    made: list[Line] = []

    async def dial() -> Line:
        if made:
            raise PermissionError("too many connections")
        made.append(Line())
        return made[0]

    async def go() -> None:
        pool = pool_of(dial, budget_s=30.0, size=5)
        pool.start()
        await pool.wait_up()
        answers = await asyncio.gather(*(pool.run(lambda line: line.ask(0.001)) for _ in range(100)))
        assert answers == ["answer"] * 100 and len(made) == 1
        await pool.stop()
        assert not made[0].open

    asyncio.run(go())


def test_every_connection_is_closed_once_whatever_ends_the_calls() -> None:
    made: list[Line] = []

    async def dial() -> Line:
        made.append(Line())
        return made[-1]

    async def go() -> None:
        pool = pool_of(dial, overflow=3)
        pool.start()
        await pool.wait_up()
        draw = random.Random(11)

        async def call() -> None:
            try:
                async with asyncio.timeout(draw.choice((None, 0.0, 0.005, 0.02))):
                    await pool.run(lambda line: line.ask(draw.choice((0.0, 0.001, 0.01, 0.2))))
            except (Unavailable, TimeoutError):
                pass

        for _ in range(300):
            calls = [asyncio.create_task(call()) for _ in range(draw.randrange(8))]
            await asyncio.sleep(0.002)
            del calls
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        await asyncio.wait([task for task in others if task.get_name() == "" or "connections" not in task.get_name()])
        assert 0 <= pool.live <= 5
        async with asyncio.timeout(30):
            while pool.live < 2:
                await asyncio.sleep(0.01)
        assert await pool.run(lambda line: line.ask(0)) == "answer"
        await pool.stop()
        assert pool.live == 0
        assert not any(line.open for line in made)

    asyncio.run(go())
