"""Every request of every client: whose it is, when it started, its total time-out, how it ended."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import gevent
from gevent import getcurrent

from harness.load.arrival import Arrival, UserState
from harness.load.calls import Call, owner_of
from harness.load.closed import Cycles
from harness.load.failures import failure_kind, own_limit
from harness.load.lean.deadlines import Alarm, RequestTimeout
from harness.load.recorder import Recorder
from harness.load.stats import StatsBatch
from harness.model.clock import monotonic, step_start
from harness.model.windows import REPLY_KINDS


class Tracker:
    """All requests of this process. timeout_s: total, of each. cycles: closed model only, to add virtual arrivals.

    Satisfies harness.load.lean.session.Observer.
    """

    def __init__(self, recorder: Recorder, timeout_s: float, stats: StatsBatch, cycles: Cycles | None = None) -> None:
        self.timeout_s = timeout_s
        self._stats = stats
        self._recorder = recorder
        self._cycles = cycles
        self._open: dict[Call, None] = {}
        # Virtual arrivals that a time-out has left without an answer of their own: (name, intended, how many) by user.
        self._unanswered: dict[UserState, list[tuple[str, float, int]]] = {}
        self._alarm = Alarm(self._reap)

    def begin(self, name: str) -> Call:
        """A request is about to be sent."""
        greenlet = getcurrent()
        call = Call(name, owner_of(greenlet), greenlet, monotonic())
        self._open[call] = None
        if call.start + self.timeout_s < self._alarm.at:
            self._alarm.set(call.start + self.timeout_s)
        return call

    def returned(self, call: Call) -> None:
        """Its client has come back; the outcome may still be open."""
        if call.active:
            call.active = False
            self._open.pop(call, None)

    def broke(self, call: Call, error: BaseException) -> None:
        """The client raised, so Locust fires no event."""
        self.returned(call)
        if call.done:
            return
        took_ms = (monotonic() - call.start) * 1000
        if isinstance(error, gevent.GreenletExit):
            self._record(call, call.name, took_ms, "unfinished", "its user was stopped")
        else:
            kind, text = failure_kind(error, None)
            self._see_limit(kind, text, error, None)
            self._record(call, call.name, took_ms, kind or "exception", text)

    def undecided(self, call: Call, response: Any) -> None:
        """catch_response: the event comes when the caller's with-block ends, or never."""
        self.returned(call)
        if call.done or call.state is None:
            return
        call.took_ms = (monotonic() - call.start) * 1000
        call.response = response
        call.state.unreported.append(call)

    def task_ended(self, state: UserState, error: BaseException | None) -> None:
        """Requests whose outcome the task was to decide and did not: Locust forgets them, we do not."""
        for call in state.unreported:
            if call.done:
                continue
            kind: str | None
            if error is not None:
                kind, text = "exception", f"{type(error).__name__}: {error}"
            else:
                failed = getattr(call.response, "error", None)
                kind, text = failure_kind(failed, call.response)
                self._see_limit(kind, text, failed, call.response)
            self._record(call, call.name, call.took_ms, kind, text)
        state.unreported.clear()

    def abandon(self, arrival: Arrival | None = None) -> None:
        """What is open now (of this arrival, or at all) is unfinished."""
        for call in [c for c in self._open if arrival is None or c.arrival is arrival]:
            self.returned(call)
            self._record(call, call.name, (monotonic() - call.start) * 1000, "unfinished", "open when the load ended")
        if arrival is None:
            for state in list(self._unanswered):
                self._answer(state, "timeout", math.inf)

    def open_names(self) -> dict[str, dict[int, int]]:
        """Requests in flight: name -> step -> how many. Counted when asked: that is cheaper than at every request.

        Closed model: with the virtual arrivals that they have missed until now, which are recorded when they end.
        """
        waiting: Counter[tuple[str, str, int]] = Counter()
        for call in self._open:
            if call.arrival is not None:
                step = call.arrival.step if call.first else self._recorder.step(call.start)
                waiting[call.name, call.arrival.class_name, step] += 1
        found: dict[str, dict[int, int]] = {}
        now = monotonic()
        for (name, class_name, step), count in waiting.items():
            steps = found.setdefault(name, {})
            steps[step] = steps.get(step, 0) + count
            if self._cycles is None:
                continue
            start = self._recorder.t0 + step_start(step)
            for intended, _, many in self._cycles.missed(class_name, start, (now - start) * 1000):
                at = self._recorder.step(intended)
                steps[at] = steps.get(at, 0) + many * count
        for left in self._unanswered.values():
            for name, intended, many in left:
                steps = found.setdefault(name, {})
                at = self._recorder.step(intended)
                steps[at] = steps.get(at, 0) + many
        return found

    def on_request(
        self,
        request_type: str,
        name: str,
        response_time: float | None,
        response_length: int | None = 0,
        response: Any = None,
        exception: BaseException | None = None,
        **_other: Any,
    ) -> None:
        """Locust's request event."""
        if self._stats.log is not None:
            if exception is None and response_time is not None and response_length is not None:
                self._stats.add((request_type, name, response_time, response_length))
            else:
                self._stats.log(request_type, name, response_time, response_length, exception)
        call: Call | None = getattr(response, "_harness_call", None)
        took_ms = response_time or 0.0
        if call is None:
            took_ms = max(0.0, float(took_ms))
            greenlet = getcurrent()
            call = getattr(greenlet, "harness_call", None)
            if call is None or call.done:
                # A client of another kind: all that is known is that it is over, and how long it took.
                call = Call(name, owner_of(greenlet), greenlet, monotonic() - took_ms / 1000)
                call.active = False
        if call.active:
            call.active = False
            self._open.pop(call, None)
        if call.done:
            return
        kind, text = (None, "") if exception is None else failure_kind(exception, response)
        if kind is None and took_ms > self.timeout_s * 1000:
            kind, text = "timeout", f"took {took_ms / 1000:.1f} s"
        self._see_limit(kind, text, exception, response)
        self._record(call, name, took_ms, kind, text)

    def _answer(self, state: UserState, kind: str | None, ended: float) -> None:
        """What a user's time-out has left open, decided by the end of its next request. A request that was due in the
        middle of the one that timed out has its own time-out later: what is answered until then would have been
        answered to it as well."""
        for name, intended, count in self._unanswered.pop(state, ()):
            late_s = ended - intended
            if kind == "timeout" or late_s > self.timeout_s:
                self._recorder.virtual(name, intended, self.timeout_s * 1000, "timeout", count)
            else:
                self._recorder.virtual(name, intended, late_s * 1000, kind, count)

    def _see_limit(self, kind: str | None, text: str, error: BaseException | None, response: Any) -> None:
        if kind == "exception" and own_limit(error, response):
            self._recorder.out_of(text)

    def _record(self, call: Call, name: str, took_ms: float, kind: str | None, text: str) -> None:
        call.done = True
        call.response = None  # which knows its call, and would wait with it for the garbage collector
        name = str(name)
        arrival = call.arrival
        recorder = self._recorder
        if arrival is None:
            recorder.setup(name, call.start, took_ms, kind, text)
            return
        if call.first:
            # Measured from the arrival: what the request had to wait for is part of its latency.
            late_ms = (call.start - arrival.intended) * 1000
            step, latency_ms = arrival.step, took_ms + late_ms if late_ms > 0 else took_ms
            if kind is None or kind in REPLY_KINDS:
                recorder.replied(arrival)
        else:
            step, latency_ms = recorder.step(call.start), took_ms
        if kind is None:
            recorder.ok(name, step, latency_ms)
        else:
            recorder.fail(name, step, latency_ms, kind, arrival.intended if call.first else call.start, text)
        if self._cycles is not None:
            state = call.state
            if state is not None and self._unanswered:
                self._answer(state, kind, call.start + took_ms / 1000)
            missed = self._cycles.missed(arrival.class_name, call.start, took_ms)
            if kind == "timeout" and state is not None and missed:
                self._unanswered[state] = [(name, intended, count) for intended, _, count in missed]
                missed = []
            for intended, virtual_ms, count in missed:
                recorder.virtual(name, intended, virtual_ms, kind, count)
            if kind is None:
                self._cycles.replied(arrival.class_name, took_ms)

    def _reap(self) -> None:
        """Runs in the hub, so a greenlet with an active call is certainly inside its client."""
        now = monotonic()
        while self._open:
            # Oldest first: all have the same time-out.
            call = next(iter(self._open))
            due = call.start + self.timeout_s
            if due > now:
                self._alarm.set(due)
                return
            self.returned(call)
            call.timed_out = True
            if not call.greenlet.dead:
                call.greenlet.throw(RequestTimeout(self.timeout_s))
