"""Connections to a dependency for a caller that does not take no for an answer.

A call that failed or ran out of time is made again at once, on a new connection, a fixed number of times. There is no
breaker, no pause between attempts and no bound on the connections: while a dependency is slow, every request costs it
`attempts` calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from anomaly_api.pool import Unavailable

C = TypeVar("C")
T = TypeVar("T")

FIRST_RETRY_S = 0.25


class Insistent(Generic[C]):
    """Arguments as of Pool; budget_s is each attempt's. `size` connections are kept when nobody uses them."""

    def __init__(
        self,
        name: str,
        *,
        dial: Callable[[], Awaitable[C]],
        close: Callable[[C], None],
        alive: Callable[[C], bool],
        size: int,
        budget_s: float | None,
        attempts: int,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self.name = name
        self.up = False
        self._dial = dial
        self._close = close
        self._alive = alive
        self._size = size
        self._budget_s = budget_s
        self._attempts = attempts
        self._refusals = refusals
        self._idle: list[C] = []
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._try_out(), name=f"{self.name} connections")

    async def wait_up(self) -> None:
        await self._first.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._idle:
            self._close(self._idle.pop())

    async def run(self, call: Callable[[C], Awaitable[T]], budget_s: float | None = None) -> T:
        """Raises Unavailable after the last attempt, or one of `refusals`."""
        last: Exception | None = None
        for _ in range(self._attempts):
            connection: C | None = None
            good = False
            try:
                async with asyncio.timeout(budget_s or self._budget_s):
                    connection = await self._take()
                    answer = await call(connection)
                good = self.up = True
                return answer
            except self._refusals:
                good = True
                raise
            except Exception as error:
                last = error
            finally:
                if connection is not None:
                    self._give(connection, good)
        self.up = False
        raise Unavailable(self.name) from last

    async def _take(self) -> C:
        while self._idle:
            connection = self._idle.pop()
            if self._alive(connection):
                return connection
            self._close(connection)
        return await self._dial()

    def _give(self, connection: C, good: bool) -> None:
        if good and len(self._idle) < self._size and self._alive(connection):
            self._idle.append(connection)
        else:
            self._close(connection)

    async def _try_out(self) -> None:
        while True:
            try:
                self._give(await self._dial(), True)
                break
            except Exception:
                await asyncio.sleep(FIRST_RETRY_S)
        self.up = True
        self._first.set()
