"""The main thread and others: what blocks runs beside it, and comes back to it through an inbox."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from harness.plan.machine import Input, StopRequest
from harness.safety.keeper.client import Keeper

POLL_S = 0.05

T = TypeVar("T")


class Inbox(queue.Queue[T]):
    """Any thread puts, the main thread gets, with a time limit.

    Not queue.SimpleQueue: a signal that arrives in the last moments of its `get(timeout=...)` makes CPython compute a
    negative rest, which it takes for "no limit". The main loop then sleeps until somebody happens to put something,
    does not renew its lease, and is killed by its keeper. queue.Queue checks for that.
    """


def renewing(keeper: Keeper | None, work: Callable[[], None]) -> None:
    """Do work that may take longer than the keeper's lease, in a thread, while this one renews it. Raises what it
    raised."""
    if keeper is None:
        work()
        return
    raised: list[BaseException] = []

    def job() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=job, name="while-renewing", daemon=True)
    thread.start()
    while thread.is_alive():
        keeper.renew()
        thread.join(POLL_S)
    if raised:
        raise raised[0]


class Pool:
    """The worker threads of one experiment. inputs: where results go. since: its clock. say: one line for people."""

    def __init__(
        self, workers: int, inputs: Inbox[Input], since: Callable[[], float], say: Callable[[str], None]
    ) -> None:
        self._inputs = inputs
        self._since = since
        self._say = say
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="work")

    def submit(self, work: Callable[[], Input], on_bug: Callable[[str], Input]) -> None:
        """A bug in it (or in a user's fault) must end the run by the one way out, never hang it: on_bug stands in for
        the result that the machine waits for."""

        def job() -> None:
            try:
                self._inputs.put(work())
            except Exception as error:
                # The stop first: nothing new may begin because of a result that is none.
                self._inputs.put(on_bug(self._stop(error)))

        self._threads.submit(job)

    def look(self, work: Callable[[], None]) -> Future[None]:
        """The machine waits for no result of it. A bug in it ends the run: what was not looked at must not pass."""

        def job() -> None:
            try:
                work()
            except Exception as error:
                self._stop(error)

        return self._threads.submit(job)

    def aside(self, work: Callable[[], None]) -> Future[None]:
        """What is missing where it failed shows later, or does no harm."""
        return self._threads.submit(work)

    def close(self) -> None:
        """Returns when all have ended."""
        self._threads.shutdown(wait=True)

    def _stop(self, error: Exception) -> str:
        text = f"internal error: {type(error).__name__}: {error}"
        self._say(text)
        self._inputs.put(StopRequest(now=self._since(), why="error", text=text))
        return text
