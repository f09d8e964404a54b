"""What a fault left behind in the dependencies themselves, from their own counters (samples.jsonl).

    retry amplification   while the fault is on, a request costs the dependency more calls than before; a connection
                          that is opened is a call too, except of HTTP
    reconnect storm       after the undo, connections come much faster than before
    cold cache            after the fault the hit rate is down, and the databases carry what the cache did
    consumer lag          messages pile up, and are not worked off soon after the undo

Each is a pure function of readings, with its limit beside it. Figures are given whether they are over the limit or not;
`found` says which. The limits lie well above what the harness itself causes: one reading a second, and a probe every
50 ms for a moment around the undo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from harness.analysis.record.spans import Span, fault_intervals, span_of
from harness.analysis.record.windows import WindowStore
from harness.model.clock import step_of
from harness.model.records import events as ev
from harness.model.records.plan import Plan
from harness.model.records.result import SignatureResult
from harness.model.records.samples import Sample

AMPLIFIED = 2.5
MORE_CALLS = 0.5
"""Retry amplification: 2.5 times the calls per request of baseline, and half a call more. Twice would not do: a client
that gives up a call, as it should, gives up its connection with it and opens another for the next."""
ASKED_AGAIN = 1.5
MORE_REQUESTS = 0.1
"""The same where requests themselves are counted (HTTP): connections add nothing to them, so one retry of most of them
is seen, and so are retries of a service that only some requests of the load need."""
LEAST_REQUESTS = 50
EDGE_S = 1.0
"""Left out at both ends of a fault: sessions report late, and requests straddle the edge."""

STORM_S = 10.0
STORM_RATIO = 5.0
STORM_RATE = 20.0
STORM_HELD = 3.0
OWN_CONNECTIONS = 25.0
"""Reconnect storm: within STORM_S after the undo a reading of 5 x baseline's connections a second and 20/s, and in all
three times as many as were held in baseline, beyond 25 that the harness's probes may have made."""

HIT_DROP = 0.8
LOAD_RATIO = 2.0
LEAST_LOOKUPS = 10
COLD_LEAST_S = 2.0
"""Cold cache: a hit rate under 0.8 x baseline's for at least 2 s, while a database does twice as many transactions."""

LAG_RATIO = 5.0
LEAST_LAG = 200.0
DRAIN_S = 15.0
COMMITTED_S = 2.0
"""Consumer lag: over 5 x baseline's worst and 200, and more than 15 s after the undo until it is down to twice
baseline's worst, 100, or what is written in 2 s: consumers commit once a second, and in another rhythm after the broker
was away."""
STEADY = 3
"""So many readings in a row make a return."""

Points = Sequence[tuple[float, float]]
"""(seconds since t0, value), in order."""


class Rate(msgspec.Struct, frozen=True):
    """How much a counter rose between two readings."""

    start_s: float
    end_s: float
    rise: float

    @property
    def per_s(self) -> float:
        return self.rise / (self.end_s - self.start_s)


Stretch = tuple[float, float]
Requests = Callable[[float, float], int]
"""Requests of the load in [start_s, end_s)."""


def signatures(
    plan: Plan, history: Sequence[ev.Event], spans: Sequence[Span], store: WindowStore, samples: Sequence[Sample]
) -> tuple[SignatureResult, ...]:
    """Every signature that can be told of the dependencies under a fault; none without a fault or a baseline."""
    baseline = span_of(spans, "baseline")
    end_s = max((span.end_s for span in spans), default=0.0)
    faults = fault_intervals(plan, history, end_s)
    if baseline is None or not faults:
        return ()
    before = (baseline.start_s, baseline.end_s)
    zero_s = max([e.zero_s for e in history if isinstance(e, ev.ZeroFound)] or [max(end for _, end in faults)])

    def requests(start_s: float, end_s: float) -> int:
        return store.totals(step_of(start_s), step_of(end_s)).attempts

    def read(name: str, counter: str) -> Points:
        return points(samples, name, counter)

    databases = {
        name: read(name, "transactions")
        for name in dict.fromkeys(n for s in samples for n, found in s.counters.items() if "transactions" in found)
    }
    found: list[SignatureResult | None] = []
    under_fault = {fault.change.dependency.name: fault.change.dependency for fault in plan.faults}
    for one in (each for each in under_fault.values() if not each.target):
        # What a server counts is what can be judged of it, whatever kind it is.
        connections, held = read(one.name, "connections"), read(one.name, "clients")
        calls = next((c for counter in ("commands", "transactions") if (c := read(one.name, counter))), ())
        asked = read(one.name, "requests")
        if calls:
            work = together(calls, connections)
            found.append(retry_amplification(one.name, work, requests, before, faults))
        elif asked:
            found.append(
                retry_amplification(one.name, asked, requests, before, faults, times=ASKED_AGAIN, more=MORE_REQUESTS)
            )
        if calls or asked:
            found.append(reconnect_storm(one.name, connections, held, before, zero_s))
        if hits := read(one.name, "hits"):
            misses = read(one.name, "misses")
            found.append(cold_cache(one.name, hits, misses, databases, before, zero_s))
        if lag := read(one.name, "lag"):
            found.append(consumer_lag(one.name, lag, read(one.name, "written"), before, faults[0][0], zero_s))
    return tuple(one for one in found if one is not None)


def not_back(
    plan: Plan, history: Sequence[ev.Event], spans: Sequence[Span], samples: Sequence[Sample]
) -> tuple[str, ...]:
    """What a fault left in its dependencies that is not yet as before, in words. samples may go on beyond the spans."""
    baseline = span_of(spans, "baseline")
    faults = fault_intervals(plan, history, max((span.end_s for span in spans), default=0.0))
    if baseline is None or not faults:
        return ()
    before = (baseline.start_s, baseline.end_s)
    zero_s = max([e.zero_s for e in history if isinstance(e, ev.ZeroFound)] or [max(end for _, end in faults)])
    found = []
    for name in {fault.change.dependency.name for fault in plan.faults}:
        hits, misses, lag = (points(samples, name, counter) for counter in ("hits", "misses", "lag"))
        if hits and (cold := cold_cache(name, hits, misses, {}, before, zero_s)) is not None and cold.seconds is None:
            found.append(f"the cache of {name} is cold ({cold.observed:.0%} hits, {cold.baseline:.0%} before)")
        written = points(samples, name, "written")
        behind = consumer_lag(name, lag, written, before, faults[0][0], zero_s) if lag else None
        if behind is not None and behind.observed > behind.limit and behind.seconds is None:
            found.append(f"the backlog of {name} is not worked off")
    return tuple(found)


def points(samples: Sequence[Sample], name: str, counter: str) -> Points:
    """One counter of one dependency, at the instants when it was read."""
    rows = (sample.counters.get(name, {}) for sample in samples)
    return [(row["at"], row[counter]) for row in rows if "at" in row and counter in row]


def together(first: Points, second: Points) -> Points:
    """Two counters of the same readings, added up."""
    other = dict(second)
    return [(at, value + other[at]) for at, value in first if at in other]


def rises(series: Points) -> list[Rate]:
    """Between neighbouring readings; a drop is a restart and left out."""
    return [Rate(a, b, after - before) for (a, before), (b, after) in pairwise(series) if b > a and after >= before]


def retry_amplification(
    name: str,
    calls: Points,
    requests: Requests,
    baseline: Stretch,
    faults: Sequence[Stretch],
    times: float = AMPLIFIED,
    more: float = MORE_CALLS,
) -> SignatureResult | None:
    """Calls per request while a fault was on, against baseline: found above `times` of it and `more`.

    None with too little to tell.
    """
    risen = rises(calls)
    before = _per_request(risen, requests, [baseline])
    during = _per_request(risen, requests, [(a + EDGE_S, b - EDGE_S) for a, b in faults])
    if before is None or during is None:
        return None
    limit = max(times * before, before + more)
    return SignatureResult(
        kind="retry_amplification",
        dependency=name,
        found=during > limit,
        baseline=round(before, 3),
        observed=round(during, 3),
        limit=round(limit, 3),
        unit="calls per request",
    )


def reconnect_storm(
    name: str, connections: Points, held: Points, baseline: Stretch, zero_s: float
) -> SignatureResult | None:
    """The worst second of new connections after the undo, against baseline. held: connections that are open."""
    risen = rises(connections)
    before = _inside(risen, baseline)
    after = [r for r in risen if r.end_s > zero_s and r.start_s < zero_s + STORM_S]
    usual = [value for at, value in held if baseline[0] <= at < baseline[1]]
    if not before or not after or not usual:
        return None
    rate = sum(r.rise for r in before) / sum(r.end_s - r.start_s for r in before)
    peak = max(r.per_s for r in after)
    opened = sum(r.rise - rate * (r.end_s - r.start_s) for r in after)
    limit = max(STORM_RATIO * rate, STORM_RATE)
    enough = opened > STORM_HELD * sorted(usual)[len(usual) // 2] + OWN_CONNECTIONS
    return SignatureResult(
        kind="reconnect_storm",
        dependency=name,
        found=peak > limit and enough,
        baseline=round(rate, 3),
        observed=round(peak, 3),
        limit=round(limit, 3),
        unit="connections per second",
        extra=round(opened, 1),
    )


def cold_cache(
    name: str, hits: Points, misses: Points, databases: dict[str, Points], baseline: Stretch, zero_s: float
) -> SignatureResult | None:
    """The worst hit rate after the fault, how long it took to come back, and what the databases carried meanwhile.

    extra: their transactions per second until it was back, as a multiple of baseline's; the worst database's.
    """
    # By their time: a server that was started again counts from 0, and where one of the counters does not fall by that
    # (few misses before, all misses since) only the other's rise is left out.
    missed = {miss.start_s: miss for miss in rises(misses)}
    ratios = [
        (hit.start_s, hit.end_s, hit.rise / (hit.rise + miss.rise))
        for hit in rises(hits)
        if (miss := missed.get(hit.start_s)) is not None and hit.rise + miss.rise >= LEAST_LOOKUPS
    ]
    before = [ratio for a, b, ratio in ratios if baseline[0] <= a and b <= baseline[1]]
    after = [row for row in ratios if row[1] > zero_s]
    if not before or not after:
        return None
    usual = sum(before) / len(before)
    limit = HIT_DROP * usual
    back = _steady([(b, ratio) for _, b, ratio in after], lambda ratio: ratio >= limit)
    end_s = back if back is not None else after[-1][1]
    cold = [ratio for a, _, ratio in after if a < end_s and ratio < limit]
    loads = {
        n: load for n, series in databases.items() if (load := _load(series, baseline, (zero_s, end_s))) is not None
    }
    extra = max(loads.values(), default=None)
    lasting = bool(cold) and end_s - zero_s >= COLD_LEAST_S
    return SignatureResult(
        kind="cold_cache",
        dependency=name,
        found=lasting and extra is not None and extra >= LOAD_RATIO,
        baseline=round(usual, 4),
        observed=round(min(ratio for _, _, ratio in after), 4),
        limit=round(limit, 4),
        unit="hit rate",
        seconds=round(end_s - zero_s, 1) if back is not None and cold else (0.0 if not cold else None),
        extra=None if extra is None or not cold else round(extra, 2),
    )


def consumer_lag(
    name: str, lag: Points, written: Points, baseline: Stretch, injected_s: float, zero_s: float
) -> SignatureResult | None:
    """The most that consumers were behind from the injection on, and how long after the undo they had caught up.

    seconds: None when they had not by the end.
    """
    before = [value for at, value in lag if baseline[0] <= at < baseline[1]]
    later = [(at, value) for at, value in lag if at >= injected_s]
    if not before or not any(at > zero_s for at, _ in later):
        return None
    worst = max(before)
    limit = max(LAG_RATIO * worst, LEAST_LAG)
    peak = max(value for _, value in later)
    made = [(at, value) for at, value in written if baseline[0] <= at < baseline[1]]
    per_s = (made[-1][1] - made[0][1]) / (made[-1][0] - made[0][0]) if len(made) > 1 else 0.0
    normal = max(2 * worst, LEAST_LAG / 2, COMMITTED_S * per_s)
    back = _steady([(at, value) for at, value in later if at > zero_s], lambda value: value <= normal)
    seconds = None if back is None else max(0.0, back - zero_s)
    return SignatureResult(
        kind="consumer_lag",
        dependency=name,
        found=peak > limit and (seconds is None or seconds > DRAIN_S),
        baseline=worst,
        observed=peak,
        limit=round(limit, 1),
        unit="messages",
        seconds=None if seconds is None else round(seconds, 1),
    )


def _inside(risen: Sequence[Rate], stretch: Stretch) -> list[Rate]:
    return [r for r in risen if stretch[0] <= r.start_s and r.end_s <= stretch[1]]


def _per_request(risen: Sequence[Rate], requests: Requests, stretches: Sequence[Stretch]) -> float | None:
    calls, made = 0.0, 0
    for stretch in stretches:
        for rate in _inside(risen, stretch):
            calls += rate.rise
            made += requests(rate.start_s, rate.end_s)
    return calls / made if made >= LEAST_REQUESTS else None


def _load(series: Points, baseline: Stretch, stretch: Stretch) -> float | None:
    """A counter's rate in the stretch as a multiple of its rate in baseline."""
    risen = rises(series)
    before, after = _inside(risen, baseline), [r for r in risen if r.end_s > stretch[0] and r.start_s < stretch[1]]
    usual = sum(r.rise for r in before)
    if usual <= 0 or not after:
        return None
    usual /= sum(r.end_s - r.start_s for r in before)
    return sum(r.rise for r in after) / sum(r.end_s - r.start_s for r in after) / usual


def _steady(series: Points, good: Callable[[float], bool]) -> float | None:
    """When it was good first and stayed so for STEADY readings, or for all that are left; None when it never did."""
    for i, (at, value) in enumerate(series):
        if good(value) and all(good(later) for _, later in series[i : i + STEADY]):
            return at
    return None
