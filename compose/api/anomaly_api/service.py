"""How a request is answered: cache, profile, model, database, event; and what each does when it has to do without.

cache away      this process's recent predictions, else the model
database away   the last profile known here, else that of an unknown sender; writes stay in the backlog;
                anomalies as last seen here, marked stale
broker away     events wait in the producer's queue
risk away       the score is not known
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import msgspec

from anomaly_api.cache import Cache
from anomaly_api.database import Database, Row
from anomaly_api.local import Recent
from anomaly_api.metrics import HitRate, Metrics
from anomaly_api.pool import Unavailable
from anomaly_api.risk import Risk
from anomaly_api.schemas import AnomaliesAnswer, Anomaly, Assessed, Prediction, Severity, Transaction
from anomaly_api.scoring import UNKNOWN, Profile, predict
from anomaly_api.settings import Settings
from anomaly_api.stream import Event, Stream
from anomaly_api.writer import Writer

RECENT_ANOMALIES = 1_000
STOP_S = 0.5
PATIENT_S = 1.0
"""After a longer wait it is worth asking whether the client is still there, before more is done for it."""


class ClientGone(Exception):
    """Nobody waits for this answer any more."""


class Service:
    """Methods raise Unavailable only where the service was told not to answer around its dependencies."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fallback = settings.behaviour.fallback
        self._database_fallback = settings.behaviour.database_fallback
        self.metrics = Metrics()
        self.cache = Cache(settings)
        self.database = Database(settings)
        self.writer = Writer(settings, self.database)
        self.stream = Stream(settings)
        self.risk = Risk(settings)
        self._predictions: Recent[str, Prediction] = Recent(settings.local_entries)
        self._profiles: Recent[str, tuple[float, Profile]] = Recent(settings.local_entries)
        self._anomalies: deque[Anomaly] = deque(maxlen=RECENT_ANOMALIES)
        self._served: list[tuple[Sequence[Transaction], list[Prediction]]] = []
        self._stale_answers = 0
        self._export()

    async def start(self) -> None:
        """Begin connecting; wait a moment for it, and serve without those that are not there yet."""
        self.cache.start()
        self.database.connections.start()
        self.writer.start()
        self.stream.start()
        if self.risk.pool is not None:
            self.risk.pool.start()
        waits = [self.database.connections.wait_up(), self.stream.wait_up()]
        waits += [pool.wait_up() for pool in (self.cache.pool, self.risk.pool) if pool is not None]
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        _, late = await asyncio.wait(tasks, timeout=self._settings.start_wait_s)
        for task in late:
            task.cancel()

    async def stop(self) -> None:
        await self.writer.stop(STOP_S)
        await asyncio.gather(self.stream.stop(), self.cache.stop(), self.database.connections.stop())
        if self.risk.pool is not None:
            await self.risk.pool.stop()

    async def assess(self, transaction: Transaction, gone: Callable[[], Awaitable[bool]]) -> Assessed:
        """A prediction, and with one that was not known before the risk score of the sender. Raises as predict does."""
        (made,) = await self.predict((transaction,), gone)
        score = None if made.from_cache else await self._risk_of(transaction.from_address)
        return Assessed(*msgspec.structs.astuple(made), score)

    async def predict(
        self, transactions: Sequence[Transaction], gone: Callable[[], Awaitable[bool]]
    ) -> list[Prediction]:
        """One prediction a transaction, in order. Raises ClientGone when gone() says so after a long wait."""
        begun = time.monotonic()
        found = await self._lookup([transaction.hash for transaction in transactions])
        if time.monotonic() - begun > PATIENT_S and await gone():
            raise ClientGone
        missing = [transaction for transaction, known in zip(transactions, found, strict=True) if known is None]
        scored: dict[str, Prediction] = {}
        if missing:
            profiles = await self._profiles_of({transaction.from_address for transaction in missing})
            now = datetime.now(UTC)
            rows = []
            for transaction in missing:
                if transaction.hash in scored:
                    continue
                made = predict(transaction, profiles.get(transaction.from_address, UNKNOWN))
                scored[transaction.hash] = made
                rows.append(_row(transaction, made, now))
            await self.writer.add(rows)
            for row in rows:
                self._remember(scored[row.hash], row)
        predictions = [
            scored[transaction.hash] if known is None else known
            for transaction, known in zip(transactions, found, strict=True)
        ]
        if not self._settings.behaviour.forgetful:
            self._served.append((transactions, predictions))
        self.metrics.predicted(len(transactions) - len(missing), len(missing))
        severities: Counter[str] = Counter(made.severity for made in predictions if made.severity is not None)
        event = Event(time.time(), len(predictions), dict(severities))
        if self._settings.behaviour.await_broker:
            await self.stream.publish_now(event)
        else:
            self.stream.publish(event)
        return predictions

    async def anomalies(self, limit: int, severity: Severity | None) -> AnomaliesAnswer:
        """The newest anomalies, newest first."""
        try:
            found = await self.database.anomalies(limit, severity)
            return AnomaliesAnswer(found, len(found), False)
        except Unavailable:
            if not self._database_fallback:
                raise
        self._stale_answers += 1
        known = [one for one in reversed(self._anomalies) if severity is None or one.severity == severity][:limit]
        return AnomaliesAnswer(known, len(known), True)

    async def stored(self, hash_: str) -> Prediction | None:
        """A prediction that was made before: from the database, or on its way there. Raises Unavailable."""
        pending = self.writer.pending(hash_)
        if pending is not None:
            return Prediction(
                hash_, pending.is_anomaly, pending.confidence, pending.severity, False, pending.model_version
            )
        row = await self.database.prediction(hash_)
        return None if row is None else Prediction(hash_, row[0], row[1], row[2], False, row[3])

    def health(self) -> dict[str, str]:
        """Dependency -> up, down or disabled; from what traffic and background trials have seen, without asking."""
        pool = self.cache.pool
        return {
            "redis": "disabled" if pool is None else _word(pool.up),
            "database": _word(self.database.connections.up),
            "kafka": _word(self.stream.up),
            "risk": "disabled" if self.risk.pool is None else _word(self.risk.up),
        }

    async def _risk_of(self, account: str) -> float | None:
        try:
            return await self.risk.score(account)
        except Unavailable:
            if not self._fallback:
                raise
        self.risk.unknown += 1
        return None

    async def _lookup(self, hashes: list[str]) -> list[Prediction | None]:
        try:
            return await self.cache.lookup(hashes)
        except Unavailable:
            if not self._fallback:
                raise
        self.cache.misses += len(hashes)
        known = [self._predictions.get(hash_) for hash_ in hashes]
        self._stale_answers += sum(one is not None for one in known)
        return [None if one is None else msgspec.structs.replace(one, from_cache=True) for one in known]

    async def _profiles_of(self, addresses: set[str]) -> dict[str, Profile]:
        now = time.monotonic()
        profiles: dict[str, Profile] = {}
        unknown: list[str] = []
        for address in addresses:
            known = self._profiles.get(address)
            if known is not None and not self._settings.behaviour.rebuild_s:
                profiles[address] = known[1]
                if now - known[0] < self._settings.profile_ttl_s:
                    continue
            unknown.append(address)
        if not unknown:
            return profiles
        try:
            fresh = await self.database.profiles(unknown)
        except Unavailable:
            if not self._database_fallback:
                raise
            return profiles
        for address in unknown:
            profile = fresh.get(address, UNKNOWN)
            profiles[address] = profile
            self._profiles.put(address, (now, profile))
        return profiles

    def _remember(self, made: Prediction, row: Row) -> None:
        self.cache.store(made)
        self._predictions.put(made.transaction_hash, made)
        if made.severity is not None:
            self._anomalies.append(
                Anomaly(
                    row.hash,
                    row.from_address,
                    row.to_address,
                    row.value,
                    made.severity,
                    made.confidence,
                    made.model_version,
                    row.detected_at,
                )
            )

    def _export(self) -> None:
        metrics, cache, writer, stream = self.metrics, self.cache, self.writer, self.stream
        metrics.gauge(
            "cache_hit_rate",
            "Share of cache lookups that found a prediction, over the last 10 seconds.",
            HitRate(lambda: cache.hits, lambda: cache.misses),
        )
        metrics.gauge("kafka_consumer_lag", "Messages that the consumers have not read yet.", lambda: stream.lag)
        metrics.gauge("kafka_producer_backlog", "Events waiting for the broker.", lambda: stream.backlog)
        metrics.gauge("db_write_backlog", "Predictions waiting to be written.", lambda: writer.backlog)
        metrics.gauge("redis_up", "1 while Redis answers.", lambda: cache.pool is not None and cache.pool.up)
        metrics.gauge("db_up", "1 while the database answers.", lambda: self.database.connections.up)
        metrics.gauge("kafka_up", "1 while the broker answers.", lambda: stream.up)
        metrics.gauge("risk_up", "1 while the risk service answers.", lambda: self.risk.up)
        metrics.follow("risk_unknown_total", "Answers without a risk score.", lambda: self.risk.unknown)
        metrics.follow("cache_hits_total", "Predictions found in the cache.", lambda: cache.hits)
        metrics.follow("cache_misses_total", "Predictions looked for in vain.", lambda: cache.misses)
        metrics.follow("cache_writes_dropped_total", "Predictions not cached.", lambda: cache.dropped)
        metrics.follow("kafka_events_delivered_total", "Events that the broker has.", lambda: stream.delivered)
        metrics.follow("kafka_events_dropped_total", "Events given up.", lambda: stream.dropped)
        metrics.follow(
            "kafka_events_consumed_total", "Transactions read back.", lambda: stream.consumed["transactions"]
        )
        metrics.follow("db_writes_lost_total", "Predictions given up.", lambda: writer.lost)
        metrics.follow("stale_answers_total", "Answers from this process's memory.", lambda: self._stale_answers)


def _row(transaction: Transaction, made: Prediction, now: datetime) -> Row:
    sent_at = transaction.timestamp
    return Row(
        transaction.hash,
        transaction.from_address,
        transaction.to_address,
        transaction.value,
        transaction.gas_price,
        transaction.block_number,
        sent_at if sent_at.tzinfo is not None else sent_at.replace(tzinfo=UTC),
        made.is_anomaly,
        made.confidence,
        made.severity,
        made.model_version,
        now,
    )


def _word(up: bool) -> str:
    return "up" if up else "down"
