"""Signatures on real servers: a small service that behaves badly, or well, and the run's own sampler beside it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import psycopg
import pytest
import redis

from harness.analysis.rules import signatures
from harness.conductor.recording.sampler import Sampler
from harness.model.clock import monotonic
from harness.model.jsonl import read_lines
from harness.model.records.faults import Dependency
from harness.model.records.process import ServerProcess
from harness.model.records.result import SignatureResult
from harness.model.records.samples import Sample
from harness.model.records.stack import TargetInfo
from tests.support.servers.proxied import proxied, raw
from tests.support.servers.real import KafkaServer, PostgresServer, ValkeyServer

pytestmark = [pytest.mark.stack, pytest.mark.slow]

BEFORE_S, DURING_S, AFTER_S = 4.0, 5.0, 5.0


class Service:
    """Users that ask the cache, again and again, and the database for what is not in it.

    attempts: how often a call that failed is made again at once, on a connection of its own. keeps: a connection is
    used again. loads: queries for a key that was not found; fills: the answer is written to the cache.
    """

    def __init__(
        self,
        cache: Dependency,
        database: Dependency | None = None,
        *,
        users: int = 2,
        pause_s: float = 0.01,
        patience_s: float = 1.0,
        attempts: int = 1,
        loads: int = 1,
    ) -> None:
        self.cache, self.database = cache, database
        self.pause_s, self.patience_s, self.attempts, self.loads = pause_s, patience_s, attempts, loads
        self.keeps = self.fills = True
        self.requests: list[float] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._user, args=(n,), daemon=True) for n in range(users)]

    def __enter__(self) -> Service:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def asked(self, start: float, end: float) -> int:
        return sum(start <= at < end for at in list(self.requests))

    def _dial(self) -> redis.Redis:
        assert self.cache.path is not None
        host, port = self.cache.path.host, self.cache.path.port
        return redis.Redis(host=host, port=port, socket_timeout=self.patience_s, socket_connect_timeout=1.0, retry=None)

    def _user(self, number: int) -> None:
        login = self.database.credentials.admin if self.database is not None else None
        with psycopg.connect(login, autocommit=True) if login else nullcontext() as database:
            connection = self._dial()
            at = 0
            while not self._stop.is_set():
                self.requests.append(monotonic())
                key = f"signature:{number}:{at % 10}"
                at += 1
                found: object = None
                for attempt in range(self.attempts):
                    try:
                        found = connection.get(key)
                        break
                    except redis.RedisError:
                        connection.close()
                        connection = self._dial()
                        # A breaker: whoever is alone with a failing call waits before the next one.
                        if self.attempts == 1 and attempt == 0:
                            self._stop.wait(0.25)
                if found is None and database is not None:
                    for _ in range(self.loads):
                        database.execute("SELECT 1")
                    if self.fills:
                        with suppress(redis.RedisError):
                            connection.set(key, "x", ex=60)
                if not self.keeps:
                    connection.close()
                    connection = self._dial()
                self._stop.wait(self.pause_s)
            connection.close()


@contextmanager
def sampled(out: Path, *dependencies: Dependency) -> Iterator[float]:
    """Gives t0."""
    sampler = Sampler(interval_s=0.5)
    t0 = monotonic()
    sampler.start(t0, TargetInfo(url="http://127.0.0.1:1", metrics_url=None, pid=os.getpid()), dependencies, out)
    try:
        yield t0
    finally:
        sampler.stop()


@pytest.fixture
def cache(toxiproxy_server: str, toxiproxy_process: ServerProcess, valkey_server: ValkeyServer) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, valkey_server) as dependency:
        yield dependency


@pytest.fixture
def database(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, postgres_server: PostgresServer
) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, postgres_server) as dependency:
        yield dependency


def through(
    service: Service, out: Path, inject: Callable[[], object], undo: Callable[[], object], *more: Dependency
) -> tuple[list[Sample], tuple[float, float], tuple[float, float], float]:
    """Samples, baseline, fault and the undo, in seconds since t0, and the service's requests moved to that clock."""
    with service, sampled(out, service.cache, *more) as t0:
        time.sleep(1.0)
        begun = monotonic()
        time.sleep(BEFORE_S)
        injected = monotonic()
        inject()
        time.sleep(DURING_S)
        undo()
        undone = monotonic()
        time.sleep(AFTER_S)
    service.requests = [at - t0 for at in service.requests]
    samples: list[Sample] = list(read_lines(out, Sample))
    return samples, (begun - t0, injected - t0), (injected - t0, undone - t0), undone - t0


def toxic(cache: Dependency, latency_ms: int) -> tuple[Callable[[], object], Callable[[], object]]:
    url = f"{cache.proxy.url}/proxies/{cache.proxy.name}/toxics"
    body = {"name": "slow", "type": "latency", "stream": "downstream", "attributes": {"latency": latency_ms}}
    return lambda: raw(url, "POST", body), lambda: raw(f"{url}/slow", "DELETE")


@pytest.mark.parametrize(("attempts", "found"), [(5, True), pytest.param(1, False, marks=pytest.mark.thorough)])
def test_retries_without_a_pause_multiply_the_calls(
    cache: Dependency, tmp_path: Path, attempts: int, found: bool
) -> None:
    service = Service(cache, users=30, pause_s=0.1, patience_s=0.1, attempts=attempts)
    inject, undo = toxic(cache, 400)
    samples, before, during, _ = through(service, tmp_path / "samples.jsonl", inject, undo)
    calls = signatures.together(*(signatures.points(samples, cache.name, name) for name in ("commands", "connections")))
    # What the harness itself asks, INFO twice a reading, is the same before and during.
    seen = signatures.retry_amplification(cache.name, calls, service.asked, before, [during])
    assert seen is None or seen.found is found, seen
    assert seen is not None or not found, "too few requests to tell, in a service that waits"


@pytest.mark.parametrize("storm", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_a_connection_a_request_after_the_undo_is_a_storm(cache: Dependency, tmp_path: Path, storm: bool) -> None:
    service = Service(cache, users=8)
    proxy = f"{cache.proxy.url}/proxies/{cache.proxy.name}"

    def undo() -> None:
        service.keeps = not storm
        raw(proxy, "POST", {"enabled": True})

    samples, before, _, zero = through(
        service, tmp_path / "samples.jsonl", lambda: raw(proxy, "POST", {"enabled": False}), undo
    )
    connections = signatures.points(samples, cache.name, "connections")
    held = signatures.points(samples, cache.name, "clients")
    seen = signatures.reconnect_storm(cache.name, connections, held, before, zero)
    assert seen is not None and seen.found is storm, seen


@pytest.mark.parametrize("stampede", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_a_flushed_cache_that_the_database_pays_for(
    cache: Dependency, database: Dependency, tmp_path: Path, stampede: bool
) -> None:
    assert cache.direct is not None
    admin = redis.Redis(host=cache.direct.host, port=cache.direct.port)
    service = Service(cache, database, loads=3 if stampede else 1)

    def flush() -> None:
        service.fills = not stampede
        keys = admin.keys("signature:*")
        admin.delete(*keys)

    # The fault is over at once; what follows counts from the end of DURING_S only in the other tests.
    samples, before, during, _ = through(
        service, tmp_path / "samples.jsonl", flush, lambda: setattr(service, "fills", True), database
    )
    admin.close()
    hits, misses = (signatures.points(samples, cache.name, name) for name in ("hits", "misses"))
    loads = {database.name: signatures.points(samples, database.name, "transactions")}
    seen: SignatureResult | None = signatures.cold_cache(cache.name, hits, misses, loads, before, during[0])
    assert seen is not None and seen.found is stampede, seen
    if stampede:
        assert seen.observed < 0.3 and seen.extra is not None and seen.extra > 3
        assert seen.seconds is not None and DURING_S - 2 < seen.seconds < DURING_S + 6


@pytest.fixture
def broker(toxiproxy_server: str, toxiproxy_process: ServerProcess, kafka_server: KafkaServer) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, kafka_server, listen=kafka_server.advertised) as dependency:
        yield dependency


def test_a_consumer_that_stands_still_is_behind_until_it_goes_on(broker: Dependency, tmp_path: Path) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    topic, servers = "signature-lag", str(broker.path)
    instants: dict[str, float] = {}

    async def story() -> None:
        working = asyncio.Event()
        working.set()
        done = False

        async def consume() -> None:
            consumer = AIOKafkaConsumer(
                topic, bootstrap_servers=servers, group_id="signature", auto_offset_reset="earliest",
                enable_auto_commit=False,
            )  # fmt: skip
            await consumer.start()
            try:
                while not done:
                    await working.wait()
                    if await consumer.getmany(timeout_ms=200):
                        await consumer.commit()
            finally:
                await consumer.stop()

        producer = AIOKafkaProducer(bootstrap_servers=servers)
        await producer.start()
        await producer.send_and_wait(topic, b"first")
        consumer = asyncio.create_task(consume())

        async def produce(seconds: float) -> None:
            """Counted, not timed: a busy machine only takes longer for as many."""
            for _ in range(round(40 * seconds)):
                await asyncio.gather(*[await producer.send(topic, b"x") for _ in range(5)])
                await asyncio.sleep(0.01)
            await asyncio.sleep(seconds / 2)

        await produce(4.0)  # the group is found and has committed
        instants["begun"] = monotonic()
        await produce(4.0)
        instants["stopped"] = monotonic()
        working.clear()
        await produce(5.0)
        instants["zero"] = monotonic()
        await produce(2.0)
        working.set()
        instants["went on"] = monotonic()
        await produce(4.0)
        done = True
        await consumer
        await producer.stop()

    out = tmp_path / "samples.jsonl"
    with sampled(out, broker) as t0:
        asyncio.run(story())
    samples: list[Sample] = list(read_lines(out, Sample))
    at = {name: instant - t0 for name, instant in instants.items()}
    lag = signatures.points(samples, broker.name, "lag")
    seen = signatures.consumer_lag("kafka", lag, [], (at["begun"], at["stopped"]), at["stopped"], at["zero"])
    assert seen is not None and seen.observed > signatures.LEAST_LAG > seen.baseline, (seen, lag)
    # It was behind for as long as it stood still, and is not accused of that: it caught up soon.
    assert seen.seconds is not None and seen.seconds >= at["went on"] - at["zero"] - 1.1 and not seen.found, (seen, lag)
    cut = [(when, value) for when, value in lag if when < at["went on"]]
    never = signatures.consumer_lag("kafka", cut, [], (at["begun"], at["stopped"]), at["stopped"], at["zero"])
    assert never is not None and never.found and never.seconds is None, (never, cut)
