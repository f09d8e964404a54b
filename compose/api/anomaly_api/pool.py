"""Connections to one dependency, and the circuit breaker in front of it.

Requests never open a connection: they use an idle one, or queue for one within their budget. One background
task opens connections, one at a time, and lets a connection in only after it has answered a trial within the
budget. A call that fails or runs out of time costs its connection: a reply that arrives later has nobody to go
to, so it can never be given to another request. So the number of live connections is the breaker's state:

    some     closed: calls go through; while the server admits fewer than we want, the good ones are kept and shared
    none     open: calls fail at once, in microseconds, and the background task makes one trial every retry_s

TRIP calls in a row that ran out of time on a connection open it too: a server that hangs would otherwise cost
every connection's next caller a whole budget.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

logger = logging.getLogger("anomaly_api")

C = TypeVar("C")
T = TypeVar("T")

TRIP = 3
HELD_UP_S = 0.02
SPARE_S = 5.0
"""Connections above `size` are closed when nobody has waited for one this long."""


class Unavailable(Exception):
    """The dependency did not answer this call, or is known not to."""


class Pool(Generic[C]):
    """dial() opens a connection that has answered a trial. alive(c) is False once the peer has closed it.

    budget_s: a call's whole time; None = no limit. refusals: errors after which a connection is still good;
    they are raised as they are, everything else as Unavailable.
    """

    def __init__(
        self,
        name: str,
        *,
        dial: Callable[[], Awaitable[C]],
        close: Callable[[C], None],
        alive: Callable[[C], bool],
        size: int,
        overflow: int = 0,
        budget_s: float | None,
        dial_budget_s: float | None,
        retry_s: float,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self.name = name
        self.live = 0
        self._dial = dial
        self._close = close
        self._alive = alive
        self._size = size
        self._overflow = overflow
        self._budget_s = budget_s
        self._dial_budget_s = dial_budget_s
        self._retry_s = retry_s
        self._refusals = refusals
        self._idle: list[C] = []
        self._waiters: deque[asyncio.Future[C]] = deque()
        self._wake = asyncio.Event()
        self._first = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._waited_at = 0.0
        self._late = 0
        self._generation = 0
        self._said_down = False

    @property
    def up(self) -> bool:
        return self.live > 0

    def start(self) -> None:
        self._task = asyncio.create_task(self._maintain(), name=f"{self.name} connections")

    async def wait_up(self) -> None:
        """Returns when the first connection is there."""
        await self._first.wait()

    async def stop(self) -> None:
        self._said_down = True  # on purpose: no warning
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._idle:
            self._drop(self._idle.pop())

    async def run(self, call: Callable[[C], Awaitable[T]], budget_s: float | None = None) -> T:
        """One call on one connection. Raises Unavailable, or one of `refusals`.

        budget_s: another budget than the pool's, where that has one.
        """
        if self.live == 0:
            raise Unavailable(self.name)
        budget = self._budget_s if self._budget_s is None or budget_s is None else budget_s
        loop = asyncio.get_running_loop()
        begun = loop.time()
        connection: C | None = None
        generation = self._generation
        good = False
        try:
            async with asyncio.timeout(budget):
                connection = await self._take()
                answer = await call(connection)
                good = True
            self._late = 0
            return answer
        except self._refusals:
            good = True
            raise
        except (Unavailable, asyncio.CancelledError):
            raise
        except TimeoutError as error:
            # When our own loop was held up the reply may well be there, unread: that says nothing of the server.
            held_up = loop.time() - begun > (budget or 0.0) + HELD_UP_S
            if connection is not None and generation == self._generation and not held_up:
                self._late += 1
                if self._late >= TRIP:
                    self._trip()
            raise Unavailable(self.name) from error
        except Exception as error:
            raise Unavailable(self.name) from error
        finally:
            if connection is not None:
                if generation != self._generation:
                    self._shut(connection)  # not counted any more: the breaker opened meanwhile
                elif good and self._alive(connection):
                    self._give(connection)
                else:
                    self._drop(connection)

    async def _take(self) -> C:
        while self._idle:
            connection = self._idle.pop()
            if self._alive(connection):
                return connection
            self._drop(connection)
        if self.live == 0:
            raise Unavailable(self.name)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[C] = loop.create_future()
        self._waiters.append(waiter)
        self._waited_at = loop.time()
        if self._overflow:
            self._wake.set()
        try:
            return await waiter
        except asyncio.CancelledError:
            # Handed over in the very moment of the cancellation: it is ours to pass on.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._give(waiter.result())
            else:
                waiter.cancel()
            raise

    def _give(self, connection: C) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def _drop(self, connection: C) -> None:
        self.live -= 1
        self._shut(connection)
        self._wake.set()
        if self.live == 0:
            self._open()

    def _trip(self) -> None:
        """Open the breaker: calls under way keep their connections and close them when they end."""
        self._generation += 1
        self._late = 0
        self.live = 0
        while self._idle:
            self._shut(self._idle.pop())
        self._wake.set()
        self._open()

    def _open(self) -> None:
        if not self._said_down:
            self._said_down = True
            logger.warning("%s does not answer, going on without it", self.name)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(Unavailable(self.name))

    def _shut(self, connection: C) -> None:
        try:
            self._close(connection)
        except Exception as error:
            logger.debug("%s: closing a connection: %r", self.name, error)

    async def _maintain(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            self._sweep()
            waiting = sum(1 for waiter in self._waiters if not waiter.done())
            pause = self._retry_s
            if self.live < self._size + min(self._overflow, waiting):
                if await self._dial_one():
                    continue
                # Refused: wait, whatever wakes us. Asking more often would not help a server that is full.
                await asyncio.sleep(self._retry_s)
                continue
            if self.live > self._size and self._idle and loop.time() - self._waited_at > SPARE_S:
                self._drop(self._idle.pop(0))
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _dial_one(self) -> bool:
        try:
            async with asyncio.timeout(self._dial_budget_s):
                connection = await self._dial()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if self.live == 0 and not self._said_down:
                self._said_down = True
                logger.warning("%s cannot be reached (%s), going on without it", self.name, type(error).__name__)
            return False
        self.live += 1
        if self._said_down:
            self._said_down = False
            logger.warning("%s answers again", self.name)
        self._first.set()
        self._give(connection)
        return True

    def _sweep(self) -> None:
        """Notice idle connections that the server has closed, so that health is right without traffic."""
        gone = [connection for connection in self._idle if not self._alive(connection)]
        if gone:
            self._idle = [connection for connection in self._idle if self._alive(connection)]
            for connection in gone:
                self._drop(connection)
