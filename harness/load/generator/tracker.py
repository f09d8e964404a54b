"""Every request of every client: whose it is, when it started, its total time-out, how it ended."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import gevent
from gevent import getcurrent

from harness.load.allowed_hosts.traceparent import Tracer
from harness.load.generator.closed import Cycles
from harness.load.lean.deadlines import Alarm, RequestTimeout
from harness.load.lean.request import Lines
from harness.load.record.arrival import Arrival, UserState
from harness.load.record.failures import failure_kind, outcome_of, own_limit, told
from harness.load.record.in_flight import Call, owner_of
from harness.load.record.odd import LARGEST, LONGEST_MS, length_of, milliseconds
from harness.load.record.recorder import Recorder, writable
from harness.load.record.stats import StatsBatch
from harness.model.clock import monotonic, step_start
from harness.model.records.windows import REPLY_KINDS


class Tracker:
    """All requests of this process. timeout_s: total, of each. cycles: closed model only, to add virtual arrivals.
    tracer: None where requests carry no traceparent.

    Satisfies harness.load.lean.session.Observer.
    """

    def __init__(
        self,
        recorder: Recorder,
        timeout_s: float,
        stats: StatsBatch,
        cycles: Cycles | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.timeout_s = timeout_s
        self.tracer = tracer
        self._stats = stats
        self._recorder = recorder
        self._cycles = cycles
        self._open: dict[Call, None] = {}
        # Virtual arrivals that a time-out has left without an answer of their own: (name, intended, how many) by user.
        self._unanswered: dict[UserState, list[tuple[str, float, int]]] = {}
        # Classes with clients that only report a request when it is over.
        self._unseen: set[str] = set()
        self._alarm = Alarm(self._reap)

    def begin(self, name: str) -> Call:
        """A request is about to be sent."""
        if type(name) is not str:
            name = str(name)
        greenlet = getcurrent()
        call = Call(name, owner_of(greenlet), greenlet, monotonic())
        self._open[call] = None
        if call.start + self.timeout_s < self._alarm.at:
            self._alarm.set(call.start + self.timeout_s)
        return call

    def trace(self, call: Call, host: str, own: Lines) -> bytes:
        """See Observer."""
        return self.tracer.lines(call, host, own) if self.tracer is not None else b""

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
            kind, text = failure_kind(error, None) if error else ("exception", told(error))
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
            kind, text = outcome_of(call.response, error)
            self._see_limit(kind, text, getattr(call.response, "error", None), call.response)
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
                waiting[writable(call.name), call.arrival.class_name, step] += 1
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
        request_type: Any,
        name: Any,
        response_time: Any,
        response_length: Any = 0,
        response: Any = None,
        exception: Any = None,
        **_other: Any,
    ) -> None:
        """Locust's request event. Its values come from any client, so they may be anything: none makes it vanish."""
        try:
            failed = bool(exception)
            if type(name) is not str:
                name = str(name)
            if type(request_type) is not str:
                request_type = str(request_type)
        except Exception as error:
            failed, name, request_type, exception = True, "(a name that cannot be shown)", "", error
        took_ms = response_time
        if type(took_ms) is not float or not 0.0 <= took_ms < LONGEST_MS:
            took_ms = milliseconds(response_time)
            if took_ms is None:
                self._tell_odd(name, "response_time", response_time)
        if type(response_length) is not int or not 0 <= response_length < LARGEST:
            length = length_of(response_length)
            if length is None:
                self._tell_odd(name, "response_length", response_length)
            response_length = length or 0
        if self._stats.log is not None:
            if failed or took_ms is None:
                self._log(request_type, name, took_ms, response_length, exception)
            else:
                self._stats.add((request_type, name, took_ms, response_length))
        call: Call | None = getattr(response, "_harness_call", None)
        if call is None:
            greenlet = getcurrent()
            call = getattr(greenlet, "harness_call", None)
            if call is None or call.done:
                call = self._seen_late(name, greenlet, took_ms)
        if call.active:
            call.active = False
            self._open.pop(call, None)
        if call.done:
            return
        if took_ms is None:
            took_ms = max(0.0, monotonic() - call.start) * 1000
        kind, text = failure_kind(exception, response) if failed else (None, "")
        if kind is None and took_ms > self.timeout_s * 1000:
            kind, text = "timeout", f"took {took_ms / 1000:.1f} s"
        self._see_limit(kind, text, exception, response)
        self._record(call, name, took_ms, kind, text, response_length, bool(getattr(response, "stale", 0)))

    def _seen_late(self, name: str, greenlet: Any, took_ms: float | None) -> Call:
        """A request of a client of another kind: all that is known is that it is over, and how long it took."""
        owner = owner_of(greenlet)
        now = monotonic()
        call = Call(name, owner, greenlet, now)
        call.active = False
        if took_ms is not None:
            # A time in another unit is a failure (too long), and not one of before the start, where nobody looks.
            call.start = max(now - took_ms / 1000, min(now, self._recorder.t0))
        elif call.first and call.arrival is not None:
            call.start = min(now, call.arrival.intended + call.arrival.excused)
        if owner is not None:
            self._unseen.add(owner.class_name)
        return call

    def _log(self, request_type: str, name: str, took_ms: float | None, length: int, exception: Any) -> None:
        """To Locust's own statistics. What an exception of the locustfile's does there is not to cost the record."""
        try:
            self._stats.log(request_type, name, took_ms, length, exception)
        except Exception as error:
            self._recorder.tell_once("stats", f"Locust's own statistics refuse a request: {type(error).__name__}")

    def _tell_odd(self, name: str, what: str, value: object) -> None:
        if what == "response_time":
            means = "it is taken to be what the load itself saw of the request, 0 where that is nothing"
        else:
            means = "it counts as 0"
        text = f"the request {writable(name)} reports a {what} that is no number ({type(value).__name__}): {means}"
        self._recorder.tell_once(f"odd {what}", text)

    def at_work(self, pending: Mapping[str, int]) -> tuple[int, int]:
        """(users waiting for the target, users in a task's own time), of those that have an arrival. pending: arrivals
        by class that have no user yet. What a client does that nobody sees begin counts as waiting."""
        asked: Counter[str] = Counter(
            {call.arrival: call.arrival.class_name for call in self._open if call.arrival}.values()
        )
        waiting = thinking = 0
        for name, count in self._recorder.open_by_class().items():
            busy = max(0, count - pending.get(name, 0))
            waits = busy if name in self._unseen else min(busy, asked[name])
            waiting += waits
            thinking += busy - waits
        return waiting, thinking

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

    def _see_limit(self, kind: str | None, text: str, error: object, response: Any) -> None:
        if kind == "exception" and own_limit(error, response):
            self._recorder.out_of(text)

    def _record(
        self,
        call: Call,
        name: str,
        took_ms: float,
        kind: str | None,
        text: str,
        body_bytes: int = 0,
        resent: bool = False,
    ) -> None:
        call.done = True
        call.response = None  # which knows its call, and would wait with it for the garbage collector
        if not name.isascii():
            name = writable(name)
        arrival = call.arrival
        recorder = self._recorder
        if arrival is None:
            if kind is not None and call.state is not None:
                call.state.troubled = True
            recorder.setup(name, call.start, took_ms, kind, text)
            return
        if call.first:
            # Measured from the arrival: what the request had to wait for is part of its latency.
            late_ms = (call.start - arrival.intended - arrival.excused) * 1000
            step, latency_ms = arrival.step, took_ms + late_ms if late_ms > 0 else took_ms
            if kind is None or kind in REPLY_KINDS:
                recorder.replied(arrival)
        else:
            step, latency_ms = recorder.step(call.start), took_ms
        if kind is None:
            recorder.ok(name, step, latency_ms, body_bytes, call.parent)
            if resent:
                recorder.resent(name, step)
        else:
            intended = arrival.intended if call.first else call.start
            recorder.fail(name, step, latency_ms, kind, intended, text, call.parent)
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
