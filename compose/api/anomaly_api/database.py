"""PostgreSQL: schema, and what is read and written there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol, TypeVar

import asyncpg

from anomaly_api.pool import Pool, Unavailable
from anomaly_api.schemas import Anomaly, Severity
from anomaly_api.scoring import Profile
from anomaly_api.settings import Settings

T = TypeVar("T")

# Worker processes start together; CREATE ... IF NOT EXISTS alone fails when two of them race.
_SCHEMA_LOCK = 7_210_433
SCHEMA = """
CREATE TABLE IF NOT EXISTS predictions (
    hash text PRIMARY KEY,
    from_address text NOT NULL,
    to_address text NOT NULL,
    value double precision NOT NULL,
    gas_price bigint NOT NULL,
    block_number bigint NOT NULL,
    sent_at timestamptz NOT NULL,
    is_anomaly boolean NOT NULL,
    confidence double precision NOT NULL,
    severity text,
    model_version text NOT NULL,
    detected_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS anomalies_newest ON predictions (detected_at DESC) WHERE is_anomaly;
CREATE INDEX IF NOT EXISTS anomalies_by_severity ON predictions (severity, detected_at DESC) WHERE is_anomaly;
CREATE TABLE IF NOT EXISTS address_profiles (
    address text PRIMARY KEY,
    n bigint NOT NULL,
    value_mean double precision NOT NULL,
    value_m2 double precision NOT NULL,
    gas_price_mean double precision NOT NULL,
    gas_price_m2 double precision NOT NULL
);
"""

_PROFILES = """
SELECT address, n, value_mean, value_m2, gas_price_mean, gas_price_m2 FROM address_profiles WHERE address = ANY($1)
"""

_REBUILD = f"WITH history AS MATERIALIZED (SELECT pg_sleep($2)) {_PROFILES.strip()} AND EXISTS (SELECT FROM history)"

# One statement, so that a repeat after a time-out changes nothing: only rows that are new reach the profiles.
# Merging two sets of running statistics: Chan, Golub, LeVeque (1979), equations 2.1a and 2.1b. Addresses are taken
# in order, so that two workers never wait for each other.
_WRITE = """
WITH fresh AS (
    INSERT INTO predictions
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[], $5::int8[], $6::int8[], $7::timestamptz[],
                         $8::bool[], $9::float8[], $10::text[], $11::text[], $12::timestamptz[])
    ON CONFLICT (hash) DO NOTHING
    RETURNING from_address, ln(1 + value) AS v, ln(1 + gas_price::float8) AS g
)
INSERT INTO address_profiles AS p
SELECT from_address, count(*), avg(v), var_pop(v) * count(*), avg(g), var_pop(g) * count(*)
FROM fresh GROUP BY from_address ORDER BY from_address
ON CONFLICT (address) DO UPDATE SET
    n = p.n + excluded.n,
    value_mean = p.value_mean + (excluded.value_mean - p.value_mean) * excluded.n / (p.n + excluded.n),
    value_m2 = p.value_m2 + excluded.value_m2
        + (excluded.value_mean - p.value_mean) ^ 2 * p.n * excluded.n / (p.n + excluded.n),
    gas_price_mean = p.gas_price_mean + (excluded.gas_price_mean - p.gas_price_mean) * excluded.n / (p.n + excluded.n),
    gas_price_m2 = p.gas_price_m2 + excluded.gas_price_m2
        + (excluded.gas_price_mean - p.gas_price_mean) ^ 2 * p.n * excluded.n / (p.n + excluded.n)
"""

_COLUMNS = "hash, from_address, to_address, value, severity, confidence, model_version, detected_at"
_NEWEST = f"SELECT {_COLUMNS} FROM predictions WHERE is_anomaly ORDER BY detected_at DESC LIMIT $1"
_NEWEST_OF = f"SELECT {_COLUMNS} FROM predictions WHERE is_anomaly AND severity = $2 ORDER BY detected_at DESC LIMIT $1"
_ONE = "SELECT is_anomaly, confidence, severity, model_version FROM predictions WHERE hash = $1"

REFUSALS = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""Errors of the values, not of the connection."""


class Row(NamedTuple):
    """A prediction as it is written."""

    hash: str
    from_address: str
    to_address: str
    value: float
    gas_price: int
    block_number: int
    sent_at: datetime
    is_anomaly: bool
    confidence: float
    severity: Severity | None
    model_version: str
    detected_at: datetime


class Connections(Protocol):
    """Where connections come from: run() raises Unavailable, or one of REFUSALS."""

    @property
    def up(self) -> bool: ...

    def start(self) -> None: ...

    async def wait_up(self) -> None: ...

    async def stop(self) -> None: ...

    async def run(self, call: Callable[[Any], Awaitable[T]], budget_s: float | None = None) -> T: ...


class Database:
    """Every method raises Unavailable when the database does not answer within the budget."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.database_url
        self._budget_s = settings.budget(settings.db_budget_s)
        self._has_schema = False
        self._rebuild_s = settings.behaviour.rebuild_s
        self.connections: Connections
        if settings.behaviour.own_pool:
            self.connections = Pool(
                "database",
                dial=self._dial,
                close=lambda connection: connection.terminate(),
                alive=lambda connection: not connection.is_closed(),
                size=settings.db_pool_size,
                overflow=settings.db_max_overflow,
                budget_s=self._budget_s,
                dial_budget_s=settings.budget(settings.connect_budget_s),
                retry_s=settings.reconnect_s,
                refusals=REFUSALS,
            )
        else:
            behaviour = settings.behaviour
            self.connections = PlainPool(self._dial, behaviour.plain_pool_size, self._budget_s, behaviour.gives_back)

    async def profiles(self, addresses: Sequence[str]) -> dict[str, Profile]:
        """The profiles that exist, by address."""
        if self._rebuild_s:
            found = await asyncio.gather(*(self._rebuilt(address) for address in addresses))
            return {address: profile for one in found for address, profile in one.items()}
        wanted = list(addresses)
        rows = await self._run(lambda connection: connection.fetch(_PROFILES, wanted))
        return {row[0]: Profile(row[1], row[2], row[3], row[4], row[5]) for row in rows}

    async def _rebuilt(self, address: str) -> dict[str, Profile]:
        """One profile. The wait stands for a look through a sender's whole history in a large table."""
        rows = await self._run(lambda connection: connection.fetch(_REBUILD, [address], self._rebuild_s))
        return {row[0]: Profile(row[1], row[2], row[3], row[4], row[5]) for row in rows}

    async def anomalies(self, limit: int, severity: Severity | None) -> list[Anomaly]:
        """Newest first."""
        query, arguments = (_NEWEST, (limit,)) if severity is None else (_NEWEST_OF, (limit, severity))
        rows = await self._run(lambda connection: connection.fetch(query, *arguments))
        return [Anomaly(*row) for row in rows]

    async def prediction(self, hash_: str) -> tuple[bool, float, Severity | None, str] | None:
        row = await self._run(lambda connection: connection.fetchrow(_ONE, hash_))
        return None if row is None else tuple(row)

    async def write(self, rows: Sequence[Row], budget_s: float) -> None:
        """All or nothing, and harmless to repeat. Raises Unavailable or one of REFUSALS."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        await self._run(lambda connection: connection.execute(_WRITE, *columns), budget_s)

    async def _run(self, call: Callable[[Any], Awaitable[T]], budget_s: float | None = None) -> T:
        try:
            return await self.connections.run(call, budget_s)
        except Unavailable as error:
            if isinstance(error.__cause__, asyncpg.UndefinedTableError):
                self._has_schema = False  # somebody gave us an empty database: the next connection fills it
            raise

    async def _dial(self) -> asyncpg.Connection:
        connection = await asyncpg.connect(self._url, timeout=3600, **_options(self._url))
        try:
            await self._prepare(connection)
            async with asyncio.timeout(self._budget_s):
                await connection.fetchval("SELECT 1")
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        """Create the schema, once a process."""
        if not self._has_schema:
            async with connection.transaction():
                await connection.execute(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
                await connection.execute(SCHEMA)
            self._has_schema = True


class PlainPool:
    """A fixed number of slots, handed out in turn; a slot whose connection is gone connects again when it is used."""

    def __init__(
        self, dial: Callable[[], Awaitable[Any]], size: int, budget_s: float | None, gives_back: bool = True
    ) -> None:
        self._dial = dial
        self._size = size
        self._budget_s = budget_s
        self._gives_back = gives_back
        self._slots: asyncio.Queue[Any] = asyncio.Queue()
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.up = False

    def start(self) -> None:
        for _ in range(self._size):
            self._slots.put_nowait(None)
        self._task = asyncio.create_task(self._try_out(), name="database connections")

    async def wait_up(self) -> None:
        await self._first.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while not self._slots.empty():
            connection = self._slots.get_nowait()
            if connection is not None:
                connection.terminate()

    async def run(self, call: Callable[[Any], Awaitable[T]], budget_s: float | None = None) -> T:
        budget = self._budget_s if self._budget_s is None or budget_s is None else max(self._budget_s, budget_s)
        connection = None
        taken = good = False
        try:
            async with asyncio.timeout(budget):
                connection = await self._slots.get()
                taken = True
                if connection is None or connection.is_closed():
                    connection = await self._dial()
                answer = await call(connection)
                good = True
        except REFUSALS:
            good = True
            raise
        except Exception as error:
            self.up = False
            raise Unavailable("database") from error
        finally:
            if connection is not None and not good:
                connection.terminate()
            if taken and (good or self._gives_back or not self._first.is_set()):
                self._slots.put_nowait(connection if good else None)
        self.up = True
        return answer

    async def _try_out(self) -> None:
        """Open every slot once, and until one call has succeeded."""
        while not self.up:
            await asyncio.gather(
                *(self.run(lambda connection: connection.fetchval("SELECT pg_sleep(0.05)")) for _ in range(self._size)),
                return_exceptions=True,
            )
            if not self.up:
                await asyncio.sleep(0.25)
        self._first.set()


def _options(url: str) -> dict[str, Any]:
    """TLS only where the URL asks for it: trying it first costs every new connection a round trip."""
    options: dict[str, Any] = {"server_settings": {"application_name": "anomaly-api"}}
    return options if "sslmode=" in url else {**options, "ssl": False}
