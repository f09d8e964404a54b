"""What one generator saw, by 100 ms step of the intended start: rows of harness.model.records.windows.

Everything runs in one thread of greenlets and nothing here switches, so no lock is needed.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.load.record.arrival import Arrival
from harness.load.record.tally import RequestTally, StepTally
from harness.model.clock import monotonic, step_of
from harness.model.jsonl import encode_line
from harness.model.records.load import LEAST_LATE, STEP_S
from harness.model.records.windows import ClassCounts, DeltaRow, ErrorRow, MarkRow, flattened, trace_id

LATE_S = 0.05
"""Lateness above which a generator that has it in its 99th percentile is saturated."""
BUSY = 0.9
"""Share of one core above which it is."""
SPAN_S = 5.0
"""Both over any stretch of this length."""
_MAX_EXAMPLE = 300
_ERAS = 20
"""How many sets of latency limits are kept for requests that end late: an experiment has two."""

UnsentCause = Literal["cap", "task", "generator"]
"""harness.model.records.windows.ClassCounts says what they mean."""


class Recorder:
    """Counts between two flushes. t0 is CLOCK_MONOTONIC seconds; all instants given are on that clock.

    open_names: tells the requests in flight, by name and step. After the final flush nothing is recorded any more.
    """

    def __init__(self, worker: str, limits_ms: tuple[float, ...]) -> None:
        self.worker = worker
        self.t0 = math.inf
        self.saturated = False
        self.warnings: list[str] = []
        """For people, since the last flush."""
        self.open_names: Callable[[], dict[str, dict[int, int]]] = dict
        self._closed = False
        # (first step, limits): the last whose first step has begun counts.
        self._limits: list[tuple[int, tuple[float, ...]]] = [(-(10**9), tuple(sorted(set(limits_ms))))]
        self._steps: dict[int, StepTally] = {}
        # What _steps counts ended in this step; it becomes rows at _turn_at, where the next step begins.
        self._ended: int | None = None
        self._turn_at = math.inf
        self._rows: list[DeltaRow] = []
        # Short ways to what is in _steps: looked up at every arrival and request.
        self._classes: dict[tuple[int, str], ClassCounts] = {}
        self._tallies: dict[tuple[int, str], RequestTally] = {}
        self._open_arrivals: dict[Arrival, None] = {}
        self._errors: dict[tuple[str, str | None, int], _Errors] = {}
        self._flushes = 0
        self._lateness: list[float] = []
        self._span: deque[tuple[float, float, int, int]] = deque()
        self._last_mark = (monotonic(), time.process_time())
        self._out_of_at = -math.inf
        self._out_of_told = False
        self._setup_warned: set[tuple[str, str]] = set()
        self._told: set[str] = set()

    def begin(self, t0: float) -> None:
        """The schedule starts at t0; what was used before, for imports, is not the generator's load."""
        self.t0 = t0
        self._turn_at = -math.inf
        self._last_mark = (monotonic(), time.process_time())

    # Arrivals

    @property
    def open(self) -> int:
        """Arrivals taken and not ended."""
        return len(self._open_arrivals)

    def step(self, instant: float) -> int:
        return step_of(instant - self.t0)

    def take(self, arrival: Arrival) -> None:
        """The arrival came off the schedule (or, closed model, its task starts): planned, and open from now on."""
        self._counts(arrival).planned += 1
        self._open_arrivals[arrival] = None

    def late(self, seconds: float) -> None:
        self._lateness.append(seconds)

    def end(self, arrival: Arrival) -> None:
        if arrival.ended or self._closed:
            return
        arrival.ended = True
        self._counts(arrival).ended += 1
        self._open_arrivals.pop(arrival, None)

    def replied(self, arrival: Arrival) -> None:
        """The arrival's first request got a reply."""
        self._counts(arrival).replied += 1

    def out_of(self, text: str) -> None:
        """A request could not be made for want of files, ports or memory here: the generator is saturated."""
        self._out_of_at = monotonic()
        if not self._out_of_told:
            self._out_of_told = True
            self.warnings.append(f"the load generator is at a limit of this machine: {shortened(text)}")

    def unsent(self, arrival: Arrival, cause: UnsentCause, why: str, *, start: bool = False) -> None:
        """No user was free for it. cause: whose doing that is; why: the same for people. start: no new user could
        start."""
        self._turn()
        counts = self._counts(arrival)
        if cause == "generator":
            counts.unsent_generator += 1
        elif cause == "task":
            counts.unsent_task += 1
            counts.unsent_task_start += start
        else:
            counts.unsent_cap += 1
            counts.unsent_cap_start += start
        self._error("unsent", None, arrival.step, arrival.intended, f"{arrival.class_name}: no user within 1 s, {why}")
        self.end(arrival)

    def empty(self, arrival: Arrival) -> None:
        """The task ended without a request and without an exception: nothing that the target could have answered."""
        if self._closed or arrival.ended:
            return
        self._counts(arrival).empty += 1
        self.tell_once(
            f"empty {arrival.class_name}",
            f"tasks of {arrival.class_name} end without a request: their arrivals are counted apart (empty), and no "
            "target holds them against the service",
        )

    def tell_once(self, key: str, text: str) -> None:
        """A line for people, the first time that it is due."""
        if key not in self._told:
            self._told.add(key)
            self.warnings.append(text)

    def open_by_class(self) -> dict[str, int]:
        """Open arrivals by class."""
        return Counter(arrival.class_name for arrival in self._open_arrivals)

    def failed(self, arrival: Arrival, kind: str, text: str) -> None:
        """The task ended without a request having been made."""
        if self._closed or arrival.ended:
            return
        self._turn()
        self._counts(arrival).failed += 1
        self._error(kind, None, arrival.step, arrival.intended, text)

    def abandon(self) -> None:
        """The drain is over: arrivals whose task still runs end here, unfinished."""
        for arrival in list(self._open_arrivals):
            if arrival.requests == 0:
                self.failed(arrival, "unfinished", f"{arrival.class_name}: its task was running when the load ended")
            self.end(arrival)

    # Requests, by the step of their intended start

    def ok(self, name: str, step: int, latency_ms: float, body_bytes: int = 0, parent: str = "") -> None:
        if monotonic() >= self._turn_at:
            self._turn()
        tally = self._tallies.get((step, name))
        if tally is None:
            if self._closed:
                return
            tally = self._tallies[step, name] = self._requests(step, name)
        tally.latencies.append(latency_ms)
        tally.body_bytes += body_bytes
        if latency_ms > tally.slowest_ms:
            tally.slowest_ms, tally.slowest = latency_ms, parent

    def resent(self, name: str, step: int) -> None:
        """A request that went well was sent twice."""
        if not self._closed:
            self._requests(step, name).resent += 1

    def fail(
        self, name: str, step: int, latency_ms: float, kind: str, intended: float, text: str, parent: str = ""
    ) -> None:
        if self._closed:
            return
        self._turn()
        tally = self._requests(step, name)
        tally.add_failure(kind)
        tally.failed_latencies.append(latency_ms)
        self._error(kind, name, step, intended, text, parent)

    def virtual(self, name: str, intended: float, latency_ms: float, kind: str | None, count: int) -> None:
        """Virtual arrivals of the closed model: what users who were waiting did not send."""
        if not self._closed:
            self._turn()
            self._requests(self.step(intended), name).add_virtual(latency_ms, kind, count)

    def setup(self, name: str, started: float, latency_ms: float, kind: str | None, text: str) -> None:
        """A request outside of any arrival: on_start, on_stop, listeners."""
        if self._closed or math.isinf(self.t0):
            return
        tally = self._tally(self.step(started)).setup.setdefault(name, RequestTally(()))
        if kind is None:
            tally.latencies.append(latency_ms)
            return
        tally.add_failure(kind)
        if (name, kind) not in self._setup_warned:
            self._setup_warned.add((name, kind))
            self.warnings.append(f"a request outside of tasks failed: {name} ({kind}): {shortened(text)}")

    def set_limits(self, limits_ms: tuple[float, ...], from_step: int) -> None:
        """Exact counts of these limits from that step on; from the next one, where it has begun: a row that counted
        some of its requests without a limit would be no count of it."""
        begun = -(10**9) if math.isinf(self.t0) else self.step(monotonic())
        # Requests of steps long gone do not end any more.
        self._limits = [*self._limits[-_ERAS:], (max(from_step, begun + 1), tuple(sorted(set(limits_ms))))]

    # Rows

    def flush(self, done: int, users: int, *, final: bool = False) -> bytes:
        """Everything since the last flush, as lines, ending with a mark. A final flush closes the recorder.

        Errors of one step end in more than one flush. Their row, with its example, waits until none came since the last
        one, so that there is one of them.
        """
        self._freeze()
        rows: list[DeltaRow | MarkRow | ErrorRow] = [*self._rows]
        self._rows = []
        over = [key for key, seen in self._errors.items() if final or seen.flush < self._flushes]
        rows += [self._errors.pop(key).row(self.worker, *key) for key in over]
        self._flushes += 1
        rows.append(self._mark(done, users, final))
        if final:
            self._closed = True
        return b"".join(map(encode_line, rows))

    def _turn(self) -> None:
        """Begin new rows where a new step has begun, so that every row knows when all that it counts ended."""
        now = monotonic()
        if now < self._turn_at or math.isinf(self.t0):
            return
        self._freeze()
        self._ended = self.step(now)
        self._turn_at = self.t0 + (self._ended + 1) * STEP_S

    def _freeze(self) -> None:
        self._rows += [tally.row(self.worker, step, self._ended) for step, tally in sorted(self._steps.items())]
        self._steps = {}
        self._classes.clear()
        self._tallies.clear()

    def _mark(self, done: int, users: int, final: bool) -> MarkRow:
        now, cpu_s = monotonic(), time.process_time()
        wall, used = now - self._last_mark[0], cpu_s - self._last_mark[1]
        self._last_mark = (now, cpu_s)
        lateness = sorted(self._lateness)
        self._lateness = []
        n = len(lateness)
        late = sum(1 for seconds in lateness if seconds > LATE_S)
        self._judge_saturation(wall, used, n, late)
        return MarkRow(
            worker=self.worker,
            at=round(now - self.t0, 4),
            done=done,
            open=flattened(Counter([arrival.step for arrival in self._open_arrivals])),
            unasked=flattened(Counter([arrival.step for arrival in self._open_arrivals if not arrival.requests])),
            open_names={name: flattened(steps) for name, steps in self.open_names().items()},
            cpu=round(used / wall, 4) if wall > 0 else None,
            lateness_p99_ms=round(lateness[math.ceil(0.99 * n) - 1] * 1000, 3) if n else None,
            lateness_max_ms=round(lateness[-1] * 1000, 3) if n else None,
            lateness_n=n,
            users=users,
            saturated=self.saturated,
            final=final,
        )

    def _judge_saturation(self, wall: float, used: float, n: int, late: int) -> None:
        """Over the marks of the last 5 s. Two late arrivals of a hundred are chance."""
        self._span.append((wall, used, n, late))
        while len(self._span) > 1 and sum(s[0] for s in self._span) - self._span[0][0] >= SPAN_S:
            self._span.popleft()
        walls, cpus, arrivals, lates = (sum(column) for column in zip(*self._span, strict=True))
        whole = walls >= SPAN_S - STEP_S
        late_p99 = lates >= LEAST_LATE and lates > 0.01 * arrivals
        out_of = monotonic() - self._out_of_at < SPAN_S
        self.saturated = (whole and (cpus > BUSY * walls or late_p99)) or out_of

    def _counts(self, arrival: Arrival) -> ClassCounts:
        key = (arrival.step, arrival.class_name)
        counts = self._classes.get(key)
        if counts is None:
            if self._closed:
                return ClassCounts()
            counts = self._classes[key] = self._tally(arrival.step).classes.setdefault(
                arrival.class_name, ClassCounts()
            )
        return counts

    def _tally(self, step: int) -> StepTally:
        tally = self._steps.get(step)
        if tally is None:
            tally = self._steps[step] = StepTally()
        return tally

    def _requests(self, step: int, name: str) -> RequestTally:
        requests = self._tally(step).requests
        tally = requests.get(name)
        if tally is None:
            limits = next((limits for first, limits in reversed(self._limits) if first <= step), ())
            tally = requests[name] = RequestTally(limits)
        return tally

    def _error(self, kind: str, name: str | None, step: int, instant: float, text: str, parent: str = "") -> None:
        at = instant - self.t0
        seen = self._errors.get((kind, name, step))
        if seen is None:
            seen = self._errors[kind, name, step] = _Errors(at, at, writable(shortened(text)), trace_id(parent))
        seen.count += 1
        seen.first = min(seen.first, at)
        seen.last = max(seen.last, at)
        seen.flush = self._flushes


@dataclass(slots=True)
class _Errors:
    """Of one kind, name and step. first, last: seconds since t0. trace: id of the example. flush: how many there had
    been at the last of them."""

    first: float
    last: float
    example: str
    trace: str
    count: int = 0
    flush: int = 0

    def row(self, worker: str, kind: str, name: str | None, step: int) -> ErrorRow:
        first_s, last_s = round(self.first, 3), round(self.last, 3)
        return ErrorRow(
            worker=worker,
            kind=kind,
            name=name,
            step=step,
            count=self.count,
            first_s=first_s,
            last_s=last_s,
            example=self.example,
            trace=self.trace,
        )


def shortened(text: str, most: int = _MAX_EXAMPLE) -> str:
    """The text of an error as an example. Of a long one the middle is left out, and seen to be: what matters is at its
    ends, and half a word at the end of it would look like all there was."""
    if len(text) <= most:
        return text
    head = (most - 3) * 2 // 3
    return f"{text[:head]}...{text[head + 3 - most :]}"


def writable(text: str) -> str:
    """The text as it can be written to a file: a lone surrogate (a name made of undecodable bytes) cannot."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
