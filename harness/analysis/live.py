"""The same rules while the run goes on, on provisional counts.

Live rule: an arrival open longer than the latency target counts as slow, and longer than 1 s as failing, until it
ends. What lies less than 1 s back is therefore not decided yet, and no rule looks at it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from harness.analysis.record.spans import Span, span_of, spans
from harness.analysis.record.windows import FAILING_AFTER_S, WindowStore
from harness.analysis.rules.facts import Facts
from harness.analysis.rules.generator import WINDOW_S, cut_from_baseline, saturated
from harness.analysis.rules.proportions import (
    by_name,
    counted_limits,
    is_upper_proportion,
    more_needed,
    watch_limit,
)
from harness.analysis.rules.recovery import recovered_step
from harness.analysis.rules.targets import COMPARE, FIGURES, figure, judge_target, recovery_targets
from harness.analysis.statistics.binomial import BROKEN_BELOW, exceeds
from harness.analysis.statistics.dispersion import Dispersion, dispersion, excused, without
from harness.analysis.statistics.violations import Baseline, violating, worst_baseline
from harness.analysis.verdict import sentences
from harness.model.clock import next_step, step_of, step_start
from harness.model.errors import UsageError
from harness.model.records import events as ev
from harness.model.records.live import LiveNumbers
from harness.model.records.metrics import ALLOWED_OVER, NAMED, Origin
from harness.model.records.plan import Plan
from harness.model.records.targets import PhaseName, Target
from harness.model.target_grammar import format_limit, parse_expression
from harness.model.units import parse_duration

LATE_S = 3.0
"""Final numbers older than this are no longer shown as those of now."""

PROVISIONAL_S = 1.0
"""Provisional numbers end so long ago: what is quick has ended by then."""

LAST_STEPS = 50
"""Of a hold: what went wrong at its end must not hide in it."""
BEFORE_ZERO_STEPS = 60
NAMES_EVERY_STEPS = 10
"""How often the request names are looked at while one of them holds up the recovery."""
STALE_STEPS = 30
"""Windows more than 3 s behind now say nothing about now."""

KEPT_S = 300.0
"""Beyond what the rules ask for: an undo may be found to have worked this long ago."""

WORKS_MIN = 20
"""Fewest failures, and the shortest time, before anybody says that nothing works."""
WORKS_S = 2.0
REFUSED_S = 5.0
WORKS_LEAD_S = 0.5
_STATUS = re.compile(r"\b[45]\d\d\b")

MAX_ABORT_S = 3600.0


class AbortRule(msgspec.Struct, frozen=True):
    """`error_rate > 50% for 10s`: the condition in every second of the last for_s."""

    target: Target
    for_s: float
    text: str


def live_numbers(store: WindowStore, at_s: float, span_s: float = 2.0) -> LiveNumbers:
    """What the last span_s seconds of intended starts look like whose requests have all ended: the numbers that the
    result will have. Where those lie more than LATE_S back, as in a hang, the seconds up to PROVISIONAL_S ago with
    what is still open; None where nothing is known.
    """
    users = sum(worker.marks[-1].users for worker in store.workers.values() if worker.marks)
    waiting = store.waiting()
    oldest = min(waiting, default=None)
    shown = LiveNumbers(
        span_s=span_s,
        in_flight=store.in_flight,
        oldest_s=None if oldest is None else max(0.0, round(at_s - step_start(oldest), 1)),
        users=users,
    )
    now, drawn, final = step_of(at_s), store.drawn_before(), store.final_before()
    late = step_of(at_s - LATE_S)
    end = min(final, now) if final > late else min(drawn, step_of(at_s - PROVISIONAL_S))
    start = max(0, end - next_step(span_s))
    if end <= start or drawn <= late:
        return shown
    totals = store.totals(start, end)
    names, arrivals = totals.all_names(), totals.arrivals
    # An arrival whose task is between two requests is not over either, but its later requests count in later steps.
    open_ = sum(count for step, count in waiting.items() if start <= step < end)
    expected = totals.expected + open_
    # What is open succeeds no sooner than after the age it has: no percentile above that is sure.
    least_ms = 1000 * (at_s - step_start(end)) if open_ else None

    def percentile(q: float) -> float | None:
        found = names.quantile_ms(q)
        return found if found is None or least_ms is None else min(found, least_ms)

    return msgspec.structs.replace(
        shown,
        end_s=step_start(end),
        provisional=open_ > 0,
        planned_rps=arrivals.planned / totals.seconds if store.plan.load.rate is not None else None,
        rps=names.replies / totals.seconds,
        error_rate=totals.expected_bad / expected if expected else None,
        open_rate=open_ / expected if expected else 0.0,
        p50_ms=percentile(0.5),
        p95_ms=percentile(0.95),
        p99_ms=percentile(0.99),
        unsent=arrivals.unsent,
    )


def limits_shown(plan: Plan, phase: str) -> dict[str, str]:
    """metric -> `<200ms`: what the primary targets of all requests ask for in a phase; in recovery what they will ask
    for after it. The tightest of several."""
    judged = {"recovery": "after", "tail": "after"}.get(phase, phase)
    found: dict[str, Target] = {}
    for target in plan.targets:
        if target.primary and target.phase == judged and target.name is None and target.op in ("<", "<="):
            known = found.get(target.metric)
            if known is None or target.value < known.value:
                found[target.metric] = target
    return {metric: f"{target.op}{format_limit(target)}" for metric, target in found.items()}


def recovered_live(store: WindowStore, plan: Plan, zero_s: float, now_s: float) -> int | None:
    """The step from which every target of recovery has held for a whole hold, on provisional counts; else None.

    The latest over the targets, and counted again from the last violation and from when no request name is broken any
    more. Without such targets: a hold after zero.
    """
    end = _decided(store, now_s)
    zero = next_step(zero_s)
    hold = next_step(plan.phases.hold_s)
    last = step_of(zero_s + plan.phases.recovery_limit_s)
    if end < zero + hold:
        return None
    latest = zero
    for target in recovery_targets(plan):
        limit, baseline, seen = _baseline_of(store, plan, target)
        if limit is None:
            return None
        # The rules also look at windows that begin before zero.
        series = store.series(target, max(0, zero - BEFORE_ZERO_STEPS), end, now_s, limit=limit)
        series = without(series, excused(series, seen, zero, end, hold))
        step = recovered_step(series, baseline, zero, hold, last)
        if step is None:
            return None
        again = violating(series, baseline, step, end).last_inside(step, end)
        if again is not None:
            step = recovered_step(series, baseline, again + 1, hold, last)
        if step is None:
            return None
        latest = max(latest, step)
    return _held_by_name(store, plan, latest, end, hold) if end >= latest + hold else None


def _held_by_name(store: WindowStore, plan: Plan, step: int, end: int, hold: int) -> int | None:
    """The step itself where no request name is broken in the hold that begins there; else, once none is in the last
    hold, the beginning of that. A name can be dead without moving any share of all requests."""
    if end < store.names_looked + NAMES_EVERY_STEPS:
        return None
    baseline = _baseline_span(store, plan)
    for start in sorted({step, end - hold}):
        span = Span("after", start, start + hold, False)
        facts = Facts(plan=plan, store=store, spans=(baseline, span), cut=_cut(store, baseline))
        targets = (target for target in recovery_targets(plan) if target.name is None)
        if not any(name.outcome == "broken" for target in targets for name in by_name(target, span, facts)):
            return start
    store.names_looked = end
    return None


def baseline_broken(store: WindowStore, plan: Plan, history: Sequence[ev.Event]) -> list[str]:
    """Why nothing may be injected: a sentence for every primary target that is broken in baseline."""
    facts = _until_baseline(store, plan, history)
    baseline = facts.baseline
    if baseline is None or facts.totals(baseline).attempts == 0:
        return ["no request was recorded in baseline"]
    found = []
    for target in plan.targets:
        if target.primary and target.phase == "baseline" and target.traits.origin is not Origin.CPU:
            result = judge_target(target, facts)
            if result.outcome == "broken":
                found.append(sentences.broken(result, control=plan.control_run).rstrip("."))
    if found and not facts.cut and saturated(store, baseline.start_s, baseline.end_s):
        # The party at fault first: it may have made up the rest.
        found.insert(0, f"{sentences.GENERATOR} in baseline")
    return found


def length_wanted(
    store: WindowStore, plan: Plan, history: Sequence[ev.Event], phase: PhaseName, start_s: float, planned_s: float
) -> tuple[float, str]:
    """(seconds, why) that a phase should last whose planned end is near: longer than planned_s where a primary
    proportion target is met in it but not yet held."""
    found = spans(history, store.end)
    span = span_of(found, phase)
    if span is None:
        return planned_s, ""
    span = Span(span.name, span.start, max(span.start + 1, store.final_before()), False)
    if phase == "baseline":
        found = (*(s for s in found if s.name != "baseline"), span)
    facts = Facts(plan=plan, store=store, spans=found, cut=_cut(store, span_of(found, "baseline")))
    wanted = {target.text: more_needed(target, span, facts) for target in plan.targets if target.phase == phase}
    times, text = max(((times, text) for text, times in wanted.items() if times is not None), default=(1.0, ""))
    return round(planned_s * times, 1), text


def restless(store: WindowStore, plan: Plan, now_s: float, held_s: float) -> str:
    """What keeps a shared target from being at rest, so that a baseline may begin; "" for nothing. held_s: for how long
    its targets had held already when this experiment's record began.

    Over a whole hold, and over the last seconds of it, no absolute target of baseline is broken; and the users that an
    outage had called in are gone.
    """
    end, hold = _decided(store, now_s), next_step(plan.phases.hold_s)
    start = max(0, end - hold)
    for target in plan.targets:
        absolute = all(limit.relative is None for limit in target.limits)
        if target.phase != "baseline" or not target.primary or not absolute or not is_upper_proportion(target):
            continue
        series = store.series(target, start, end, now_s, limit=max(limit.value for limit in target.limits))
        for length in (end - start, min(end - start, LAST_STEPS)):
            n, bad = sum(series.n[-length:]), sum(series.bad[-length:])
            if length and n and exceeds(bad, n, series.limit, BROKEN_BELOW):
                return f"{target.text.partition(': ')[2] or target.text} is not met yet"
    if (left_s := (hold - end) / 10 - held_s) > 0:
        return f"targets have to hold for {left_s:.0f} s more"
    if not store.totals(start, end).attempts and end > start:
        return "no request was recorded"
    users = sum(worker.marks[-1].users for worker in store.workers.values() if worker.marks)
    if users > plan.load.users:
        return f"{users - plan.load.users:,} users more than planned have still to leave"
    return ""


def nothing_works(store: WindowStore, plan: Plan, now_s: float) -> str | None:
    """Why a run need not go on to its fault: not one request has succeeded since the load began, and these are enough.

    Refusals that no warming up ends (a 401, a 404) are believed early; anything else when warm-up is about to end.
    """
    if store.total_attempts < WORKS_MIN or store.total_failures < store.total_attempts:
        return None
    decided_s = _decided(store, now_s) / 10
    errors = {key: seen for key, seen in store.errors.items() if seen.count}
    if decided_s < WORKS_S or not errors:
        return None
    refused = all(_is_refusal(kind, seen.example) for (kind, _), seen in errors.items())
    if not (refused and decided_s >= REFUSED_S) and now_s < plan.phases.warmup_s - WORKS_LEAD_S:
        return None
    (kind, name), most = max(errors.items(), key=lambda item: item[1].count)
    status = _STATUS.search(most.example) if kind == "status" else None
    said = f"status {status[0]}" if status is not None else kind
    where = f"{name} ({said})" if name is not None else said
    example = f": {most.example}" if most.example else ""
    return f"all {store.total_attempts:,} requests failed, {most.count:,} of them {where}{example}"


def _is_refusal(kind: str, example: str) -> bool:
    found = _STATUS.search(example) if kind == "status" else None
    return found is not None and found[0].startswith("4") and found[0] not in ("408", "425", "429")


def relative_limits(store: WindowStore, plan: Plan, history: Sequence[ev.Event]) -> list[float]:
    """Latency limits in ms of the targets relative to baseline, sorted: the load counts them exactly from now on."""
    facts = _until_baseline(store, plan, history)
    return sorted(set().union(*(counted_limits(target, facts) for target in plan.targets)))


def parse_abort(text: str) -> AbortRule:
    """`METRIC[{NAME}] OP VALUE for DURATION`. Raises UsageError with one line."""
    match = re.fullmatch(r"(.*\S)\s+for\s+(\S.*?)\s*", text, re.DOTALL)
    if match is None:
        raise UsageError(f"abort condition {text!r} says no time; write for example `error_rate > 50% for 10s`")
    target = parse_expression(match[1])
    if target.phase is not None or not target.primary or target.relative is not None or target.other is not None:
        raise UsageError(f"abort condition {text!r}: only METRIC OP VALUE for DURATION, without phase, `~` or `of`")
    if not target.traits.by_name:
        known = ", ".join(NAMED)
        raise UsageError(f"abort condition {text!r}: {target.metric} is not known second by second; use {known}")
    for_s = parse_duration(match[2], f"abort condition {text!r}: time")
    if not 1.0 <= for_s <= MAX_ABORT_S:
        raise UsageError(f"abort condition {text!r}: the time must lie between 1s and 1h")
    return AbortRule(target, for_s, text)


def abort_fires(abort: AbortRule, store: WindowStore, now_s: float, since_s: float = 0.0) -> bool:
    """Whether the condition held in every second of the last for_s. A second without requests holds nothing.

    since_s: nothing before it counts (the fault phase's start: what was bad before is not the fault's doing).
    """
    end = _decided(store, now_s)
    start = end - next_step(abort.for_s)
    if start < next_step(since_s) or end < step_of(now_s) - STALE_STEPS:
        return False
    return all(_met(abort.target, store, max(start, high - 10), high, now_s) for high in range(end, start, -10))


def forget(store: WindowStore, plan: Plan, aborts: Sequence[AbortRule], since_s: float | None, now_s: float) -> None:
    """Drop from the store, once baseline has been judged, the steps that no live rule can ask for any more.

    since_s: recovery's zero while a hold is looked for, the start of a phase that may go on until that is decided; else
    None. The rules go on with what is left as they would with everything.
    """
    _cut(store, _baseline_span(store, plan))
    if store.cut is None:
        return
    for target in recovery_targets(plan):
        _baseline_of(store, plan, target)
    back_s = max([step_start(BEFORE_ZERO_STEPS), *(abort.for_s for abort in aborts)]) + KEPT_S
    store.forget(step_of(min(now_s - back_s, now_s if since_s is None else since_s - step_start(BEFORE_ZERO_STEPS))))


def forget_settled(store: WindowStore, plan: Plan, now_s: float) -> None:
    """Drop from the store, while a target is waited for, what `restless` cannot ask for any more."""
    store.forget(max(0, _decided(store, now_s) - next_step(plan.phases.hold_s + KEPT_S)))


def _met(target: Target, store: WindowStore, start: int, end: int, now_s: float) -> bool:
    compare = COMPARE[target.op]
    if target.metric in FIGURES:
        seen = figure(target, store.totals(start, end))
        return seen is not None and compare(seen, target.value)
    series = store.series(target, start, end, now_s)
    n, bad = sum(series.n), sum(series.bad)
    if n == 0:
        return False
    if target.traits.failures:
        return compare(bad / n, target.value)
    # The percentile lies above the limit when more than its share is over it; failed requests are.
    above = bad / n > ALLOWED_OVER[target.metric]
    return above if target.op in (">", ">=") else not above


def _decided(store: WindowStore, now_s: float) -> int:
    """Steps below it are drawn, and every arrival in them has ended or counts as failing."""
    return min(store.drawn_before(), step_of(now_s - FAILING_AFTER_S))


def _until_baseline(store: WindowStore, plan: Plan, history: Sequence[ev.Event]) -> Facts:
    """What baseline is judged on: nothing behind it, which the main loop is still adding to."""
    found = [span for span in spans(history, store.end) if span.name in ("warmup", "settle", "baseline")]
    return Facts(plan=plan, store=store, spans=found, cut=_cut(store, span_of(found, "baseline")))


def _cut(store: WindowStore, baseline: Span | None) -> Sequence[tuple[int, int]]:
    """The steps of baseline that do not count, as in the result; kept once nothing can be added, for marks are
    forgotten."""
    if baseline is None:
        return ()
    if store.cut is not None:
        return store.cut
    found = cut_from_baseline(baseline, saturated(store, baseline.start_s, baseline.end_s))
    if baseline.complete and _marks_are_in(store, baseline):
        store.cut = found
    return found


def _marks_are_in(store: WindowStore, baseline: Span) -> bool:
    """A mark speaks of the seconds before it: the first of the gap and of the fault phase of the end of baseline, too.
    For a worker that is lost nobody waits."""
    last = [worker.marks[-1].at for worker in store.workers.values() if worker.marks]
    return bool(last) and (min(last) >= baseline.end_s + WINDOW_S or max(last) >= baseline.end_s + 2 * WINDOW_S)


def _baseline_span(store: WindowStore, plan: Plan) -> Span:
    start, end = store.baseline or (step_of(plan.phases.warmup_s), 0)
    return Span("baseline", start, end or start + step_of(plan.phases.baseline_s), True)


def _baseline_of(store: WindowStore, plan: Plan, target: Target) -> tuple[float | None, Baseline, Dispersion]:
    """(limit, yardstick, dispersion) of a target; the phases are those that the store was told of."""
    found = store.worst_baseline.get(target.text)
    if found is None:
        span = _baseline_span(store, plan)
        facts = Facts(plan=plan, store=store, spans=(span,), cut=_cut(store, span))
        limit = watch_limit(target, facts)
        series = facts.cut_out(store.series(target, span.start, span.end, limit=limit))
        earlier = store.earlier_series(target, limit)
        seen = dispersion(series, span.start, span.end, earlier)
        yardstick = worst_baseline(series, span.start, span.end, seen.phi_held, seen.phi, earlier)
        found = limit, yardstick, seen
        if store.cut is not None:
            store.worst_baseline[target.text] = found
    return found
