"""When did a target hold again? The rules of docs/measurement.md, "Recovery".

    search      the first step from which nothing violates for a whole hold
    recovery    one target's recovery, with the interval that the data support
    combine     the recovery of a run: the latest over its targets

Everything is a pure function of counts per 100 ms step (harness.analysis.statistics.series).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.analysis.statistics import changepoint
from harness.analysis.statistics.binomial import BROKEN_BELOW, exceeds, lower_tail, meets
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.stretches import Stretch, add_lone_windows, merged, runs, violating_steps
from harness.analysis.statistics.violations import (
    WORSE_THAN_BASELINE,
    Baseline,
    Violations,
    sums,
    violating,
)
from harness.model.clock import next_step, step_of, step_start
from harness.model.records.load import STEP_S
from harness.model.records.result import RecoveryOutcome, TargetRecovery
from harness.model.records.targets import Op

CLEARLY_OVER = 0.01
"""The hold's pooled count must not be this unlikely at the limit: windows alone would pass a steady 1.5 %."""

LOOK_BACK_STEPS = 50
"""A window that begins up to 5 s (the longest window) before zero may still tell of the fault."""

EDGE_LEAD_STEPS = 10
"""The fit sees 1 s of the fault before the last violating window: long enough for the rate before the edge, short
enough to keep out what happened before that."""

CLEAR_EDGE_BAD = 10
"""Bad requests in the second before the edge that place it without doubt. With fewer, the last violating window may
have ended well before the edge, and the fit is repeated over everything since zero. (Without this a 5 % outage was
placed 0.9 s early and the interval held the truth in 1 % of runs.) The second fit counts only where it finds an edge
at all, that is gains LIKELY_WITHIN over none: a service well again 2 s before zero has no edge after it, and its
background errors put "recovery" 45 s late."""

CERTAIN_EDGE = 10.0
"""Log-likelihood that an edge must gain over no edge before the hold begins there instead of at the first clean step.
Without it, a service that did recover was "too close to call" in up to 17 % of runs (20 requests/s, 60 % failing, 0.5 %
background) and 43 % (50 requests/s, harmless pauses), because the last bad requests of the outage were counted against
the hold. Noise does not gain 10: services that never recover fare as without it."""

WIDEN_STEPS = 1
"""An edge lies inside a step, not on its border."""


class Zero(msgspec.Struct, frozen=True):
    """Where recovery is counted from, in seconds since t0. The true instant lies in [lower_s, upper_s]."""

    zero_s: float
    lower_s: float
    upper_s: float


class Held(msgspec.Struct, frozen=True):
    """A search's outcome. clean: the first clean step; step: where the hold begins, at the edge or there, None when
    there is none (yet). candidate: every step before it is ruled out, so "not recovered" is certain once it is past the
    limit, whatever is still to come.

    hurt: some window violates before the clean step, within the look-back. fit: the edge between them.
    """

    step: int | None
    candidate: int
    clean: int
    hurt: bool = False
    fit: changepoint.Fit | None = None


def recovered_step(
    series: Series, baseline: Baseline, zero_step: int, hold_steps: int, last_step: int, end_step: int | None = None
) -> int | None:
    """The earliest step in [zero_step, last_step] that begins a clean hold: see `search`."""
    return search(series, baseline, zero_step, hold_steps, last_step, end_step).step


def search(
    series: Series, baseline: Baseline, zero_step: int, hold_steps: int, last_step: int, end_step: int | None = None
) -> Held:
    """The earliest step at or after zero_step from which, for hold_steps, no window violates and the pooled count's
    tail is at least 0.01. Whether the pooled proportion then meets the target is looked at once, by `recovery`:
    searching for a stretch that happens to lie below it finds one in nearly every service that never recovers.

    Such a step often lies a little before the edge, because a few bad requests make no violating window. Where the
    edge is beyond doubt they are the outage's, not the hold's, and the hold begins at the edge.

    Looks at steps before end_step (default: the series' end) only; a few milliseconds a minute of data. The series
    should reach back 6 s before zero_step; without that the edge of an outage that ends at once may be missed.
    """
    last_end = last_step + hold_steps
    end = last_end if end_step is None else min(end_step, last_end)
    found = violating(series, baseline, zero_step - LOOK_BACK_STEPS, end)
    return _search(series, found, zero_step, hold_steps, last_step, baseline.phi)


def recovery(
    series: Series,
    baseline: Baseline,
    zero: Zero,
    hold_s: float,
    limit_s: float,
    load_end_s: float,
    target_text: str,
    op: Op = "<=",
    unseen: Sequence[Stretch] = (),
    asked: Series | None = None,
) -> TargetRecovery:
    """Judge one target's recovery. seconds, lower_s and upper_s count from zero.zero_s.

    series must reach back at least 6 s before zero and hold final counts. load_end_s: arrivals stopped there.
    op: how the pooled proportion is compared with the limit (`<` for error_rate, `<=` for percentiles).
    unseen: stretches that the load generator did not see; a violation in one, after a whole hold, is no relapse.
    asked: what the hold is looked at over, where that is more than `series`: episodes of a kind that baseline never
    showed make no outage, and they are no reason to leave the requests out. (Without it a service that fails 1.5 % for
    ever under 20 requests/s was called recovered in 36 % of runs, for it makes few episodes.)

    recovered      seconds in [lower_s, upper_s]
    no_impact      nothing violated around zero: 0 s
    not_recovered  no step within limit_s, or another outage after it: lower_s = limit_s
    undecided      `why` says so; lower_s where the data at least exclude an earlier recovery
    """
    first_step = max(next_step(zero.zero_s), series.start)
    last_step = step_of(zero.zero_s + limit_s)
    end = min(series.end, step_of(load_end_s))
    hold = max(1, next_step(hold_s))
    found = violating(series, baseline, first_step - LOOK_BACK_STEPS, end)

    def result(
        outcome: RecoveryOutcome,
        why: str = "",
        seconds: float | None = None,
        lower: float | None = None,
        upper: float | None = None,
        *,
        graded: bool = False,
    ) -> TargetRecovery:
        return TargetRecovery(
            target=target_text,
            outcome=outcome,
            seconds=_rounded(seconds),
            lower_s=_rounded(lower),
            upper_s=_rounded(upper),
            why=why,
            graded=graded,
        )

    first = _search(series, found, first_step, hold, last_step, baseline.phi)
    floor, best, relapse = first_step, first, ""
    if first.step is not None:
        again = _last_outage(series, baseline, found, first.step, hold, end, unseen)
        if again is not None:
            # Recovery counts from the last outage, whenever the first one ended.
            floor, best = first.step, _search(series, found, again, hold, last_step, baseline.phi)
            relapse = f"; it had held from {step_start(first.step) - zero.zero_s:.1f} s on, then was broken again"

    earlier, later = zero.zero_s - zero.lower_s, zero.upper_s - zero.zero_s
    if best.step is None:
        if best.candidate > last_step:
            return result("not_recovered", f"not held again within {limit_s:g} s{relapse}", lower=limit_s)
        if best.candidate <= first_step:
            return result("undecided", f"load ended before the hold was complete{relapse}", lower=0.0)
        broken_s = step_start(best.candidate) - zero.zero_s
        relapse = relapse or f"; it was last broken {broken_s:.1f} s after the undo"
        at_least = max(0.0, step_start(best.candidate - 1) - zero.zero_s - later)
        return result("undecided", f"load ended before the hold was complete{relapse}", lower=at_least)

    bad, n = _pooled(asked or series, best.step, best.step + hold)
    if n == 0:
        return result("undecided", "no requests in the hold")
    # An edge lies behind a bad request, so a hold that begins at one was chosen to lack it. (Without this a service
    # that goes from 20 % to 1.5 % for ever was called recovered in 13 % of runs at 20 requests/s, with it in 6.5 %.)
    at_edge = best.step not in (best.clean, first_step)
    if not meets(bad + at_edge, n, series.limit, op):
        why = f"too close to call: {bad} of {n} requests in the hold were bad, the limit is {series.limit:.3g}"
        return result("undecided", why + relapse)
    if best.clean == first_step and not best.hurt:
        return result("no_impact", "", 0.0, 0.0, STEP_S + earlier + later)

    fade = _fade(series, baseline, found, best, floor)
    if fade is not None:
        ends = _faded(series, baseline, fade, min(end, series.end))
        if ends is None:
            return result("undecided", f"it came back by degrees, and too few requests tell when{relapse}", graded=True)
        low, high = ends
        return result(
            "recovered",
            f"it came back by degrees{relapse}",
            max(0.0, min(max(fade.end, low), high) * STEP_S - zero.zero_s),
            max(0.0, low * STEP_S - zero.zero_s - later),
            max(0.0, high * STEP_S - zero.zero_s + earlier),
            graded=True,
        )
    edge, low, high, hint = _edge(series, best, hold, floor)
    return result(
        "recovered",
        (hint + relapse).removeprefix("; "),
        max(0.0, edge * STEP_S - zero.zero_s),
        max(0.0, (low - WIDEN_STEPS) * STEP_S - zero.zero_s - later),
        max(0.0, (high + WIDEN_STEPS) * STEP_S - zero.zero_s + earlier),
    )


def relapses(series: Series, baseline: Baseline, recovered_step: int, end_step: int) -> list[Stretch]:
    """The stretches, in seconds since t0, in which the target was broken again after the first recovered step.

    recovered_step: what the function of that name returns. Empty exactly when no window violates from there to
    end_step, which is when `recovery` sees no relapse.
    """
    found = violating(series, baseline, recovered_step, end_step)
    steps = violating_steps(series, baseline, found.start, found.end)
    add_lone_windows(steps, found)
    return merged(steps, found.start, found.start, found.end)


def combine(targets: Sequence[TargetRecovery]) -> TargetRecovery:
    """The recovery of a run: the latest over its targets. Its `target` names the one that decided.

    not_recovered before undecided before recovered before no_impact; not_judged when there are none.
    The latest of several instants lies between the latest of the lower ends and the latest of the upper ends.
    """
    judged = [t for t in targets if t.outcome != "not_judged"]
    for outcome in ("not_recovered", "undecided"):
        worst = [t for t in judged if t.outcome == outcome]
        if worst:
            lower = max((t.lower_s for t in judged if t.lower_s is not None), default=None)
            return msgspec.structs.replace(worst[0], lower_s=lower)
    if not judged:
        return TargetRecovery(
            target="", outcome="not_judged", seconds=None, lower_s=None, upper_s=None, why="no target to recover"
        )
    latest = max(judged, key=lambda t: (t.outcome == "recovered", t.seconds or 0.0, t.upper_s or 0.0))
    return msgspec.structs.replace(
        latest,
        lower_s=max(t.lower_s or 0.0 for t in judged),
        upper_s=max(t.upper_s or 0.0 for t in judged),
    )


def _search(series: Series, found: Violations, zero_step: int, hold: int, last_step: int, phi: float) -> Held:
    origin = max(zero_step, found.start)
    low = origin - series.start
    n = sums(series.n[low : found.end - series.start])
    bad = sums(series.bad[low : found.end - series.start])
    clean = origin
    while clean <= last_step:
        whole = clean + hold <= found.end
        violation = found.last_inside(clean, clean + hold if whole else found.end)
        if violation is not None:
            # Every hold that begins at or before this window and reaches past it contains it.
            clean = violation + 1
            continue
        if not whole:
            break
        a, b = clean - origin, clean - origin + hold
        if exceeds(bad[b] - bad[a], n[b] - n[a], series.limit, CLEARLY_OVER, phi):
            clean += 1
            continue
        last = found.last_beginning(max(found.start, origin - LOOK_BACK_STEPS), clean)
        if last is None and clean == origin:
            return Held(clean, clean, clean)
        fit = _fit(series, origin if last is None else last - EDGE_LEAD_STEPS, clean + hold)
        step = held_from(clean, fit)
        if step + hold > found.end:
            return Held(None, clean, clean)
        violation = found.last_inside(step, step + hold)
        if violation is not None:
            clean = violation + 1
            continue
        return Held(step if step <= last_step else None, step, clean, last is not None, fit)
    return Held(None, clean, clean)


def _pooled(series: Series, start: int, end: int) -> tuple[int, int]:
    low, high = max(0, start - series.start), max(0, end - series.start)
    return sum(series.bad[low:high]), sum(series.n[low:high])


def held_from(clean: int, fit: changepoint.Fit | None) -> int:
    """Where a hold begins whose first clean step is known: at the edge, where that is beyond doubt and soon after."""
    if fit is not None and fit.gain >= CERTAIN_EDGE and clean < fit.edge <= clean + LOOK_BACK_STEPS:
        return fit.edge
    return clean


def _edge(series: Series, held: Held, hold: int, floor: int) -> tuple[int, int, int, str]:
    """The edge before a hold, its interval, in steps, and a hint. No edge before `floor` is this outage's."""
    clean, fit = held.clean, held.fit
    edge, low, high = (clean, clean, clean) if fit is None else (fit.edge, min(fit.lower, clean), max(fit.upper, clean))
    bad_before, _ = _pooled(series, edge - EDGE_LEAD_STEPS, edge)
    if bad_before >= CLEAR_EDGE_BAD:
        return edge, low, high, ""
    again = _fit(series, floor, clean + hold)
    if again is not None and again.gain >= changepoint.LIKELY_WITHIN:
        edge, low, high = again.edge, min(low, again.lower), max(high, again.upper)
    hint = f"only {bad_before} bad requests in the second before the edge: the load was too low to place the instant"
    return edge, low, high, hint


def _last_outage(
    series: Series,
    baseline: Baseline,
    found: Violations,
    recovered: int,
    hold: int,
    end: int,
    unseen: Sequence[Stretch],
) -> int | None:
    """One past the last step of the last relapse that is an outage by itself: the target is broken over a hold's length
    around it, or over all that remains. (Three blips of 0.1 s without a failure, long after a whole hold, made a
    service that was well after 10.7 s "not recovered".)"""
    steps = violating_steps(series, baseline, found.start, found.end)
    add_lone_windows(steps, found)
    last = None
    for a, b in runs(steps, recovered - found.start, end - found.start):
        low, high = a + found.start, b + found.start
        if any(since < step_start(high) and step_start(low) < until for since, until in unseen):
            continue
        start = max(recovered, min((low + high - hold) // 2, end - hold))
        around = _pooled(series, start, max(high, start + hold))
        rest = _pooled(series, low, end) if end - low >= hold else (0, 0)
        if any(n and exceeds(bad, n, series.limit, BROKEN_BELOW, baseline.phi_broken) for bad, n in (around, rest)):
            last = high
    return last


FADE_BEHIND_STEPS = 80
"""The fit of a fade sees 8 s behind the last violating window."""

LONGEST_FADE_STEPS = 300
"""And 30 s at most: it is quadratic."""

FADE_WINDOWS = (1, 2, 5, 10, 20, 50)
FADE_CLEAN_WINDOWS = (*FADE_WINDOWS, 15, 25, 30, 40, 70, 100, 150, 200)
"""Under a low load it takes longer to see that a rate is below the target."""

CLEARLY_ABOVE = 0.001
CLEARLY_BELOW = 0.01


def _fade(series: Series, baseline: Baseline, found: Violations, held: Held, floor: int) -> changepoint.Fade | None:
    """Whether the outage before a hold ended by degrees."""
    last = found.last_beginning(max(found.start, floor - LOOK_BACK_STEPS), held.clean)
    if last is None:
        return None
    at = last - found.start
    length = max(size for size, flags in found.flags.items() if at < len(flags) and flags[at])
    high = min(last + length + FADE_BEHIND_STEPS, series.end)
    low = max(floor - EDGE_LEAD_STEPS, high - LONGEST_FADE_STEPS, series.start)
    a, b = low - series.start, high - series.start
    floors = {size: _floor(series, baseline, size) for size in baseline.worst}
    return changepoint.fading(series.n[a:b], series.bad[a:b], low, floors, baseline.phi)


def _faded(series: Series, baseline: Baseline, fade: changepoint.Fade, end: int) -> tuple[int, int] | None:
    """Steps between which a fading rate fell below the target: from the start of the last window that is clearly above
    it to the end of the first one, begun no earlier, that is clearly below it."""
    low = max(0, fade.start - EDGE_LEAD_STEPS - series.start)
    total, total_bad = sums(series.n), sums(series.bad)
    stop = end - series.start
    # What comes long after the fade is another matter.
    last = min(stop, fade.end + FADE_BEHIND_STEPS - series.start)
    first = low
    for length in FADE_WINDOWS:
        floor = _floor(series, baseline, length)
        for at in range(last - length, first, -1):
            n, bad = total[at + length] - total[at], total_bad[at + length] - total_bad[at]
            if bad > floor * n and exceeds(bad, n, series.limit, CLEARLY_ABOVE, baseline.phi):
                first = at
                break
    below = None
    for length in FADE_CLEAN_WINDOWS:
        for at in range(first, (stop if below is None else below) - length + 1):
            n, bad = total[at + length] - total[at], total_bad[at + length] - total_bad[at]
            if bad < series.limit * n and lower_tail(bad, n, series.limit) <= CLEARLY_BELOW:
                below = at + length
                break
    return None if below is None else (series.start + first, series.start + below)


def _floor(series: Series, baseline: Baseline, length: int) -> float:
    """What a window of this length must be above to be worse than baseline: the yardstick of the next shorter one."""
    worst = baseline.worst[max(size for size in baseline.worst if size <= length)]
    return max(series.limit, WORSE_THAN_BASELINE * worst)


def _fit(series: Series, start: int, end: int) -> changepoint.Fit | None:
    low, high = max(0, start - series.start), max(0, end - series.start)
    return changepoint.falling(series.n[low:high], series.bad[low:high], series.start + low)


def _rounded(seconds: float | None) -> float | None:
    """Microseconds: float noise of step arithmetic ends here."""
    return None if seconds is None else round(seconds, 6)
