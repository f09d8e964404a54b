"""Open model: takes the arrivals of the schedule when they are due and gives each to a user.

A user parks at the door of each task until an arrival is handed to it. When none of its class is parked, a new
one is started, as long as fewer than the cap are at work: handing arrivals to whoever is free would hide that
part of the traffic hangs. An arrival that found no user within 1 s is unsent.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent import getcurrent

from harness.load.arrival import Arrival, UserState
from harness.load.recorder import LATE_S, Recorder
from harness.model.clock import monotonic, step_start
from harness.model.load import LoadPlan
from harness.plan.schedule import owned

PATIENCE_S = 1.0
"""How long an arrival waits for a user."""
_AHEAD_S = 0.1
"""How long before its start a step is drawn."""
_AGAIN_S = 0.02
"""How often arrivals that wait for a user are looked at."""
# libev sleeps in whole milliseconds, so what is due within one is a batch; asking for less than half of one only burns
# the processor.
_SHORTEST_SLEEP_S = 0.0005


class Pool:
    """The users of one class. pending: arrivals without a user, oldest first. starting: users on their way."""

    __slots__ = ("cls", "failures", "name", "no_start_before", "parked", "pending", "starting")

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.name: str = cls.__name__
        self.parked: list[UserState] = []
        self.pending: deque[Arrival] = deque()
        self.starting = 0
        self.failures = 0
        self.no_start_before = 0.0


class Dispatcher:
    """One generator's share of the schedule. warn: called with one line for people."""

    def __init__(
        self,
        environment: Any,
        runner: Any,
        plan: LoadPlan,
        index: int,
        recorder: Recorder,
        warn: Callable[[str], None],
    ) -> None:
        # Not at the top: it imports Locust. Not where it is raised: an import statement at every task costs 6 us.
        from locust.exception import StopUser

        self._stop_user = StopUser
        self._environment = environment
        self._runner = runner
        self._plan = plan
        self._index = index
        self._recorder = recorder
        self._warn = warn
        self._hub = gevent.get_hub()
        self._timer: Any = None
        self._pools = {cls.__name__: Pool(cls) for cls in environment.user_classes}
        self._cap = max(1, (plan.max_in_flight + plan.workers - 1 - index) // plan.workers)
        self._at_work = self._starting = 0
        self._t0 = math.inf
        self._due: deque[Arrival] = deque()
        self._next_step = 0
        self._draw_at = math.inf
        self._end_step = 10**12
        self._failed_classes: set[str] = set()

    # Commands

    def begin(self, t0: float) -> None:
        self._t0 = t0
        self._draw_at = t0 - _AHEAD_S
        self._sleep(0.0)

    def stop(self, end_step: int) -> None:
        self._end_step = end_step
        if not math.isinf(self._t0):
            self._draw_at = self._t0 + step_start(self._next_step) - _AHEAD_S
        while self._due and self._due[-1].step >= end_step:
            self._due.pop()

    @property
    def done(self) -> int:
        """Every arrival of the steps below this one has been taken off the schedule."""
        undrawn = self._due[0].step if self._due else self._next_step
        return min(undrawn, self._recorder.step(monotonic()), self._end_step)

    @property
    def idle(self) -> bool:
        """Nothing to come and no arrival waits for a user."""
        return not self._due and self._next_step >= self._end_step and not any(p.pending for p in self._pools.values())

    # The schedule

    def _tick(self) -> None:
        """In the event loop, so it never waits itself: a user that is handed an arrival runs until it does."""
        now = monotonic()
        next_at = now + PATIENCE_S
        try:
            if self._draw_at <= now:
                self._draw(now)
            due = self._due
            while due and due[0].intended <= now:
                self._give(self._take_next(now))
                now = monotonic()
            next_at = min(self._draw_at, now + PATIENCE_S, due[0].intended if due else math.inf)
            if self._expire(now) and now + _AGAIN_S < next_at:
                next_at = now + _AGAIN_S
        finally:
            self._sleep(next_at - monotonic())

    def _sleep(self, seconds: float) -> None:
        self._timer = self._hub.loop.timer(max(seconds, _SHORTEST_SLEEP_S))
        self._timer.start(self._tick, update=True)

    def _draw(self, now: float) -> None:
        while self._draw_at <= now:
            step, start = self._next_step, self._t0 + step_start(self._next_step)
            if step >= self._end_step:
                self._draw_at = math.inf
                break
            arrivals = [
                Arrival(name, start + offset, step)
                for name in self._pools
                for offset in owned(self._plan, name, step, self._index)[1]
            ]
            self._due.extend(sorted(arrivals, key=lambda arrival: arrival.intended))
            self._next_step = step + 1
            self._draw_at = self._t0 + step_start(step + 1) - _AHEAD_S

    def _take_next(self, now: float) -> Arrival:
        """The next arrival, off the schedule: it is due."""
        arrival = self._due.popleft()
        arrival.late = now - arrival.intended
        self._recorder.take(arrival)
        self._recorder.late(arrival.late)
        return arrival

    def _expire(self, now: float) -> bool:
        """Whether any arrival waits for a user."""
        waiting = False
        for pool in self._pools.values():
            if not pool.pending:
                continue
            while pool.pending and now - pool.pending[0].intended > PATIENCE_S:
                self._unsent(pool, pool.pending.popleft())
            if pool.pending:
                waiting = True
                self._start_users(pool, now)
        return waiting

    def _unsent(self, pool: Pool, arrival: Arrival) -> None:
        ours = self._recorder.saturated or arrival.late > LATE_S
        self._recorder.unsent(arrival, generator=ours, startable=pool.failures == 0)

    # Users

    def _give(self, arrival: Arrival) -> None:
        pool = self._pools[arrival.class_name]
        # The user that parked last: its connection is the likeliest to be still open.
        while pool.parked:
            state = pool.parked.pop()
            if state.gone:
                continue
            state.assigned = arrival
            self._at_work += 1
            if getcurrent() is self._hub:
                state.waiter.switch()
            else:
                self._hub.loop.run_callback(state.waiter.switch)
            return
        pool.pending.append(arrival)
        self._start_users(pool, monotonic())

    def _give_back(self, state: UserState) -> None:
        """The user was stopped between the hand-over and its task."""
        arrival, state.assigned = state.assigned, None
        if arrival is not None:
            self._at_work -= 1
            self._give(arrival)

    def _start_users(self, pool: Pool, now: float) -> None:
        while pool.starting < len(pool.pending) and self._starting + self._at_work < self._cap:
            if now < pool.no_start_before:
                return
            pool.starting += 1
            self._starting += 1
            gevent.spawn(self._start_user, pool)

    def _start_user(self, pool: Pool) -> None:
        try:
            user = pool.cls(self._environment)
        except Exception as error:
            self._start_failed(pool, f"{type(error).__name__}: {error}")
            return
        state = user._harness_state = self.adopt(user)
        state.starting = True
        user.start(self._runner.user_greenlets).link(lambda greenlet: self._gone(pool, state, greenlet))

    def _start_failed(self, pool: Pool, why: str) -> None:
        pool.starting -= 1
        self._starting -= 1
        pool.failures += 1
        # A class whose users cannot start is tried again, but not as fast as the processor allows.
        pool.no_start_before = monotonic() + min(1.0, 0.05 * 2 ** min(pool.failures, 5))
        if pool.name not in self._failed_classes:
            self._failed_classes.add(pool.name)
            self._warn(f"a user of class {pool.name} could not start: {why}")

    def _gone(self, pool: Pool, state: UserState, greenlet: Any) -> None:
        state.gone = True
        if state.starting:
            state.starting = False
            self._start_failed(pool, str(greenlet.exception) if greenlet.exception else "it stopped in on_start")

    # What hooks.py asks of a model

    def adopt(self, user: Any) -> UserState:
        return UserState(user, type(user).__name__)

    def take(self, state: UserState) -> Arrival:
        """The next arrival for this user; it parks until there is one."""
        pool = self._pools[state.class_name]
        if state.starting:
            state.starting = False
            pool.starting -= 1
            self._starting -= 1
            pool.failures = 0
        now = monotonic()
        while pool.pending:
            arrival = pool.pending.popleft()
            if now - arrival.intended <= PATIENCE_S:
                self._at_work += 1
                return arrival
            self._unsent(pool, arrival)
        # The event loop sees every reply that is there before it looks at its timers again. Where a hang ends, those
        # are thousands: a user that is free serves what fell due meanwhile, and need not wait for the tick.
        if self._draw_at <= now:
            self._draw(now)
        if self._due and self._due[0].intended <= now and self._due[0].class_name == pool.name:
            self._at_work += 1
            return self._take_next(now)
        return self._park(pool, state)

    def _park(self, pool: Pool, state: UserState) -> Arrival:
        user = state.user
        if user._state == "stopping":
            raise self._stop_user
        state.waiter = getcurrent()
        pool.parked.append(state)
        # Locust stops a waiting user at once; a running one is asked to.
        user._state = "waiting"
        try:
            while state.assigned is None:
                self._hub.switch()
        except BaseException:
            state.gone = True
            self._give_back(state)
            raise
        if user._state == "stopping":
            self._give_back(state)
            raise self._stop_user
        user._state = "running"
        arrival, state.assigned = state.assigned, None
        assert arrival is not None
        return arrival

    def ended(self, state: UserState) -> None:
        self._at_work -= 1
        if self._at_work + self._starting == self._cap - 1:
            now = monotonic()
            for pool in self._pools.values():
                if pool.pending:
                    self._start_users(pool, now)

    def wait(self, state: UserState) -> bool:
        """True: no wait between tasks."""
        return True

    def pause(self, state: UserState, seconds: float) -> None:
        """A wait outside of any task that does not come from Locust's loop, in on_start for example."""
        gevent.sleep(seconds)
