"""Kafka: an event for every answered request, and consumers that add the events up.

Events wait in a bounded queue and one task delivers them, batch by batch, in order; a batch is taken off the queue
when the broker has acknowledged it. So nothing on the request path knows whether the broker is there.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import Counter, deque
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from anomaly_api.settings import Settings

logger = logging.getLogger("anomaly_api")

BATCH = 500
REQUEST_LIMIT_MS = 5_000
RETRY_S = 0.25
SILENT_S = 1.0
"""A broker that has not acknowledged a batch for this long is reported as down; the client itself waits longer."""
LINGER_S = 0.1
"""Events are gathered this long: a batch costs the broker, the consumers and us as much as a single event."""
PARTITIONS = 3


class Event(msgspec.Struct, frozen=True, gc=False):
    """What one request found: how many transactions, and how many anomalies by severity."""

    at: float
    transactions: int
    anomalies: dict[str, int]


class Stream:
    """publish() never waits. lag: messages that this process's consumers have not read yet."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue: deque[bytes] = deque()
        self._taken_off = 0
        self._bound = settings.kafka_backlog
        self._wake = asyncio.Event()
        self._producer: AIOKafkaProducer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._first = asyncio.Event()
        self._lags: dict[int, int] = {}
        self._answered = False
        self._waiting_since: float | None = None
        self.delivered = 0
        self.dropped = 0
        self.consumed: Counter[str] = Counter()

    @property
    def up(self) -> bool:
        """The last batch was acknowledged, and none has been waiting for long."""
        since = self._waiting_since
        return self._answered and (since is None or time.monotonic() - since < SILENT_S)

    @property
    def backlog(self) -> int:
        return len(self._queue)

    @property
    def lag(self) -> int:
        return sum(self._lags.values())

    def start(self) -> None:
        # The client logs every attempt of its own reconnecting; ours says once that the broker is away.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._tasks.append(asyncio.create_task(self._deliver(), name="kafka producer"))
        for number in range(self._settings.kafka_workers):
            self._tasks.append(asyncio.create_task(self._consume(number), name=f"kafka consumer {number}"))

    async def wait_up(self) -> None:
        await self._first.wait()

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._producer is not None:
            await _stop(self._producer)

    def publish(self, event: Event) -> None:
        if len(self._queue) >= self._bound:
            self._take_off(1)
            self.dropped += 1
        self._queue.append(msgspec.json.encode(event))
        self._wake.set()

    async def publish_now(self, event: Event) -> None:
        """Wait for the broker's acknowledgement. An event that cannot be delivered is dropped."""
        try:
            if self._producer is None:
                raise KafkaError
            await self._producer.send_and_wait(self._settings.kafka_topic, msgspec.json.encode(event))
            self.delivered += 1
        except KafkaError:
            self.dropped += 1

    async def _deliver(self) -> None:
        while self._producer is None:
            try:
                self._producer = await self._connect()
            except (KafkaError, OSError, TimeoutError) as error:
                self._say_down(error)
                await asyncio.sleep(RETRY_S)
        self._say_up()
        self._first.set()
        partitions = itertools.count()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                try:
                    await self._deliver_batch(self._producer, next(partitions))
                    self._say_up()
                    if len(self._queue) < BATCH:
                        await asyncio.sleep(LINGER_S)
                except (KafkaError, OSError, TimeoutError) as error:
                    self._say_down(error)
                    await asyncio.sleep(RETRY_S)

    async def _deliver_batch(self, producer: AIOKafkaProducer, turn: int) -> None:
        topic = self._settings.kafka_topic
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
        known = sorted(await producer.partitions_for(topic))
        batch = producer.create_batch()
        events = 0
        for value in itertools.islice(self._queue, BATCH):
            if batch.append(key=None, value=value, timestamp=None) is None:
                break
            events += 1
        start = self._taken_off
        acknowledged = await producer.send_batch(batch, topic, partition=known[turn % len(known)])
        await acknowledged
        self._waiting_since = None
        # Meanwhile a full queue may have dropped some of these from its head.
        self._take_off(max(0, start + events - self._taken_off))
        self.delivered += events

    def _take_off(self, events: int) -> None:
        for _ in range(events):
            self._queue.popleft()
        self._taken_off += events

    async def _connect(self) -> AIOKafkaProducer:
        settings = self._settings
        async with asyncio.timeout(REQUEST_LIMIT_MS / 1000):
            await _create_topic(settings)
            producer = AIOKafkaProducer(
                bootstrap_servers=settings.kafka_bootstrap,
                client_id="anomaly-api",
                acks=1,
                linger_ms=0,
                request_timeout_ms=REQUEST_LIMIT_MS,
                retry_backoff_ms=100,
            )
            try:
                await producer.start()
            except BaseException:
                await _stop(producer)
                raise
            return producer

    async def _consume(self, number: int) -> None:
        """Read for ever; a consumer that failed is replaced."""
        while True:
            await self._first.wait()
            consumer = AIOKafkaConsumer(
                self._settings.kafka_topic,
                bootstrap_servers=self._settings.kafka_bootstrap,
                client_id=f"anomaly-api-{number}",
                group_id=self._settings.kafka_group,
                auto_offset_reset="earliest",
                request_timeout_ms=REQUEST_LIMIT_MS,
                session_timeout_ms=6_000,
                heartbeat_interval_ms=2_000,
                rebalance_timeout_ms=10_000,
                retry_backoff_ms=250,
                fetch_max_wait_ms=500,
                auto_commit_interval_ms=1_000,
            )
            try:
                await consumer.start()
                while True:
                    self._read(await consumer.getmany(timeout_ms=500, max_records=BATCH), consumer)
            except (KafkaError, OSError, TimeoutError) as error:
                logger.info("kafka consumer: %s", type(error).__name__)
            finally:
                await _stop(consumer)
            await asyncio.sleep(1.0)

    def _read(self, records: dict[Any, list[Any]], consumer: AIOKafkaConsumer) -> None:
        for partition, messages in records.items():
            for message in messages:
                self._add_up(message.value)
            end = consumer.highwater(partition)
            if end is not None:
                self._lags[partition.partition] = max(0, end - messages[-1].offset - 1)
        assigned = {partition.partition for partition in consumer.assignment()}
        if self._settings.kafka_workers == 1:
            self._lags = {number: lag for number, lag in self._lags.items() if number in assigned}

    def _add_up(self, value: bytes | None) -> None:
        try:
            event = msgspec.json.decode(value or b"", type=Event)
        except msgspec.MsgspecError:
            return  # somebody else's message
        self.consumed["transactions"] += event.transactions
        self.consumed.update(event.anomalies)

    def _say_up(self) -> None:
        if not self._answered:
            self._answered = True
            logger.warning("kafka answers")

    def _say_down(self, error: BaseException) -> None:
        level = logging.WARNING if self._answered else logging.INFO
        logger.log(level, "kafka does not answer (%s)", type(error).__name__)
        self._answered = False


async def _create_topic(settings: Settings) -> None:
    """Workers race here; whoever comes second finds it made, which the reply says without an exception."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap, request_timeout_ms=REQUEST_LIMIT_MS)
    try:
        await admin.start()
        await admin.create_topics([NewTopic(settings.kafka_topic, num_partitions=PARTITIONS, replication_factor=1)])
    finally:
        await admin.close()


async def _stop(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """Close within a moment: with the broker away, closing waits for it."""
    try:
        async with asyncio.timeout(0.5):
            await client.stop()
    except (TimeoutError, KafkaError, OSError):
        pass
