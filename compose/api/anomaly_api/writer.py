"""Predictions on their way to the database: group commit while it answers, a bounded backlog while it does not.

A request waits for the commit that holds its rows, as long as that is a matter of milliseconds; so what was
acknowledged is durable. When the database is away, or the backlog is longer than one commit, the request is
answered at once and its rows stay here until they are written, oldest first.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Sequence

from anomaly_api.database import REFUSALS, Database, Row
from anomaly_api.pool import Unavailable
from anomaly_api.settings import Settings

logger = logging.getLogger("anomaly_api")

CHUNK = 500
WRITE_BUDGET_S = 1.0
"""For one commit: a backlog's chunk may take long, and nobody waits for it."""


class Writer:
    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._interval_s = settings.write_interval_s
        self._bound = settings.write_backlog
        self._wait_s = settings.budget(settings.db_budget_s)
        self._retry_s = settings.reconnect_s
        self._must_commit = not settings.behaviour.database_fallback
        self._drop_one_in = settings.behaviour.drop_one_in
        self._waiting = 0
        self._rows: dict[str, Row] = {}
        self._commit: asyncio.Future[bool] | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.lost = 0

    @property
    def backlog(self) -> int:
        return len(self._rows)

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="database writes")

    async def stop(self, limit_s: float) -> None:
        """Write what is left, for at most limit_s."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            async with asyncio.timeout(limit_s):
                while self._rows and self._database.connections.up:
                    await self._write_some()
        except (TimeoutError, Unavailable):
            logger.warning("database: %d predictions were not written before the end", len(self._rows))

    def pending(self, hash_: str) -> Row | None:
        """A row not yet written."""
        return self._rows.get(hash_)

    async def add(self, rows: Sequence[Row]) -> None:
        """Returns when they are written, or kept in the backlog; from then on they are promised.

        Raises Unavailable when the backlog is full, before any of them is taken: what was promised earlier is kept.
        Also where there is no backlog to fall back on.
        """
        if len(self._rows) + len(rows) > self._bound:
            raise Unavailable("database")
        for row in rows:
            if self._drop_one_in and not self._database.connections.up:
                self._waiting += 1
                if self._waiting % self._drop_one_in == 0:
                    continue
            self._rows.setdefault(row.hash, row)
        self._wake.set()
        if self._must_commit:
            if not await self._committed():
                raise Unavailable("database")
        elif self._database.connections.up and len(self._rows) <= CHUNK:
            await self._committed()

    async def _committed(self) -> bool:
        """Whether the commit after this moment came in time and succeeded."""
        if self._commit is None:
            self._commit = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._wait_s):
                return await asyncio.shield(self._commit)
        except TimeoutError:
            return False

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._rows:
                begun = loop.time()
                written = await self._try()
                pause = self._interval_s if written else self._retry_s
                if not written and self._must_commit:
                    self._rows.clear()
                if not self._rows:
                    # Who came while the last rows were being written waits for nothing more: a row that was under way
                    # already is not written twice.
                    self._tell(self._take_commit(), written)
                await asyncio.sleep(max(0.0, begun + pause - loop.time()))

    async def _try(self) -> bool:
        waiting, done = self._take_commit(), False
        try:
            await self._write_some()
            done = True
        except Unavailable:
            pass
        except Exception:
            logger.exception("database: writing predictions")
        finally:
            self._tell(waiting, done)
        return done

    def _take_commit(self) -> asyncio.Future[bool] | None:
        waiting, self._commit = self._commit, None
        return waiting

    @staticmethod
    def _tell(waiting: asyncio.Future[bool] | None, done: bool) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(done)

    async def _write_some(self) -> None:
        """The oldest rows, at most CHUNK. A row that the database refuses is given up, alone."""
        size = CHUNK
        while True:
            rows = list(itertools.islice(self._rows.values(), size))
            try:
                await self._database.write(rows, WRITE_BUDGET_S)
            except REFUSALS as error:
                if len(rows) > 1:
                    size = len(rows) // 2
                    continue
                logger.error("database: refused a prediction (%s)", type(error).__name__)
                self.lost += 1
            for row in rows:
                self._rows.pop(row.hash, None)
            return
