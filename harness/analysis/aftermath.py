"""Recovery and impact of a run: the rules of one target (recovery.py, impact.py) over all its targets."""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from harness.analysis import impact as impact_rules
from harness.analysis import recovery as recovery_rules
from harness.analysis.generator import merge_stretches
from harness.analysis.recovery import Baseline, Zero
from harness.analysis.series import Series
from harness.analysis.spans import Span, fault_intervals, one_shots, span_of
from harness.analysis.targets import Facts, proportion_op, recovery_targets, resolve
from harness.model import events as ev
from harness.model.clock import next_step, step_of
from harness.model.plan import Plan
from harness.model.result import ImpactResult, RecoveryResult, TargetRecovery
from harness.model.targets import Target

Stretch = tuple[float, float]


class Watched(msgspec.Struct, frozen=True):
    """One target of recovery over the whole run."""

    target: Target
    series: Series
    baseline: Baseline


def watch(facts: Facts, *, proven_unless: Container[int] | None = None) -> tuple[Watched, ...]:
    """The series of every target of recovery; none without a baseline to compare with.

    proven_unless: saturated steps; see WindowStore.series.
    """
    baseline = span_of(facts.spans, "baseline")
    if baseline is None:
        return ()
    end = min(facts.store.end, max(span.end for span in facts.spans))
    found = []
    for target in recovery_targets(facts.plan):
        limit = resolve(target, facts)
        if limit is None:
            continue
        series = facts.store.series(target, baseline.start, end, limit=limit, proven_unless=proven_unless)
        found.append(Watched(target, series, recovery_rules.worst_baseline(series, baseline.start, baseline.end)))
    return tuple(found)


def zero_of(plan: Plan, history: Sequence[ev.Event]) -> Zero | None:
    """Recovery's zero: the last undo's or the last one-shot's, whichever is later; None when an undo's is not known."""
    once = _one_shot_zero(plan, history)
    lasting = _undo_zero(history)
    if lasting is None:
        return once if one_shots(plan) == {fault.id for fault in plan.faults} else None
    return lasting if once is None else max(lasting, once, key=lambda zero: zero.zero_s)


def _undo_zero(history: Sequence[ev.Event]) -> Zero | None:
    """The last one found, else the last verified undo's statement with the doubt that leaves."""
    found = [event for event in history if isinstance(event, ev.ZeroFound)]
    if found:
        last = max(found, key=lambda event: event.zero_s)
        return Zero(last.zero_s, last.lower_s, last.upper_s)
    verified = {event.fault: event.at for event in history if isinstance(event, ev.UndoVerified)}
    undone = [event for event in history if isinstance(event, ev.Undone) and event.fault in verified]
    if undone:
        last_undo = max(undone, key=lambda event: event.at)
        return Zero(last_undo.at, last_undo.sent_s, max(last_undo.at, verified[last_undo.fault]))
    return None


def recovery_result(
    facts: Facts, watched: Sequence[Watched], history: Sequence[ev.Event], injected: bool
) -> RecoveryResult:
    """The recovery of the run: the latest over its targets, each listed."""
    if facts.plan.control_run:
        return _not_judged("a control run: there was no fault to recover from")
    if not injected:
        return _not_judged("no fault was injected, so there is nothing to recover from")
    zero = zero_of(facts.plan, history)
    if zero is None:
        return _not_judged("the undo was not seen to take effect, so recovery has no beginning")
    if not recovery_targets(facts.plan):
        return _not_judged("there is no primary error_rate or percentile target in `after` to recover")
    if not watched:
        return _not_judged("there was no baseline to compare with", zero)
    phases = facts.plan.phases
    load_end_s = _load_end(facts, history)
    hold, last = next_step(phases.hold_s), step_of(zero.zero_s + phases.recovery_limit_s)
    judged: list[TargetRecovery] = []
    relapses: list[Stretch] = []
    for w in watched:
        judged.append(
            recovery_rules.recovery(
                w.series,
                w.baseline,
                zero,
                phases.hold_s,
                phases.recovery_limit_s,
                load_end_s,
                w.target.text,
                proportion_op(w.target),
            )
        )
        end = min(w.series.end, step_of(load_end_s))
        step = recovery_rules.recovered_step(w.series, w.baseline, next_step(zero.zero_s), hold, last, end)
        if step is not None:
            relapses += recovery_rules.relapses(w.series, w.baseline, step, end)
    latest = recovery_rules.combine(judged)
    requested = [event.sent_s for event in history if isinstance(event, ev.UndoRequested)]
    from_undo = None
    if latest.seconds is not None and latest.outcome == "recovered" and requested:
        from_undo = round(zero.zero_s + latest.seconds - max(requested), 6)
    return RecoveryResult(
        outcome=latest.outcome,
        seconds=latest.seconds,
        lower_s=latest.lower_s,
        upper_s=latest.upper_s,
        zero_s=zero.zero_s,
        from_undo_requested_s=from_undo,
        drain_s=_drain(facts, zero.zero_s),
        targets=tuple(judged),
        relapses=merge_stretches(relapses),
        why=latest.why,
    )


def violating(watched: Sequence[Watched], start: int, end: int) -> tuple[Stretch, ...]:
    """Stretches of [start, end) in which any target of recovery was broken."""
    found: list[Stretch] = []
    for w in watched:
        found += impact_rules.violating_time(w.series, w.baseline, start, end)
    return merge_stretches(found)


def impact_result(
    facts: Facts, watched: Sequence[Watched], history: Sequence[ev.Event], stretches: Sequence[Stretch]
) -> ImpactResult:
    """What the faults did, from the first injection on (in a control run: from the fault phase on)."""
    load_end_s = _load_end(facts, history)
    faults = fault_intervals(facts.plan, history, load_end_s)
    fault_span = span_of(facts.spans, "fault")
    baseline = span_of(facts.spans, "baseline")
    first = faults[0][0] if faults else fault_span.start_s if fault_span else load_end_s
    end = step_of(load_end_s)
    after = facts.store.totals(step_of(first), end)
    run = facts.store.totals(baseline.start if baseline else 0, end)
    planned = run.planned if facts.open_model else 0
    start_s, mitigated_s, at_least = None, None, False
    if faults and fault_span is not None:
        starts = [impact_rules.impact_start(w.series, w.baseline, step_of(first), end) for w in watched]
        start_s = min((s for s in starts if s is not None), default=None)
        mitigated_s, at_least = _mitigated(facts, watched, faults, fault_span, starts)
    return ImpactResult(
        start_s=start_s,
        mitigated_s=mitigated_s,
        mitigated_at_least=at_least,
        violating_s=round(sum((b - max(a, first) for a, b in stretches if b > first), 0.0), 6),
        failed_requests=after.bad,
        budget_burnt=_budget(facts, run.expected_bad, planned or run.expected),
        violating=tuple(stretches),
    )


def _mitigated(
    facts: Facts,
    watched: Sequence[Watched],
    faults: Sequence[Stretch],
    fault_span: Span,
    starts: Sequence[float | None],
) -> tuple[float | None, bool]:
    """The latest over the targets that were hurt while a fault was on; none while one of them stays hurt."""
    found: list[tuple[float, bool]] = []
    for w, start in zip(watched, starts, strict=True):
        if start is None or start >= fault_span.end_s:
            continue
        when, at_least = impact_rules.mitigated(
            w.series, w.baseline, faults, facts.plan.phases.hold_s, fault_span.end_s, proportion_op(w.target)
        )
        if when is None:
            return None, False
        found.append((when, at_least))
    return max(found, default=(None, False))


def _budget(facts: Facts, bad: int, planned: int) -> float | None:
    """Of the strictest primary error_rate target of everything; None when there is none."""
    limits = [
        t.value
        for t in facts.plan.targets
        if t.primary and t.metric == "error_rate" and t.name is None and t.relative is None and t.op in ("<", "<=")
    ]
    burnt = impact_rules.budget_burnt(bad, planned, min(limits)) if limits else None
    return None if burnt is None else round(burnt, 6)


def _one_shot_zero(plan: Plan, history: Sequence[ev.Event]) -> Zero | None:
    """A fault that only happens once has nothing to undo: its statement's reply is where recovery begins, or the first
    good probe after an outage that probes saw (a restart's)."""
    once = one_shots(plan)
    done = [event for event in history if isinstance(event, ev.FaultInjected) and event.fault in once]
    if not done:
        return None
    last = max(done, key=lambda event: event.at)
    seen = [event for event in history if isinstance(event, ev.ZeroFound) and event.zero_s >= last.sent_s]
    if seen:
        zero = max(seen, key=lambda event: event.zero_s)
        return Zero(zero.zero_s, zero.lower_s, zero.upper_s)
    return Zero(last.at, last.sent_s, last.at)


def _load_end(facts: Facts, history: Sequence[ev.Event]) -> float:
    """When arrivals stopped; in a run that was cut off, the end of what is final."""
    ended = [event.end_s for event in history if isinstance(event, ev.LoadEnded)]
    return ended[-1] if ended else facts.store.final_before() / 10


def _drain(facts: Facts, zero_s: float) -> float | None:
    """Seconds after zero until the last request intended before it had ended, to a flush (about 0.1 s)."""
    edge = step_of(zero_s)
    latest = 0.0
    for worker in facts.store.workers.values():
        clear = [m.at for m in worker.marks if m.at >= zero_s and (m.oldest_open is None or m.oldest_open >= edge)]
        if not clear:
            return None
        latest = max(latest, clear[0] - zero_s)
    return round(latest, 6) if facts.store.workers else None


def _not_judged(why: str, zero: Zero | None = None) -> RecoveryResult:
    return RecoveryResult(
        outcome="not_judged",
        seconds=None,
        lower_s=None,
        upper_s=None,
        zero_s=zero.zero_s if zero else None,
        from_undo_requested_s=None,
        drain_s=None,
        why=why,
    )
