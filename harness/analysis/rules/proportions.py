"""Targets that are proportions: error rates and percentiles, of all requests and of one name, absolute and relative.

p95 < 200ms is "at most 5 % of ok requests take 200 ms or more"; its limit p is 5 %. k bad requests of n are

    broken      more than p, and chance at exactly p would show as many in fewer than 1 of 100 runs
    held        fewer, and chance at exactly p would show as few in at most 1 of 20
    undecided   between the two

with k and n divided by baseline's dispersion. docs/measurement.md tells the whole of it, and what simpler rules did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from harness.analysis.record.spans import Span
from harness.analysis.rules.facts import Facts, sums_in
from harness.analysis.statistics import binomial
from harness.analysis.statistics.binomial import Chances
from harness.analysis.statistics.dispersion import SECOND
from harness.analysis.statistics.series import Series
from harness.model.records.metrics import ALLOWED_OVER
from harness.model.records.result import NameResult, Outcome, TargetResult
from harness.model.records.targets import Limit, Op, Target
from harness.model.units import format_ms, format_percent
from harness.plan.phases import MOST_EXTENDED

SURE = 0.95
"""Of the interval of what baseline showed."""

ONE_SIDED_95 = 1.645
"""The normal distribution's 95th percentile."""

HALF = 0.5
"""A name that was bad in more than this share of the seconds in which it was asked for needs no comparison with its
baseline."""


class Ends(msgspec.Struct, frozen=True):
    """A limit in the target's unit. Of a relative one the ends of what baseline supports; point is for people."""

    low: float
    point: float
    high: float


def is_upper_proportion(target: Target) -> bool:
    """A bound on the share of bad requests: what recovery and impact are judged on."""
    return target.op in ("<", "<=") and target.traits.watched


def proportion_op(target: Target) -> Op:
    """How bad/n is compared: error_rate as written; a percentile target allows *at most* its share."""
    return target.op if target.traits.failures else "<="


def counts_failures(target: Target, facts: Facts) -> bool:
    """Whether failures are slow requests for this latency target: where no primary error_rate target of its phase looks
    at them. (A total outage under a lone p95 target passed in 198 of 200 runs.)"""
    return target.metric in ALLOWED_OVER and not any(
        other.primary
        and other.traits.failures
        and other.op in ("<", "<=")
        and other.phase == target.phase
        and other.name in (None, target.name)
        for other in facts.plan.targets
    )


def ends_of(limit: Limit, target: Target, facts: Facts, without: Sequence[str] = ()) -> Ends | None:
    """One limit of a percentile or error_rate target; None when baseline showed nothing to compare with. without:
    request names that are left out."""
    if limit.relative is None:
        return Ends(limit.value, limit.value, limit.value)
    base = _baseline_interval(target, facts, without)
    if base is None:
        return None
    if limit.plus:
        return Ends(base.low + limit.value, base.point + limit.value, base.high + limit.value)
    return Ends(base.low * limit.value, base.point * limit.value, base.high * limit.value)


def watch_limit(target: Target, facts: Facts) -> float | None:
    """The limit that windows are held against: of a relative one the upper end, for they look for what is clearly bad;
    of two the larger."""
    found = [ends_of(limit, target, facts) for limit in target.limits]
    return max((ends.high for ends in found if ends is not None), default=None)


def counted_limits(target: Target, facts: Facts) -> set[float]:
    """Latency limits, in ms, that the load has to count for this target once baseline is known."""
    if target.metric not in ALLOWED_OVER:
        return set()
    found = [ends_of(limit, target, facts) for limit in target.limits if limit.relative is not None]
    return {value for ends in found if ends is not None for value in (ends.low, ends.high)}


def chances_of(target: Target, span: Span, facts: Facts, latency_ms: float | None) -> Chances:
    chances = facts.dispersion(target.name, latency_ms, counts_failures(target, facts)).chances
    return chances.two_looks() if span.name in facts.plan.phases.extend else chances


def judge(target: Target, span: Span, facts: Facts) -> TargetResult:
    """A percentile or error_rate target in its phase."""
    without = facts.excused(target.name, span)
    limits = [(limit, ends_of(limit, target, facts, without)) for limit in target.limits]
    known = [(limit, ends) for limit, ends in limits if ends is not None]
    observed = observed_in(target, span, facts)
    nothing = _nothing(target, span, facts)
    point = max((ends.point for _, ends in known), default=None)
    if nothing is not None:
        return _with_names(msgspec.structs.replace(nothing, limit=point), target, span, facts)
    if not known or point is None:
        return result_of(target, observed, None, "undecided", "the baseline showed nothing to compare with")
    # max(A, B): the larger limit is the easier one, so either side is enough.
    judged = [_one(target, span, facts, limit, ends) for limit, ends in known]
    best = min(judged, key=lambda one: ("held", "undecided", "broken", "not_judged").index(one.outcome))
    if len(known) < len(limits) and best.outcome == "broken":
        best = msgspec.structs.replace(best, outcome="undecided", why="the baseline showed nothing to compare with")
    # The exact count decides; the sketch's value, good to 1 %, is kept on the side of the limit it decided for.
    if target.metric in ALLOWED_OVER and observed is not None and not target.of_baseline:
        met = binomial.meets(best.bad, best.n, ALLOWED_OVER[target.metric], "<=")
        observed = min(observed, point * 0.999) if met else max(observed, point)
    phi = best.phi if best.phi > 1.005 else None
    why = f"{best.why}, without {', '.join(without)}" if without else best.why
    result = result_of(target, observed, point, best.outcome, why, None if phi is None else round(phi, 3))
    return _with_names(result, target, span, facts)


def observed_in(target: Target, span: Span, facts: Facts) -> float | None:
    """The percentile in ms or the share of failures of a phase; None when nothing was seen."""
    without = facts.excused(target.name, span)
    if target.traits.failures:
        bad, n = facts.sums(target.name, None, True, span, without)
        return bad / n if n else None
    names = facts.totals(span).of(target.name, without)
    q = 1 - ALLOWED_OVER[target.metric]
    if counts_failures(target, facts) and names.ok:
        # Of all requests, with the failed ones as the slowest; where it falls on one of those there is no such time.
        _, n = facts.sums(target.name, None, True, span, without)
        q = q * n / names.ok
        return names.quantile_ms(q) if q <= 1 else None
    return names.quantile_ms(q)


class _Judged(msgspec.Struct, frozen=True):
    outcome: Outcome
    why: str
    bad: int
    n: int
    phi: float = 1.0


def _one(target: Target, span: Span, facts: Facts, limit: Limit, ends: Ends) -> _Judged:
    if target.traits.failures:
        return _errors(target, span, facts, limit, ends)
    p = ALLOWED_OVER[target.metric]
    # A percentile above the limit is the same claim with the roles exchanged.
    op: Op = "<=" if target.op in ("<", "<=") else ">"
    chances = chances_of(target, span, facts, ends.point)
    found = {end: _over(target, span, facts, end) for end in (ends.low, ends.high)}
    outcomes = {end: _agreed(counts, p, op, chances) for end, counts in found.items()}
    outcome: Outcome = "undecided"
    # A phase that is worse than all that baseline can have been, or better.
    if outcomes[ends.high if op == "<=" else ends.low] == "broken":
        outcome = "broken"
    elif outcomes[ends.low if op == "<=" else ends.high] == "held":
        outcome = "held"
    low, high, n = found[ends.high]
    why = _share(low, n, ends.high, counts_failures(target, facts))
    if limit.relative is not None and ends.low < ends.high:
        why += f"; baseline supports limits from {format_ms(ends.low)} to {format_ms(ends.high)}"
    if outcome == "undecided" and low != high and _agreed((low, low, n), p, op, chances) != "undecided":
        why = f"within 1 % of {format_ms(ends.high)}, and this limit was not counted exactly during the run"
    elif outcome == "undecided":
        why += f"; {_too_close(low, n, p, op, chances)}"
    return _Judged(outcome, why, low, n, chances.phi)


def _errors(target: Target, span: Span, facts: Facts, limit: Limit, ends: Ends) -> _Judged:
    without = facts.excused(target.name, span)
    bad, n = facts.sums(target.name, None, True, span, without)
    chances = chances_of(target, span, facts, None)
    outcome: Outcome
    if limit.relative is None:
        outcome = binomial.judge_proportion(bad, n, limit.value, target.op, chances)
    elif target.op in (">", ">=") or limit.plus:
        # Nobody asks for more failures than in baseline; the ends of the interval answer it all the same.
        upwards = target.op in (">", ">=")
        hard, easy = (ends.high, ends.low) if upwards else (ends.low, ends.high)
        none = bad == 0 and not upwards
        held = none or binomial.judge_proportion(bad, n, inside(hard), target.op, chances) == "held"
        broken = binomial.judge_proportion(bad, n, inside(easy), target.op, chances) == "broken"
        outcome = "held" if held else "broken" if broken else "undecided"
    else:
        assert facts.baseline is not None
        bad0, n0 = facts.sums(target.name, None, True, facts.baseline, without)
        outcome = binomial.judge_ratio(bad, n, bad0, n0, limit.value, chances)
    why = f"{bad:,} of {n:,}"
    if limit.relative is not None and facts.baseline is not None:
        bad0, n0 = facts.sums(target.name, None, True, facts.baseline, without)
        why += f", in baseline {bad0:,} of {n0:,}"
    own = facts.totals(span).arrivals.unsent_task
    if target.name is None and own:
        why += f", {own:,} of them never sent because of the locustfile: users in a task's own time, or unable to start"
    if outcome == "undecided":
        why += f"; {_too_close(bad, n, inside(ends.point), target.op, chances)}"
    return _Judged(outcome, why, bad, n, chances.phi)


def _baseline_interval(target: Target, facts: Facts, without: Sequence[str]) -> Ends | None:
    """What baseline showed, with the ends of its 95 % interval: of a percentile by its binomial ranks (David and
    Nagaraja, "Order Statistics", 2003, 7.1), of a share Clopper and Pearson's."""
    baseline = facts.baseline
    if baseline is None:
        return None
    beyond = (1 - SURE) / 2
    if target.traits.failures:
        bad, n = facts.sums(target.name, None, True, baseline, without)
        if n == 0:
            return None
        phi = facts.dispersion(target.name, None, True).phi
        return Ends(
            binomial.lower_bound(bad / phi, n / phi, beyond), bad / n, binomial.upper_bound(bad / phi, n / phi, beyond)
        )
    names = facts.totals(baseline).of(target.name, without)
    q = 1 - ALLOWED_OVER[target.metric]
    point = names.quantile_ms(q)
    if point is None or names.ok == 0:
        return None
    phi = facts.dispersion(target.name, point, counts_failures(target, facts)).phi
    size = names.ok / phi
    low = binomial.lower_bound(q * size, size, beyond)
    high = binomial.upper_bound(q * size, size, beyond)
    return Ends(names.quantile_ms(low) or point, point, names.quantile_ms(min(high, 1.0)) or point)


def _over(target: Target, span: Span, facts: Facts, limit_ms: float) -> tuple[int, int, int]:
    """(certainly, possibly, n): requests of a phase over a latency limit, failures with them where they count."""
    failures = counts_failures(target, facts)
    since = facts.store.exact_from(limit_ms)
    without = facts.excused(target.name, span)
    bad, n = facts.sums(target.name, limit_ms, failures, span, without)
    if since is not None and since <= span.start:
        return bad, bad, n
    names = facts.totals(span).of(target.name, without)
    low, high = names.over(limit_ms)
    failed = n - names.ok
    return low + failed, high + failed, n


def _agreed(counts: tuple[int, int, int], p: float, op: Op, chances: Chances) -> Outcome:
    low, high, n = counts
    outcome = binomial.judge_proportion(low, n, p, op, chances)
    same = low == high or outcome == binomial.judge_proportion(high, n, p, op, chances)
    return outcome if same else "undecided"


def _nothing(target: Target, span: Span, facts: Facts) -> TargetResult | None:
    """The result where there is no proportion to judge: nothing was asked, or not one request succeeded."""
    without = facts.excused(target.name, span)
    totals = facts.totals(span)
    names = totals.of(target.name, without)
    _, asked = facts.sums(target.name, None, True, span, without)
    if without and not asked:
        why = f"all that was asked may fail with {', '.join(sorted(facts.hit))}"
        return result_of(target, None, None, "held", why)
    attempts = asked if without else totals.attempts if target.name is None else names.requests
    if target.traits.failures:
        if asked:
            return None
        attempts = 0
    elif names.ok:
        return None
    return without_success(target, None, attempts)


def without_success(target: Target, limit: float | None, attempts: int) -> TargetResult:
    if attempts == 0:
        seen = f"no request named {target.name!r} was seen" if target.name else "no request was seen"
        return result_of(target, None, limit, "undecided", seen)
    return result_of(target, None, limit, "broken", f"not one of {attempts:,} requests succeeded")


def more_needed(target: Target, span: Span, facts: Facts) -> float | None:
    """How many times as long a phase must be before a target that is met in it can be held, going by what it showed:
    over 1, and at most MOST_EXTENDED; None where it is held, not met, or no proportion. Of max(A, B) the side that
    takes less."""
    if not target.primary or not is_upper_proportion(target) or judge(target, span, facts).outcome != "undecided":
        return None
    without = facts.excused(target.name, span)
    limits = [(limit, ends_of(limit, target, facts, without)) for limit in target.limits]
    needed = [_more(target, span, facts, limit, ends) for limit, ends in limits if ends is not None]
    return min((times for times in needed if times is not None), default=None)


def _more(target: Target, span: Span, facts: Facts, limit: Limit, ends: Ends) -> float | None:
    """more_needed of one limit: what holds it is what _one asks for, of a relative one its lower end."""
    without = facts.excused(target.name, span)
    if target.traits.failures:
        bad, n = facts.sums(target.name, None, True, span, without)
        chances = chances_of(target, span, facts, None)
    else:
        _, bad, n = _over(target, span, facts, ends.low)
        chances = chances_of(target, span, facts, ends.point)
    p = ALLOWED_OVER.get(target.metric, inside(ends.low))

    def judged(k: float, asked: float) -> Outcome:
        if not target.traits.failures or limit.relative is None or limit.plus or facts.baseline is None:
            return binomial.judge_proportion(k, asked, p, "<=", chances)
        before = facts.sums(target.name, None, True, facts.baseline, without)
        return binomial.judge_ratio(k, asked, *before, limit.value, chances)

    if not n or not binomial.meets(bad, n, inside(ends.point) if target.traits.failures else p, "<="):
        return None
    for tenths in range(12, round(MOST_EXTENDED * 10) + 1, 2):
        times = tenths / 10
        # As bad as so much more of the same is in 19 of 20 cases: a phase goes on only once.
        more = bad * (times - 1)
        most = bad + more + ONE_SIDED_95 * math.sqrt(more * chances.phi_held)
        if judged(most, n * times) == "held":
            return times
    return MOST_EXTENDED


# -- by request name ---------------------------------------------------------------------------------------------


def _with_names(result: TargetResult, target: Target, span: Span, facts: Facts) -> TargetResult:
    """Every request name counts: one that is broken by itself breaks the target of all."""
    if target.name is not None or not target.primary or not is_upper_proportion(target):
        return result
    names = by_name(target, span, facts)
    if not names:
        return result
    result = msgspec.structs.replace(result, names=tuple(names))
    broken = [found for found in names if found.outcome == "broken"]
    if not broken or result.outcome == "broken":
        return result
    worst = broken[0]
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    return msgspec.structs.replace(
        result, outcome="broken", why=f"{worst.bad:,} of {worst.n:,} requests of {worst.name!r}{more}; {result.why}"
    )


def by_name(target: Target, span: Span, facts: Facts) -> list[NameResult]:
    """The request names that are over this target in a phase, the worst first.

    A name may have what the target allows, or what it had in baseline where that is more. It is broken where chance
    explains its bad requests in fewer than 1 of 100 runs over all names (Holm, "A simple sequentially rejective
    multiple test procedure", 1979), and where it has bad seconds that its baseline does not explain, or in over half of
    those in which it was asked for.
    """
    limit = watch_limit(target, facts)
    baseline = facts.baseline
    if limit is None or baseline is None:
        return []
    latency_ms = limit if target.metric in ALLOWED_OVER else None
    p = ALLOWED_OVER.get(target.metric, inside(limit))
    failures = counts_failures(target, facts)
    seen: list[tuple[float, NameResult]] = []
    asked = 0
    chance = chances_of(target, span, facts, latency_ms).broken
    for name, series in facts.counts(latency_ms, failures).items():
        if name is None:
            continue
        bad, n = sums_in(series, span)
        if n == 0:
            continue
        asked += 1
        if bad <= p * n:
            continue
        phi = facts.dispersion(name, latency_ms, failures).phi
        bad0, n0 = sums_in(series, baseline)
        own = binomial.upper_bound(bad0 / phi, n0 / phi, 1 - SURE) if bad0 and span.name != "baseline" else 0.0
        allowed = max(p, own)
        seconds = _seconds(series, span.start, span.end)
        before = _seconds(series, baseline.start, baseline.end)
        found = NameResult(
            name=name,
            bad=bad,
            n=n,
            limit=round(allowed, 6),
            bad_s=sum(1 for _, k in seconds if k),
            asked_s=len(seconds),
            outcome="broken",
        )
        if span.name == "baseline":
            why = "over the target before any fault"
            seen.append((binomial.tail(bad / phi, n / phi, p), _allowed(found, why)))
            continue
        often = binomial.more_often(found.bad_s, len(seconds), sum(1 for _, k in before if k), len(before))
        if not often and found.bad_s <= HALF * len(seconds):
            continue
        # Once the dependency is back, nothing excuses it any more.
        may = sorted(facts.may_fail(name)) if span.name == "fault" else []
        if may:
            found = _allowed(found, f"it is declared that it may fail with {', '.join(may)}")
        seen.append((binomial.tail(bad / phi, n / phi, allowed), found))
    seen.sort(key=lambda pair: pair[0])
    over: list[NameResult] = []
    for rank, (value, found) in enumerate(seen):
        if value >= chance / (asked - rank):
            break
        over.append(found)
    return sorted(over, key=lambda found: (found.outcome == "allowed", -found.bad / found.n, -found.bad))


def _allowed(found: NameResult, why: str) -> NameResult:
    return msgspec.structs.replace(found, outcome="allowed", why=why)


def _seconds(series: Series, start: int, end: int) -> list[tuple[int, int]]:
    """(requests, bad) of the seconds of a phase in which something was asked."""
    low, high = max(0, start - series.start), max(0, end - series.start)
    parts = [(sum(series.n[at : at + SECOND]), sum(series.bad[at : at + SECOND])) for at in range(low, high, SECOND)]
    return [(n, bad) for n, bad in parts if n]


# -- words -------------------------------------------------------------------------------------------------------


def _share(over: int, n: int, limit_ms: float, failures: bool) -> str:
    if failures:
        return f"{over:,} of {n:,} requests failed or took {format_ms(limit_ms)} or longer"
    return f"{over:,} of {n:,} ok requests took {format_ms(limit_ms)} or longer"


def _too_close(bad: int, n: int, p: float, op: Op, chances: Chances) -> str:
    worth = ""
    if chances.phi > 1.5:
        worth = (
            f"; they come in bursts of about {chances.phi:.0f}, so these {n:,} requests tell as much as "
            f"{n / chances.phi:,.0f}"
        )
    if binomial.meets(bad, n, p, op):
        lower = 1 - p if op in (">", ">=") else p
        least = binomial.needed(lower, chances.held) if 0 < lower < 1 else 0
        few = f"too few to be sure, {least:,} are needed" if n < least else "too close to the limit to be sure"
        return few + worth
    return f"too close to call, {format_percent(bad / n)} against {format_percent(p)} can be chance{worth}"


def inside(p: float) -> float:
    """A limit of a proportion that a binomial can be asked about."""
    return min(max(p, 1e-9), 1 - 1e-9)


def result_of(
    target: Target,
    observed: float | None,
    limit: float | None,
    outcome: Outcome,
    why: str = "",
    dispersion: float | None = None,
) -> TargetResult:
    return TargetResult(
        target=target.text,
        phase=target.phase,
        metric=target.metric,
        observed=None if observed is None else round(observed, 6),
        limit=None if limit is None else round(limit, 6),
        outcome=outcome,
        primary=target.primary,
        why=why,
        dispersion=dispersion,
    )
