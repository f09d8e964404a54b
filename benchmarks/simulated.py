"""Complete records of runs with known truth: plan, events and window rows of a service that is drawn, not run.

Nothing here knows the rules that judge such a record: the only code shared with the product are its records
(harness.model) and the load's own schedule, which says how many arrivals each step has. Which of them fail, are slow,
and when they end is drawn here, in counts a step. That is exact: of n arrivals, uniform in a step, each is bad with
the mean of the rate over the step, wherever in the step the rate changes.

    service   what the service does, as rates over time
    Recording draws the rows of a service step by step, so that whoever conducts a run may decide as it goes
    plan, opening, injection, undo, ending   the rest of a record
"""

from __future__ import annotations

import math
import random
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.records import events as ev
from harness.model.records.faults import Change, Dependency, Evidence, FaultSpec
from harness.model.records.load import LoadPlan, Scenario, UserClass
from harness.model.records.plan import PhasePlan, Plan, PlannedFault, Provenance
from harness.model.records.targets import PhaseName, Target
from harness.model.records.windows import ClassCounts, DeltaRow, MarkRow, RequestCounts, Row, limit_key
from harness.model.sketch import bucket_of
from harness.plan.schedule import planned_counts

Rate = Callable[[float, float], float]
"""The mean chance of a request being bad over [a, b), seconds since t0."""

WARMUP_S = 2.0
"""Nothing is recorded of it: no rule asks."""
FAULT = "redis-down"
USER = "User"
QUICK_MS, SLOW_MS, FAILED_MS = 30.0, 400.0, 5.0
HORIZON_S = 900.0
"""Longer than any run: what comes at random instants is drawn up to here."""
MARK_STEPS = 10
_ID = "20260101T000000Z-simulated"
_WALL = "2026-01-01T00:00:00.000Z"


# Rates


def never(a: float, b: float) -> float:
    return 0.0


def steady(share: float) -> Rate:
    return lambda a, b: share


def during(begin: float, end: float, share: float) -> Rate:
    """`share` in [begin, end)."""

    def rate(a: float, b: float) -> float:
        if b <= begin or a >= end:
            return 0.0
        return share * (min(b, end) - max(a, begin)) / (b - a)

    return rate


def falling(begin: float, length: float, top: float = 1.0) -> Rate:
    """From `top` at begin to nothing at begin + length, in a straight line."""

    def below(at: float) -> float:
        """The integral up to `at`."""
        x = min(max(at - begin, 0.0), length)
        return top * (x - x * x / (2 * length))

    return lambda a, b: (below(b) - below(a)) / (b - a)


def decaying(begin: float, tau: float, top: float = 1.0) -> Rate:
    """From `top` at begin on, exponentially with time constant tau."""

    def below(at: float) -> float:
        return -top * tau * math.expm1(-max(at - begin, 0.0) / tau)

    return lambda a, b: (below(b) - below(a)) / (b - a)


def spells(stretches: Sequence[tuple[float, float]], share: float = 1.0) -> Rate:
    """`share` in each of the (begin, end), which are in order and apart."""
    begins, ends = [a for a, _ in stretches], [b for _, b in stretches]

    def rate(a: float, b: float) -> float:
        low, high = bisect_right(ends, a), bisect_left(begins, b)
        if low >= high:
            return 0.0
        return share * sum(min(b, ends[i]) - max(a, begins[i]) for i in range(low, high)) / (b - a)

    return rate


def together(*rates: Rate) -> Rate:
    """Their sum, exact as long as it stays below 1."""
    return lambda a, b: min(1.0, sum(rate(a, b) for rate in rates))


def pauses(draw: random.Random, length_s: float, apart: tuple[float, float]) -> list[tuple[float, float]]:
    """Stretches of length_s, the gaps between them uniform in `apart`."""
    found = []
    at = draw.uniform(0.0, apart[1])
    while at < HORIZON_S:
        found.append((at, at + length_s))
        at += length_s + draw.uniform(*apart)
    return found


def bursts(draw: random.Random, per_s: float, size: int, within_s: float = 1.0) -> dict[int, int]:
    """Failures by step: bursts come at random, per_s of them a second; each fails `size` requests within_s."""
    found: dict[int, int] = {}
    at = draw.expovariate(per_s)
    while at < HORIZON_S:
        for _ in range(size):
            step = int((at + within_s * draw.random()) * 10)
            found[step] = found.get(step, 0) + 1
        at += draw.expovariate(per_s)
    return found


# What a service does


@dataclass(frozen=True)
class Fate:
    """One request, where requests are drawn singly."""

    bad: bool
    latency_s: float


@dataclass(frozen=True)
class Service:
    """fail: of all requests. slow: of those that do not fail. burst: step -> failures beyond these.

    names: request name -> share of the traffic. own: name -> failures of that name alone, beyond `fail`.
    own_burst: name -> failures by step. spread: latencies of good requests are log-normal instead of QUICK_MS.
    singly: (begin_s, end_s, fate of a request that starts then): drawn request by request there, with their ends.
    """

    fail: Rate = never
    slow: Rate = never
    burst: Mapping[int, int] = field(default_factory=dict)
    names: Mapping[str, float] = field(default_factory=lambda: {"GET /items": 1.0})
    own: Mapping[str, Rate] = field(default_factory=dict)
    own_burst: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    spread: bool = False
    singly: tuple[float, float, Callable[[float, random.Random], Fate]] | None = None


# Counts


def binomial(draw: random.Random, n: int, p: float) -> int:
    """Exact: halve n by its median order statistic while many are expected (Relles 1972), then invert."""
    if n <= 0 or p <= 0.0:
        return 0
    if p >= 1.0:
        return n
    if p > 0.5:
        return n - binomial(draw, n, 1.0 - p)
    count = 0
    while n * p > 20.0:
        middle = 1 + n // 2
        at = draw.betavariate(middle, n + 1 - middle)
        if at <= p:
            count, n, p = count + middle, n - middle, (p - at) / (1.0 - at)
        else:
            n, p = middle - 1, p / at
        if n <= 0 or p <= 0.0:
            return count
    if p > 0.5:
        return count + n - binomial(draw, n, 1.0 - p)
    odds, chance, u = p / (1.0 - p), (1.0 - p) ** n, draw.random()
    k = 0
    while u > chance and k < n:
        u -= chance
        k += 1
        chance *= odds * (n - k + 1) / k
    return count + k


_POOL = 8192
_NORMAL_SIGMA = 0.5


def _quantiles() -> list[float]:
    """Latencies in ms, ascending: equally likely values of a log-normal around 40 ms (p95 91 ms, p99 128 ms)."""
    # Inverse of the normal's distribution function from the standard library.
    from statistics import NormalDist

    inverse = NormalDist().inv_cdf
    return [40.0 * math.exp(_NORMAL_SIGMA * inverse((i + 0.5) / _POOL)) for i in range(_POOL)]


class Recording:
    """Rows of a service, drawn as far as asked. limits_ms are counted exactly from where they are given on."""

    def __init__(self, plan: Plan, draw: random.Random, first_step: int) -> None:
        self.at = first_step
        self._plan = plan
        self._draw = draw
        self._limits = list(plan.load.limits_ms)
        self._carried = 0
        self._latencies: list[float] = []
        self._buckets: list[int] = []
        self._range = range(_POOL)

    def count_also(self, limits_ms: Sequence[float]) -> None:
        self._limits += [limit for limit in limits_ms if limit not in self._limits]

    def advance(self, service: Service, end_step: int) -> list[Row]:
        """The rows of all steps from where the recording stands to end_step, and a mark a second."""
        rows: list[Row] = []
        counts = planned_counts(self._plan.load, self.at, end_step)[USER]
        for step, n in enumerate(counts, self.at):
            if n:
                singly = service.singly
                if singly is not None and singly[0] <= step / 10 < singly[1]:
                    rows += self._single(singly[2], next(iter(service.names)), step, n)
                else:
                    rows.append(self._counted(service, step, n))
            else:
                self._carried += service.burst.get(step, 0)
            if step % MARK_STEPS == MARK_STEPS - 1:
                rows.append(_mark((step + 1) / 10, step + 1))
        self.at = max(self.at, end_step)
        return rows

    def end(self) -> MarkRow:
        return _mark(self.at / 10 + 1.0, self.at, final=True)

    def _counted(self, service: Service, step: int, n: int) -> DeltaRow:
        draw = self._draw
        a, b = step / 10, (step + 1) / 10
        fail, slow = service.fail(a, b), service.slow(a, b)
        burst = service.burst.get(step, 0) + self._carried
        shared = self._names(service, n)
        if burst:
            self._carried = max(0, burst - n)
            burst = min(burst, n)
        requests = {}
        left = n
        for name, many in shared.items():
            rate = fail
            if name in service.own:
                rate = min(1.0, rate + service.own[name](a, b))
            bad = binomial(draw, many, rate)
            if burst:
                hit = burst if many == left else _drawn_without(draw, burst, many, left)
                burst, left = burst - hit, left - many
                bad = min(many, bad + hit)
            if name in service.own_burst:
                bad = min(many, bad + service.own_burst[name].get(step, 0))
            late = binomial(draw, many - bad, slow)
            requests[name] = self._requests(many - bad - late, late, bad, service.spread)
        arrivals = ClassCounts(planned=n, ended=n, replied=n)
        return DeltaRow(worker="w0", step=step, ended=step + 1, classes={USER: arrivals}, requests=requests)

    def _names(self, service: Service, n: int) -> dict[str, int]:
        if len(service.names) == 1:
            return dict.fromkeys(service.names, n)
        found: dict[str, int] = {}
        for name in self._draw.choices(list(service.names), list(service.names.values()), k=n):
            found[name] = found.get(name, 0) + 1
        return found

    def _requests(self, quick: int, slow: int, bad: int, spread: bool) -> RequestCounts:
        sketch: list[int] = []
        over: dict[str, int] = {}
        total, most = 0.0, 0.0
        if quick and spread:
            sketch, over, total, most = self._spread(quick)
        elif quick:
            sketch, total, most = [_QUICK, quick], QUICK_MS * quick, QUICK_MS
        if slow:
            sketch += (_SLOW, slow)
            total, most = total + SLOW_MS * slow, SLOW_MS
        for limit in self._limits:
            key = limit_key(limit)
            # A row names every limit in force, those at 0 too.
            over[key] = over.get(key, 0) + (quick if not spread and limit <= QUICK_MS else 0)
            over[key] += slow if limit <= SLOW_MS else 0
        return RequestCounts(
            ok=quick + slow,
            fail={"status": bad} if bad else {},
            sum_ms=total,
            max_ms=most,
            sketch=sketch,
            over=over,
            failed_max_ms=FAILED_MS if bad else 0.0,
            failed_sketch=[_FAILED, bad] if bad else [],
        )

    def _spread(self, n: int) -> tuple[list[int], dict[str, int], float, float]:
        if not self._latencies:
            self._latencies = _quantiles()
            self._buckets = [bucket_of(latency) for latency in self._latencies]
        drawn = self._draw.choices(self._range, k=n)
        counts: dict[int, int] = {}
        for i in drawn:
            bucket = self._buckets[i]
            counts[bucket] = counts.get(bucket, 0) + 1
        over = {}
        for limit in self._limits:
            first = bisect_left(self._latencies, limit)
            over[limit_key(limit)] = sum(i >= first for i in drawn) if first < _POOL else 0
        flat = [number for pair in counts.items() for number in pair]
        return flat, over, sum(self._latencies[i] for i in drawn), self._latencies[max(drawn)]

    def _single(self, fate: Callable[[float, random.Random], Fate], name: str, step: int, n: int) -> list[Row]:
        """A row for every step in which requests of this one ended."""
        ends: dict[int, list[Fate]] = {}
        for _ in range(n):
            start = (step + self._draw.random()) / 10
            found = fate(start, self._draw)
            ends.setdefault(int((start + found.latency_s) * 10), []).append(found)
        rows: list[Row] = []
        for ended, fates in sorted(ends.items()):
            arrivals = ClassCounts(planned=0 if rows else n, ended=len(fates), replied=len(fates))
            good = array("d", [1000 * f.latency_s for f in fates if not f.bad])
            failed = array("d", [1000 * f.latency_s for f in fates if f.bad])
            counts = RequestCounts(
                ok=len(good),
                fail={"status": len(failed)} if failed else {},
                sum_ms=sum(good),
                max_ms=max(good, default=0.0),
                sketch=[number for ms in good for number in (bucket_of(ms), 1)],
                over={limit_key(limit): sum(ms >= limit for ms in good) for limit in self._limits},
                failed_max_ms=max(failed, default=0.0),
                failed_sketch=[number for ms in failed for number in (bucket_of(ms), 1)],
            )
            rows.append(
                DeltaRow(worker="w0", step=step, ended=ended, classes={USER: arrivals}, requests={name: counts})
            )
        return rows


_QUICK, _SLOW, _FAILED = bucket_of(QUICK_MS), bucket_of(SLOW_MS), bucket_of(FAILED_MS)


def _drawn_without(draw: random.Random, marked: int, taken: int, of: int) -> int:
    """How many of `marked` among `of` are in a sample of `taken` without replacement."""
    found = 0
    for i in range(min(taken, of)):
        if draw.random() * (of - i) < marked - found:
            found += 1
    return found


def _mark(at: float, done: int, final: bool = False) -> MarkRow:
    return MarkRow(worker="w0", at=at, done=done, cpu=0.3, lateness_p99_ms=2.0, lateness_n=100, users=50, final=final)


# The rest of a record


@dataclass(frozen=True)
class Lengths:
    """Phases in seconds, as planned."""

    baseline_s: float = 60.0
    fault_s: float = 60.0
    hold_s: float = 15.0
    gap_s: float = 1.0
    recovery_limit_s: float = 60.0
    tail_s: float = 10.0


def plan(targets: tuple[Target, ...], rate: float, seed: int, lengths: Lengths) -> Plan:
    limits = tuple(sorted({t.value for t in targets if t.unit == "ms" and t.relative is None}))
    dependency = Dependency(name="redis", kind="redis")
    change = Change(kind="down", dependency=dependency, params={}, does="", undoes="", proves="")
    spec = FaultSpec(name=FAULT, dependency="redis", kind="down")
    return Plan(
        experiment=_ID,
        created=_WALL,
        scenario=Scenario(
            name="simulated", summary="", users=200, spawn_rate=200, run_time_s=600, rate=rate, baseline_s=60
        ),
        scale=1.0,
        stack="external",
        load=LoadPlan(
            model="open",
            host="http://127.0.0.1:9",
            locustfile="simulated.py",
            classes=(UserClass(name=USER),),
            seed=seed,
            users=200,
            spawn_rate=200,
            ramp_s=0.0,
            rate=rate,
            limits_ms=limits,
        ),
        phases=PhasePlan(
            warmup_s=WARMUP_S,
            baseline_s=lengths.baseline_s,
            gap_s=12.0,
            fault_s=lengths.fault_s,
            recovery_limit_s=lengths.recovery_limit_s,
            hold_s=lengths.hold_s,
            after_s=lengths.hold_s,
            tail_s=lengths.tail_s,
            extend=("baseline", "fault", "after"),
        ),
        targets=targets,
        faults=(PlannedFault(id=FAULT, spec=spec, change=change, at_s=0.0, for_s=lengths.fault_s),),
        provenance=Provenance(
            harness="0", command="simulated", machine="none", cpus=2, memory_bytes=1 << 30, python="3"
        ),
    )


def event(kind: Callable[..., ev.Event], at: float, **fields: object) -> ev.Event:
    return kind(at=at, wall=_WALL, experiment=_ID, **fields)


def phase(name: PhaseName, start_s: float) -> ev.Event:
    return event(ev.PhaseStarted, start_s, phase=name, start_s=start_s)


def opening() -> list[ev.Event]:
    return [event(ev.Started, 0.0, monotonic=1000.0), phase("warmup", 0.0), phase("baseline", WARMUP_S)]


def injection(at_s: float) -> list[ev.Event]:
    """Sent at at_s, a few milliseconds into the fault phase."""
    seen = Evidence(source="probe", expected="refused", observed="refused", held=True, at=at_s)
    return [
        event(ev.FaultRequested, at_s, fault=FAULT),
        event(ev.FaultInjected, at_s + 0.005, fault=FAULT, sent_s=at_s),
        event(ev.FaultEvidence, at_s + 0.02, fault=FAULT, stage="injected", evidence=seen),
        event(ev.FaultProven, at_s + 0.02, fault=FAULT),
    ]


def undo(zero_s: float) -> list[ev.Event]:
    """The fault is gone at zero_s, without doubt."""
    return [
        event(ev.UndoRequested, zero_s - 0.02, fault=FAULT, sent_s=zero_s - 0.02),
        event(ev.Undone, zero_s - 0.01, fault=FAULT, sent_s=zero_s - 0.02),
        event(ev.UndoVerified, zero_s, fault=FAULT, evidence=()),
        event(ev.ZeroFound, zero_s, zero_s=zero_s, lower_s=zero_s, upper_s=zero_s, source="probe"),
    ]


def ending(end_s: float) -> list[ev.Event]:
    return [event(ev.LoadEnded, end_s + 1.0, end_s=end_s)]
