"""Recovery's zero: when a dependency's path began to answer normally again after an undo.

One probe starts every 50 ms on a fresh connection, whether or not earlier ones have ended, so a hanging path is still
looked at twenty times a second; one more starts when the undo statement was answered (without it, zero was 40 ms late
where the path was well at once). A probe is *good* when it is answered faster than was normal before the fault; of the
service under test itself when it is accepted, because how that answers afterwards is what recovery measures.

    zero   send time of the first good probe that ended after the undo statement was sent. One that had been sent
           earlier (it was waiting when the fault went away) counts from the statement, not from before it.
    lower  send time of the last bad probe sent before that one, and never before the statement: until then the path
           was seen to be bad.
    upper  when the good probe was answered: then the path was certainly good.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from harness.dependencies.probe import path_probe
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult
from harness.model.clock import monotonic
from harness.model.errors import UsageError
from harness.model.records.faults import Dependency, UndoRecord

EVERY_S = 0.05
TIMEOUT_S = 1.0
SELDOM_S = 1.0
MOST_UNFINISHED = 10
KEPT_FOR_ANSWERS = 4
"""To a server whose protocol nobody has told a probe is an unfinished handshake, and to some servers one that gets no
answer is; they count those. Refused ones never reach it; one that does is followed by the next a second later, and by
so many in all, some of which are kept for the moment when an undo was answered."""


class ProbeZero(msgspec.Struct, frozen=True, kw_only=True):
    """CLOCK_MONOTONIC seconds, lower <= zero <= upper."""

    zero: float
    lower: float
    upper: float


class Prober:
    """Probes a dependency's path from start() to stop(). Never raises for what the network does.

    record: of the fault to be undone; its `good_below_s` says what is normal.
    """

    def __init__(
        self,
        dependency: Dependency,
        record: UndoRecord,
        *,
        every_s: float = EVERY_S,
        run: Callable[[float], ProbeResult] | None = None,
    ) -> None:
        good_below = record.healthy.get("good_below_s")
        self._good_below = float(good_below) if isinstance(good_below, (int, float)) else TIMEOUT_S
        self._timeout = max(TIMEOUT_S, 2 * self._good_below)
        self._target = dependency.target
        self._unfinished = kind_of(dependency).unfinished(dependency)
        self._seldom = self._unfinished or kind_of(dependency).unanswered_counts
        self._accepted = 0
        self._every = every_s
        self._run = run or _path(dependency)
        self._results: list[ProbeResult] = []
        self._pending: dict[int, float] = {}
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        if self._run is None or self._thread is not None:
            return
        self._thread = threading.Thread(target=self._loop, name="prober", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No further probes; returns when the last has ended (a probe lasts a second or so at most)."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def look_now(self) -> None:
        """One probe more, at once; the others keep their times."""
        self._wake.set()

    def results(self) -> tuple[ProbeResult, ...]:
        """Every probe that has ended, by send time."""
        with self._changed:
            return tuple(sorted(self._results, key=lambda result: result.started))

    def good(self, result: ProbeResult) -> bool:
        if self._target:
            # From here on everything is the service's own recovery, a late answer most of all.
            return result.listens
        # A server that says that it is full is reached: who fills it is not the fault.
        return (result.ok or result.full) and result.seconds < self._good_below

    def first_good_after(self, sent: float, *, wait_s: float = 5.0) -> ProbeZero | None:
        """Zero after an undo statement sent at `sent` (CLOCK_MONOTONIC); None when no probe was good within wait_s."""
        until = monotonic() + wait_s
        with self._changed:
            while True:
                found = zero_of(self._results, self._pending.values(), sent, self.good)
                left = until - monotonic()
                over = self._stop.is_set() and not self._pending
                if found is not None or left <= 0 or over or self._thread is None:
                    return found
                self._changed.wait(left)

    def _loop(self) -> None:
        most = int(self._timeout / self._every) + 2
        with ThreadPoolExecutor(most, thread_name_prefix="probe") as pool:
            number = 0
            due = monotonic()
            while True:
                extra = self._wake.wait(max(0.0, due - monotonic()))
                self._wake.clear()
                if self._stop.is_set():
                    return
                with self._changed:
                    full = len(self._pending) >= most
                    if self._seldom:
                        # One that is still under way was accepted, for all that is known.
                        most_now = MOST_UNFINISHED if extra else MOST_UNFINISHED - KEPT_FOR_ANSWERS
                        full = full or self._accepted + len(self._pending) >= most_now
                        full = full or (not extra and monotonic() < self._not_before())
                    if not full:
                        self._pending[number] = monotonic()
                if not full:
                    pool.submit(self._one, number)
                    number += 1
                if not extra:
                    # A late machine skips probes; it does not send them in a burst.
                    due = max(due + self._every, monotonic())

    def _not_before(self) -> float:
        """When the next probe may be sent after those that reached the server."""
        reached = [result.started for result in self._results if self._counted(result)]
        return max([*reached, *self._pending.values()], default=-SELDOM_S) + SELDOM_S

    def _counted(self, result: ProbeResult) -> bool:
        """Whether it is an unfinished handshake to the server."""
        return result.connected and (self._unfinished or not (result.ok or result.full))

    def _one(self, number: int) -> None:
        assert self._run is not None
        result: ProbeResult | None = None
        try:
            result = self._run(self._timeout)
        finally:
            with self._changed:
                del self._pending[number]
                if result is not None:
                    self._results.append(result)
                    self._accepted += self._counted(result)
                self._changed.notify_all()


def zero_of(
    results: Iterable[ProbeResult], pending: Iterable[float], sent: float, good: Callable[[ProbeResult], bool]
) -> ProbeZero | None:
    """Zero from the probes that have ended; pending: send times of those that have not. None = not known yet."""
    results = list(results)
    first = min(
        (result for result in results if good(result) and result.ended >= sent),
        key=lambda result: result.started,
        default=None,
    )
    # A probe sent earlier and still under way might yet be the first good one, or the last bad one.
    if first is None or any(started < first.started for started in pending):
        return None
    zero = max(first.started, sent)
    bad = [result.started for result in results if result.started < first.started and not good(result)]
    return ProbeZero(zero=zero, lower=min(zero, max([sent, *bad])), upper=max(zero, first.ended))


def _path(dependency: Dependency) -> Callable[[float], ProbeResult] | None:
    try:
        return path_probe(dependency)
    except UsageError:
        # No address or no password: then there is no zero. An undo must never fail because of it.
        return None
