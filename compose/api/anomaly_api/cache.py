"""Predictions kept in Redis. A cache may lose anything at any time: its failures are never the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

import msgspec
from redis.asyncio.connection import Connection
from redis.exceptions import ResponseError

from anomaly_api.insistent import Insistent
from anomaly_api.pool import Pool, Unavailable
from anomaly_api.schemas import Prediction, Severity
from anomaly_api.scoring import VERSION
from anomaly_api.settings import Settings

WRITE_EVERY_S = 0.05
MAX_UNWRITTEN = 5_000
_CHUNK = 500


class _Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    is_anomaly: bool
    confidence: float
    severity: Severity | None


_decode = msgspec.json.Decoder(_Entry).decode
_encode = msgspec.json.Encoder().encode


class _Redis(Connection):
    """One connection whose end is visible at once and whose closing never waits."""

    @property
    def usable(self) -> bool:
        return self._reader is not None and not self._reader.at_eof()

    def abandon(self) -> None:
        self._parser.on_disconnect()
        self._close()

    async def ask(self, *command: str | int | bytes) -> object:
        await self.send_packed_command(self.pack_command(*command), check_health=False)
        return await self.read_response()


class Cache:
    """lookup() raises Unavailable; store() never fails and never waits."""

    def __init__(self, settings: Settings) -> None:
        self._ttl_s = settings.cache_ttl_s
        self._budget_s = settings.budget(settings.redis_budget_s)
        self._address = _address(settings.redis_url or "")
        self._unwritten: dict[str, bytes] = {}
        self._task: asyncio.Task[None] | None = None
        self.hits = 0
        self.misses = 0
        self.dropped = 0
        self.pool: Pool[_Redis] | Insistent[_Redis] | None = None
        if settings.redis_url is not None and settings.behaviour.attempts > 1:
            self.pool = Insistent(
                "redis",
                dial=self._dial,
                close=_Redis.abandon,
                alive=lambda connection: connection.usable,
                size=settings.redis_pool_size,
                budget_s=self._budget_s,
                attempts=settings.behaviour.attempts,
                refusals=(ResponseError,),
            )
        elif settings.redis_url is not None:
            self.pool = Pool(
                "redis",
                dial=self._dial,
                close=_Redis.abandon,
                alive=lambda connection: connection.usable,
                size=settings.redis_pool_size,
                budget_s=self._budget_s,
                dial_budget_s=settings.budget(settings.connect_budget_s),
                retry_s=settings.reconnect_s,
                refusals=(ResponseError,),
            )

    def start(self) -> None:
        if self.pool is not None:
            self.pool.start()
            self._task = asyncio.create_task(self._write(), name="cache writes")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.pool is not None:
            await self.pool.stop()

    async def lookup(self, hashes: Sequence[str]) -> list[Prediction | None]:
        """One entry a hash, None = not there. Raises Unavailable; without a cache everything is not there."""
        if self.pool is None:
            return [None] * len(hashes)
        keys = [_key(hash_) for hash_ in hashes]
        command = ("GET", keys[0]) if len(keys) == 1 else ("MGET", *keys)
        try:
            answer = await self.pool.run(lambda connection: connection.ask(*command))
        except ResponseError as error:
            # LOADING, OOM, READONLY, WRONGTYPE: it answers, but not with what we asked for.
            raise Unavailable("redis") from error
        values = answer if isinstance(answer, list) else [answer]
        found = [
            None if value is None else self._entry(hash_, value) for hash_, value in zip(hashes, values, strict=True)
        ]
        hits = sum(entry is not None for entry in found)
        self.hits += hits
        self.misses += len(found) - hits
        return found

    def store(self, prediction: Prediction) -> None:
        """To be written within WRITE_EVERY_S; given up when the cache is away or behind."""
        if self.pool is None or not self.pool.up or len(self._unwritten) >= MAX_UNWRITTEN:
            self.dropped += 1
            return
        entry = _Entry(prediction.is_anomaly, prediction.confidence, prediction.severity)
        self._unwritten[_key(prediction.transaction_hash)] = _encode(entry)

    def _entry(self, hash_: str, value: bytes) -> Prediction | None:
        try:
            entry = _decode(value)
        except msgspec.MsgspecError:
            return None  # somebody else's, or an older version's: as good as not there
        return Prediction(hash_, entry.is_anomaly, entry.confidence, entry.severity, True, VERSION)

    async def _write(self) -> None:
        assert self.pool is not None
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            if not self._unwritten:
                continue
            keys = list(self._unwritten)[:_CHUNK]
            entries = [(key, self._unwritten.pop(key)) for key in keys]
            try:
                await self.pool.run(lambda connection, entries=entries: self._set(connection, entries))
            except (Unavailable, ResponseError):
                self.dropped += len(entries)

    async def _set(self, connection: _Redis, entries: list[tuple[str, bytes]]) -> None:
        commands = [("SET", key, value, "EX", self._ttl_s) for key, value in entries]
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        refused: ResponseError | None = None
        for _ in entries:
            try:
                await connection.read_response()
            except ResponseError as error:  # read every reply, or the next request would get one of ours
                refused = error
        if refused is not None:
            raise refused

    async def _dial(self) -> _Redis:
        host, port, database, username, password = self._address
        connection = _Redis(
            host=host,
            port=port,
            db=database,
            username=username,
            password=password,
            protocol=2,
            driver_info=None,
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        try:
            await connection.connect()
            async with asyncio.timeout(self._budget_s):
                await connection.ask("PING")
        except BaseException:
            connection.abandon()
            raise
        return connection


def _key(hash_: str) -> str:
    return f"prediction:{VERSION}:{hash_}"


def _address(url: str) -> tuple[str, int, int, str | None, str | None]:
    parts = urlsplit(url)
    database = parts.path.strip("/")
    return (
        parts.hostname or "127.0.0.1",
        parts.port or 6379,
        int(database) if database.isdigit() else 0,
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
    )
