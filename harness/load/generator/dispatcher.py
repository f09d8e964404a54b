"""Open model: takes the arrivals of the schedule when they are due and gives each to a user.

A user parks at the door of each task until an arrival is handed to it: to the scenario's users in turn, which are
started in the ramp, so that there are as many sessions and connections as were asked for. When none of its class is
parked, another one is started, as long as fewer than the cap are at work: handing arrivals to whoever is free would
hide that part of the traffic hangs. Users beyond the scenario's are used last and leave when they are not needed any
more, so that the time after a hang is like the time before it. An arrival that found no user within 1 s is unsent.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import gevent
from gevent import getcurrent

from harness.load.generator.pools import Pool, users_of
from harness.load.generator.tracker import Tracker
from harness.load.record.arrival import Arrival, UserState
from harness.load.record.failures import told
from harness.load.record.recorder import LATE_S, Recorder, UnsentCause
from harness.model.clock import monotonic, step_start
from harness.model.records.load import LoadPlan
from harness.plan.schedule import owned

PATIENCE_S = 1.0
"""How long an arrival waits for a user."""
_AHEAD_S = 0.1
"""How long before its start a step is drawn."""
_AGAIN_S = 0.02
"""How often arrivals that wait for a user are looked at."""
UNUSED_S = 10.0
"""How long a user beyond the scenario's waits for an arrival before it is stopped."""
_NEVER = 10**12
"""A step."""
_LOOK_AGAIN_S = 0.1
"""What the users are doing is counted no more often than this: there may be thousands."""
# libev sleeps in whole milliseconds, so what is due within one is a batch; asking for less than half of one only burns
# the processor.
_SHORTEST_SLEEP_S = 0.0005


class Dispatcher:
    """One generator's share of the schedule. warn: called with one line for people."""

    def __init__(
        self,
        environment: Any,
        runner: Any,
        plan: LoadPlan,
        index: int,
        recorder: Recorder,
        tracker: Tracker,
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
        self._tracker = tracker
        self._warn = warn
        self._hub = gevent.get_hub()
        self._timer: Any = None
        self._turns = users_of(plan, index)
        counts = Counter(self._turns)
        self._pools = {cls.__name__: Pool(cls, counts[cls.__name__]) for cls in environment.user_classes}
        self._thinking = (-math.inf, False)
        self._cap = max(1, (plan.max_in_flight + plan.workers - 1 - index) // plan.workers)
        self._at_work = self._starting = 0
        self._t0 = math.inf
        self._due: deque[Arrival] = deque()
        self._next_step = 0
        self._draw_at = math.inf
        self._end_step = self._silent_from = self._silent_until = _NEVER
        self._failed_classes: set[str] = set()

    # Commands

    def begin(self, t0: float) -> None:
        self._t0 = t0
        self._draw_at = t0 - _AHEAD_S
        gevent.spawn(self._ramp)
        self._sleep(0.0)

    def stop(self, end_step: int) -> None:
        self._end_step = end_step
        if not math.isinf(self._t0):
            self._draw_at = self._t0 + step_start(self._next_step) - _AHEAD_S
        while self._due and self._due[-1].step >= end_step:
            self._due.pop()

    def fall_silent(self, from_step: int) -> None:
        """No arrivals from that step on, those drawn ahead included."""
        self._silent_from, self._silent_until = from_step, _NEVER
        while self._due and self._due[-1].step >= from_step:
            self._due.pop()

    def resume(self, at_step: int) -> None:
        self._silent_until = max(at_step, self._next_step)

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
            self._dismiss_unused(now)
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
                if not self._silent_from <= step < self._silent_until
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
        unsent = self._recorder.unsent
        if self._recorder.saturated or arrival.late > LATE_S:
            unsent(arrival, "generator", "the generator was saturated")
        elif pool.failures:
            cause: UnsentCause = "cap" if pool.troubled else "task"
            unsent(arrival, cause, f"and no new user could start ({pool.failure})", start=True)
        elif self._users_think(monotonic()):
            unsent(arrival, "task", "most users were in a task's own time: waits, or work of the locustfile")
        else:
            starting = " or still starting" if pool.starting else ""
            unsent(arrival, "cap", f"every user was waiting for the target{starting}")

    def _users_think(self, now: float) -> bool:
        """Whether no user can be added and most of those there wait for nothing of the target's."""
        if self._starting + self._at_work < self._cap - 1:
            return False
        at, found = self._thinking
        if now - at >= _LOOK_AGAIN_S:
            waiting, thinking = self._tracker.at_work({name: len(pool.pending) for name, pool in self._pools.items()})
            found = thinking > waiting + self._starting
            self._thinking = (now, found)
        return found

    def _excuse(self, pool: Pool, arrival: Arrival, now: float) -> None:
        """The arrival gets a user after a wait. Where that was for the locustfile's own time, it is no latency."""
        waited = now - arrival.intended - arrival.late
        if waited > _AGAIN_S and not pool.troubled and (pool.failures or self._users_think(now)):
            arrival.excused = waited

    # Users

    def _give(self, arrival: Arrival) -> None:
        pool = self._pools[arrival.class_name]
        state = pool.free()
        if state is None:
            pool.pending.append(arrival)
            self._start_users(pool, monotonic())
            return
        state.assigned = arrival
        self._at_work += 1
        self._wake(state)

    def _wake(self, state: UserState) -> None:
        if getcurrent() is self._hub:
            state.waiter.switch()
        else:
            self._hub.loop.run_callback(state.waiter.switch)

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
            self._start(pool)

    def _start(self, pool: Pool) -> None:
        """Another user: one of the scenario's as long as some of them are missing."""
        extra = pool.alive >= pool.users
        if not extra:
            pool.alive += 1
            pool.begun += 1
        pool.starting += 1
        self._starting += 1
        gevent.spawn(self._start_user, pool, extra)

    def _ramp(self) -> None:
        """The scenario's users, spread over the ramp. Whom an arrival needed before its time is there already."""
        due: Counter[str] = Counter()
        pace = self._plan.ramp_s / max(1, len(self._turns))
        for number, name in enumerate(self._turns):
            gevent.sleep(max(0.0, self._t0 + number * pace - monotonic()))
            if self._recorder.step(monotonic()) >= self._end_step:
                return
            due[name] += 1
            pool = self._pools[name]
            if pool.begun < due[name] and pool.alive < pool.users:
                self._start(pool)

    def _start_user(self, pool: Pool, extra: bool) -> None:
        try:
            user = pool.cls(self._environment)
        except Exception as error:
            pool.alive -= 0 if extra else 1
            self._start_failed(pool, told(error))
            return
        state = user._harness_state = self.adopt(user)
        state.starting, state.extra = True, extra
        greenlet = user.start(self._runner.user_greenlets)
        # So that what on_start asks for is known to be this user's.
        greenlet.harness_state = state
        greenlet.link(lambda greenlet: self._gone(pool, state, greenlet))

    def _start_failed(self, pool: Pool, why: str, troubled: bool = False) -> None:
        pool.starting -= 1
        self._starting -= 1
        pool.failures += 1
        pool.failure, pool.troubled = why, troubled
        # A class whose users cannot start is tried again, but not as fast as the processor allows.
        pool.no_start_before = monotonic() + min(1.0, 0.05 * 2 ** min(pool.failures, 5))
        if pool.name not in self._failed_classes:
            self._failed_classes.add(pool.name)
            self._warn(f"a user of class {pool.name} could not start: {why}")

    def _gone(self, pool: Pool, state: UserState, greenlet: Any) -> None:
        state.gone = True
        if not state.extra:
            pool.alive -= 1
        if state.unreported:
            self._tracker.task_ended(state, greenlet.exception)
        if state.starting:
            state.starting = False
            why = (
                str(greenlet.exception) or told(greenlet.exception) if greenlet.exception else "it stopped in on_start"
            )
            self._start_failed(pool, why, state.troubled)

    def _dismiss_unused(self, now: float) -> None:
        for pool in self._pools.values():
            # Those that parked first are at the front, and one of them that is gone already says nothing.
            while pool.extras and (pool.extras[0].gone or now - pool.extras[0].idle_since > UNUSED_S):
                state = pool.extras.pop(0)
                state.dismissed = True
                if not state.gone:
                    self._hub.loop.run_callback(state.waiter.switch)

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
            pool.troubled = False
        now = monotonic()
        while pool.pending:
            arrival = pool.pending.popleft()
            if now - arrival.intended <= PATIENCE_S:
                self._excuse(pool, arrival, now)
                self._at_work += 1
                return arrival
            self._unsent(pool, arrival)
        # The event loop sees every reply that is there before it looks at its timers again. Where a hang ends, those
        # are thousands: a user that is free serves what fell due meanwhile, and need not wait for the tick.
        if self._draw_at <= now:
            self._draw(now)
        if self._due and self._due[0].intended <= now and self._due[0].class_name == pool.name:
            arrival = self._take_next(now)
            while pool.parked and pool.parked[0].gone:
                pool.parked.popleft()
            if not pool.parked:
                self._at_work += 1
                return arrival
            # Others have waited longer: this user's turn comes after theirs.
            self._give(arrival)
        return self._park(pool, state)

    def _park(self, pool: Pool, state: UserState) -> Arrival:
        user = state.user
        if user._state == "stopping":
            raise self._stop_user
        state.waiter = getcurrent()
        if state.extra:
            state.idle_since = monotonic()
            pool.extras.append(state)
        else:
            pool.parked.append(state)
        # Locust stops a waiting user at once; a running one is asked to.
        user._state = "waiting"
        try:
            while state.assigned is None and not state.dismissed:
                self._hub.switch()
        except BaseException:
            state.gone = True
            self._give_back(state)
            raise
        if user._state == "stopping" or state.dismissed:
            state.gone = True
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
