"""The worker threads of one experiment: what blocks runs there, and its result comes back to the phase machine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from harness.conductor.inbox import Inbox
from harness.plan.machine import Input, StopRequest


class Pool:
    """inputs: where results go. since: the run's clock. say: one line for people."""

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
