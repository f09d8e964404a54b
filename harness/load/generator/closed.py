"""Closed model: Locust's own users with their own waits, and the arrivals that a slow target keeps them from making.

A user that waits 30 s for a reply sends nothing meanwhile, so a hang leaves hardly a trace in what was sent
(coordinated omission, Tene 2013). While a request is open longer than its user's usual cycle, one virtual arrival
per missed cycle is added, with the latency it would have had.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from gevent import sleep

from harness.load.record.arrival import Arrival, UserState
from harness.load.record.recorder import Recorder
from harness.model.clock import monotonic, step_start
from harness.model.records.targets import PhaseName
from harness.model.sketch import buckets_of, quantile

_ENOUGH = 20
"""Replies of a class before its usual cycle is known."""
_MAX_ROWS = 500
"""More virtual arrivals than this of one request are added in groups, each at the latency of its middle one."""
_SHORTEST_S = 0.001


class Cycles:
    """The usual cycle of each class: median wait + median latency of ok requests in baseline.

    Until baseline is over it is that of what was seen so far. Then it stays: learnt on through a fault, above all
    through one with ten times the users, slow replies would become the usual ones and nothing would be missed.
    """

    def __init__(self) -> None:
        self._waits: dict[str, Counter[int]] = {}
        self._latencies: dict[str, Counter[int]] = {}
        # In ms, since the last update: looked at all at once.
        self._new_waits: dict[str, list[float]] = {}
        self._new_latencies: dict[str, list[float]] = {}
        self._cycle_s: dict[str, float] = {}
        self._usual_s: dict[str, float] = {}
        self._learning = True

    def entered(self, phase: PhaseName) -> None:
        """A phase began. Where baseline was too short for a class, what was known before it counts."""
        if phase == "baseline":
            for known in (self._waits, self._latencies, self._new_waits, self._new_latencies):
                known.clear()
            self._learning = True
        elif phase not in ("warmup", "settle"):
            self.update()
            self._learning = False

    def waited(self, class_name: str, seconds: float) -> None:
        if self._learning or class_name not in self._cycle_s:
            self._new_waits.setdefault(class_name, []).append(seconds * 1000)

    def replied(self, class_name: str, took_ms: float) -> None:
        if self._learning or class_name not in self._cycle_s:
            self._new_latencies.setdefault(class_name, []).append(took_ms)

    def update(self) -> None:
        """Recompute the medians; called once a second."""
        _count(self._new_waits, self._waits)
        _count(self._new_latencies, self._latencies)
        for name, latencies in self._latencies.items():
            if (self._learning or name not in self._cycle_s) and sum(latencies.values()) >= _ENOUGH:
                latency_ms = quantile(latencies, 0.5) or 0.0
                wait_ms = quantile(self._waits.get(name, {}), 0.5) or 0.0
                self._cycle_s[name] = max(_SHORTEST_S, (latency_ms + wait_ms) / 1000)
                self._usual_s[name] = latency_ms / 1000

    def missed(self, class_name: str, start: float, took_ms: float) -> list[tuple[float, float, int]]:
        """Virtual arrivals of a request: (intended start, latency in ms, how many).

        Its user's next request is sent late, not missed: what is missed is a whole cycle that the request took beyond
        its usual time. So no virtual arrival is quicker than a usual one, and a request a little slower than the median
        adds none (one for each request over the median would be half as many again as were sent).
        """
        cycle = self._cycle_s.get(class_name)
        took = took_ms / 1000
        if cycle is None:
            return []
        n = int((took - self._usual_s[class_name]) / cycle)
        if n < 1:
            return []
        group = -(-n // _MAX_ROWS) if n else 1
        found = []
        for first in range(1, n + 1, group):
            many = min(group, n + 1 - first)
            at = (first + (many - 1) / 2) * cycle
            found.append((start + at, (took - at) * 1000, many))
        return found


class ClosedModel:
    """What hooks.py asks of a model, for users that Locust spawns and paces."""

    def __init__(self, recorder: Recorder, cycles: Cycles) -> None:
        # Not at the top: it imports Locust. Not where it is raised: an import statement at every task costs 6 us.
        from locust.exception import StopUser

        self._stop_user = StopUser
        self._recorder = recorder
        self._cycles = cycles
        self._end = float("inf")

    def begin(self, t0: float) -> None:
        """Nothing to start: Locust spawns the users."""

    def stop(self, end_step: int) -> None:
        self._end = self._recorder.t0 + step_start(end_step)

    def fall_silent(self, from_step: int) -> None:
        """The main process takes the users away; tasks that begin before it has are arrivals as before."""

    def resume(self, at_step: int) -> None:
        """The main process starts the users again."""

    @property
    def done(self) -> int:
        return self._recorder.step(monotonic())

    @property
    def idle(self) -> bool:
        """No arrival waits for a user."""
        return True

    def adopt(self, user: Any) -> UserState:
        return UserState(user, type(user).__name__)

    def take(self, state: UserState) -> Arrival:
        """A task starts now. Raises StopUser after the end."""
        now = monotonic()
        if now >= self._end:
            raise self._stop_user
        arrival = Arrival(state.class_name, now, self._recorder.step(now))
        self._recorder.take(arrival)
        return arrival

    def ended(self, state: UserState) -> None:
        """Nothing to give back."""

    def pause(self, state: UserState, seconds: float) -> None:
        """The wait between tasks. How late it ends is the generator's lateness."""
        self._cycles.waited(state.class_name, seconds)
        start = monotonic()
        sleep(seconds)
        self._recorder.late(max(0.0, monotonic() - start - seconds))

    def wait(self, state: UserState) -> bool:
        """False: Locust's own wait applies."""
        return False


def _count(new: dict[str, list[float]], into: dict[str, Counter[int]]) -> None:
    for name, values_ms in new.items():
        into.setdefault(name, Counter()).update(buckets_of(values_ms))
    new.clear()
