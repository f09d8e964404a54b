"""Recovery and impact of a run: the rules of one target (recovery.py, impact.py) over all its targets."""

from __future__ import annotations

from collections.abc import Container, Sequence

import msgspec

from harness.analysis.record.spans import Span, fault_intervals, one_shots, span_of
from harness.analysis.rules import impact as impact_rules
from harness.analysis.rules import recovery as recovery_rules
from harness.analysis.rules.facts import Facts
from harness.analysis.rules.generator import merge_stretches
from harness.analysis.rules.proportions import by_name, inside, proportion_op, watch_limit
from harness.analysis.rules.recovery import Zero
from harness.analysis.rules.targets import recovery_targets
from harness.analysis.statistics import changepoint, violations
from harness.analysis.statistics.binomial import exceeds
from harness.analysis.statistics.dispersion import dispersion, excused, without
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.violations import LENGTHS, RARE, Baseline
from harness.model.clock import next_step, step_of, step_start
from harness.model.records import events as ev
from harness.model.records.metrics import ALLOWED_OVER
from harness.model.records.plan import Plan
from harness.model.records.result import ImpactResult, RecoveryResult, TargetRecovery
from harness.model.records.targets import Target
from harness.model.target_grammar import canonical

Stretch = tuple[float, float]

MOST_FOLLOWED = 10
"""Request names that are followed by themselves, under a target and in a phase."""

BEFORE_STEPS = 60
"""Looked at before the injection: the longest window and a second more."""


class Watched(msgspec.Struct, frozen=True):
    """One target of recovery over the whole run, or one request name under it.

    limit: in the target's unit, as resolved. seen: what is told of the requests. series: what is concluded from,
    without the episodes that say nothing against the service (statistics/dispersion.py); excused: how many of them are
    as often as in baseline.
    """

    target: Target
    limit: float
    seen: Series
    series: Series
    baseline: Baseline
    excused: int = 0
    by_name: bool = False
    """Followed because it was hurt by itself, under a target of all requests."""


def watch(
    facts: Facts, history: Sequence[ev.Event], *, proven_unless: Container[int] | None = None
) -> tuple[Watched, ...]:
    """The series of every target of recovery, and of every request name that is hurt by itself under one; none without
    a baseline to compare with.

    proven_unless: saturated steps; see WindowStore.series.
    """
    baseline = facts.baseline
    if baseline is None:
        return ()
    end = min(facts.store.end, max(span.end for span in facts.spans))
    zero = zero_of(facts.plan, history)
    quiet_from = None if zero is None else next_step(zero.zero_s)
    fault = span_of(facts.spans, "fault")
    hold = next_step(facts.plan.phases.hold_s)

    def watched(target: Target, limit: float, allowed: float | None = None) -> Watched:
        series = facts.store.series(target, baseline.start, end, limit=limit, proven_unless=proven_unless)
        series = facts.cut_out(series)
        if allowed is not None:
            series = msgspec.structs.replace(series, limit=inside(allowed))
        earlier = facts.store.earlier_series(target, limit, own_acts=proven_unless is not None)
        seen = dispersion(series, baseline.start, baseline.end, earlier)
        episodes = [] if quiet_from is None else excused(series, seen, quiet_from, end, hold)
        told, series = series, without(series, episodes)
        yardstick = violations.worst_baseline(series, baseline.start, baseline.end, seen.phi_held, seen.phi, earlier)
        # Where baseline had such episodes they are told as such, and nothing else is said of them.
        as_before = len(episodes) if seen.episodes else 0
        shown = series if as_before else told
        return Watched(target, limit, shown, series, yardstick, as_before, allowed is not None)

    found = []
    for target in recovery_targets(facts.plan):
        limit = watch_limit(target, facts)
        if limit is None:
            continue
        whole = watched(target, limit)
        found.append(whole)
        seen_in_all = fault is not None and violations.violating(whole.series, whole.baseline, fault.start, end).any
        found += [watched(named, limit, allowed) for named, allowed in _hurt(target, facts, seen_in_all)]
    return tuple(found)


def _hurt(target: Target, facts: Facts, seen_in_all: bool) -> list[tuple[Target, float]]:
    """The request names that are broken by themselves after baseline, each with the share it may have.

    seen_in_all: the requests of all names show an outage. Then a name is followed only where it stayed broken after
    recovery: several series of the same outage would only add their noise to its end. Of a hundred dead names the worst
    few say when they were well again.
    """
    if target.name is not None:
        return []
    found: dict[str, float] = {}
    for span in facts.spans:
        if span.name in (("after",) if seen_in_all else ("fault", "recovery", "after")) and span.end > span.start:
            for name in by_name(target, span, facts)[:MOST_FOLLOWED]:
                found[name.name] = max(name.limit, found.get(name.name, 0.0))
    return [(msgspec.structs.replace(target, name=name), limit) for name, limit in sorted(found.items())]


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
    facts: Facts,
    watched: Sequence[Watched],
    history: Sequence[ev.Event],
    injected: bool,
    unseen: Sequence[Stretch] = (),
) -> RecoveryResult:
    """The recovery of the run: the latest over its targets, each listed.

    unseen: stretches in which the generator could not keep up, stood still or did not record: nothing is concluded from
    them, neither that the service recovered nor that it fell again.
    """
    if facts.plan.control_run:
        return _not_judged("a control run: there was no fault to recover from")
    if not injected:
        return _not_judged("no fault was injected, so there is nothing to recover from")
    zero = zero_of(facts.plan, history)
    if zero is None:
        return _not_judged("the undo was not seen to take effect, so recovery has no beginning")
    if not recovery_targets(facts.plan):
        return _not_judged("there is no primary error_rate or percentile target in phase after to recover")
    if not watched:
        return _not_judged("there was no baseline to compare with", zero)
    phases = facts.plan.phases
    load_end_s = _load_end(facts, history)
    hold, last = next_step(phases.hold_s), step_of(zero.zero_s + phases.recovery_limit_s)
    judged: list[TargetRecovery] = []
    deciding: list[TargetRecovery] = []
    unknown: list[TargetRecovery] = []
    relapses: dict[Stretch, int] = {}
    for w in watched:
        found = recovery_rules.recovery(
            w.series,
            w.baseline,
            zero,
            phases.hold_s,
            phases.recovery_limit_s,
            load_end_s,
            canonical(w.target) if w.target.name is not None else w.target.text,
            proportion_op(w.target),
            unseen,
            w.seen,
        )
        judged.append(_as_seen(found, zero, phases.hold_s, unseen, facts))
        # Too few requests of a name hold nothing up. (With a lower end it was the load that ended too early.)
        few = w.by_name and found.outcome == "undecided" and found.lower_s is None
        (unknown if few else deciding).append(judged[-1])
        end = min(w.series.end, step_of(load_end_s))
        step = recovery_rules.recovered_step(w.series, w.baseline, next_step(zero.zero_s), hold, last, end)
        if step is not None:
            for a, b in recovery_rules.relapses(w.seen, w.baseline, step, end):
                if not any(low < b and a < high for low, high in unseen):
                    relapses[a, b] = sum(w.seen.bad[step_of(a) - w.seen.start : step_of(b) - w.seen.start])
    latest = recovery_rules.combine(deciding)
    if unknown and latest.outcome == "no_impact":
        latest = msgspec.structs.replace(latest, why=f"of {unknown[0].target} too few requests tell when it was well")
    merged = merge_stretches(list(relapses))
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
        relapses=merged,
        relapsed=tuple(max(n for (a, b), n in relapses.items() if low <= a and b <= high) for low, high in merged),
        why=latest.why,
        graded=latest.graded,
    )


def _as_seen(
    found: TargetRecovery, zero: Zero, hold_s: float, unseen: Sequence[Stretch], facts: Facts
) -> TargetRecovery:
    """Undecided where the edge or the hold lies in what was not seen; elsewhere wider by what the generator waited
    before it read a reply."""
    if found.outcome not in ("recovered", "no_impact") or found.seconds is None or found.lower_s is None:
        return found
    edge = zero.zero_s + found.seconds
    first = zero.zero_s + found.lower_s
    for low, high in unseen:
        if low < edge + hold_s and first < high:
            return msgspec.structs.replace(
                found,
                outcome="undecided",
                seconds=None,
                lower_s=None,
                upper_s=None,
                why=f"the load generator did not see what happened from {low:.1f} s to {high:.1f} s",
            )
    if found.outcome == "no_impact":
        return found
    late_s = _read_late(facts, edge)
    return msgspec.structs.replace(found, lower_s=round(max(0.0, found.lower_s - late_s), 6))


def _read_late(facts: Facts, edge_s: float) -> float:
    """The event loop's longest turn around an edge: a reply that came in it was read at its end."""
    turns = [
        mark.lateness_max_ms / 1000
        for worker in facts.store.workers.values()
        for mark in worker.marks
        if mark.lateness_max_ms is not None and edge_s - 0.5 <= mark.at <= edge_s + 1.0
    ]
    return max(turns, default=0.0)


def before_injection(facts: Facts, watched: Sequence[Watched], history: Sequence[ev.Event]) -> float | None:
    """How long before the first injection the service had begun to fail, in seconds; None where it had not.

    Only requests that had *ended* before the injection was sent count, of all that had begun: those in flight fail by
    the fault, and by their intended start "before" it.
    """
    sent = [event.sent_s for event in history if isinstance(event, ev.FaultInjected)]
    if not sent:
        return None
    injected = step_of(min(sent))
    for w in watched:
        start = max(w.series.start, injected - BEFORE_STEPS)
        early = facts.store.ended_bad(w.target, start, injected, limit=w.limit)
        if early is None:
            return None
        n = w.series.n[start - w.series.start : injected - w.series.start]
        for length in LENGTHS:
            if length > len(n):
                continue
            k, size = sum(early[-length:]), sum(n[-length:])
            floor = max(w.series.limit, violations.WORSE_THAN_BASELINE * w.baseline.worst.get(length, 0.0))
            if size and k > floor * size and exceeds(k, size, w.series.limit, RARE, w.baseline.phi):
                fit = changepoint.rising(n, early, start, start)
                edge = fit.edge if fit is not None else injected - length
                return round(max(0.1, min(sent) - step_start(edge)), 1)
    return None


def violating(watched: Sequence[Watched], start: int, end: int) -> tuple[Stretch, ...]:
    """Stretches of [start, end) in which any target of recovery was broken."""
    found: list[Stretch] = []
    for w in watched:
        found += impact_rules.violating_time(w.seen, w.baseline, start, end)
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
    end = max([step_of(load_end_s), *(span.end for span in facts.spans)])
    after = facts.store.totals(step_of(first), end)
    run = facts.store.totals(baseline.start if baseline else 0, end)
    planned = run.arrivals.planned if facts.open_model else 0
    start_s, mitigated_s, at_least = None, None, False
    if faults and fault_span is not None:
        starts = [impact_rules.impact_start(w.series, w.baseline, step_of(first), end) for w in watched]
        start_s = min((s for s in starts if s is not None), default=None)
        mitigated_s, at_least = _mitigated(facts, watched, faults, fault_span, starts)
    return ImpactResult(
        before_s=before_injection(facts, watched, history),
        as_in_baseline=max((w.excused for w in watched), default=0),
        by_name=_by_name(facts, step_of(first)),
        start_s=start_s,
        mitigated_s=mitigated_s,
        mitigated_at_least=at_least,
        violating_s=round(sum((b - max(a, first) for a, b in stretches if b > first), 0.0), 6),
        failed_requests=after.bad,
        budget_burnt=_budget(facts, run.expected_bad, planned or run.expected),
        violating=tuple((max(a, first), b) for a, b in stretches if b > first),
    )


def _by_name(facts: Facts, first: int) -> dict[str, int]:
    """The request names that were broken by themselves after baseline, with how many of their requests were bad from
    the first injection on."""
    found: dict[str, int] = {}
    for target in recovery_targets(facts.plan):
        limit = watch_limit(target, facts)
        latency_ms = limit if target.metric in ALLOWED_OVER else None
        for name, _ in _hurt(target, facts, False):
            if name.name is not None:
                series = facts.series(name.name, latency_ms, True)
                bad = sum(series.bad[max(0, first - series.start) :])
                found[name.name] = max(bad, found.get(name.name, 0))
    return {name: bad for name, bad in sorted(found.items(), key=lambda pair: -pair[1]) if bad}


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
        if t.primary and t.traits.failures and t.name is None and not t.of_baseline and t.op in ("<", "<=")
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
