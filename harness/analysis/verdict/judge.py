"""From what was recorded to the result: pure, the same files always give the same result."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.analysis.record.cut_off import abandon_open
from harness.analysis.record.limit_counts import proven
from harness.analysis.record.spans import Span, fault_intervals, span_of, spans
from harness.analysis.record.windows import WindowStore
from harness.analysis.rules import recovery_and_impact
from harness.analysis.rules.detection import detection
from harness.analysis.rules.facts import Facts, sums_in
from harness.analysis.rules.fresh import fresh_connections, told
from harness.analysis.rules.generator import (
    clocks,
    cut_from_baseline,
    generator,
    lost_with,
    merge_stretches,
    saturated,
    stalls,
)
from harness.analysis.rules.memory import LIMIT_PER_H, memory
from harness.analysis.rules.proportions import chances_of, counts_failures, proportion_op, watch_limit
from harness.analysis.rules.recovery import Zero, recovery
from harness.analysis.rules.sampled import cpu_by_phase, signals
from harness.analysis.rules.signatures import signatures as signatures_of
from harness.analysis.rules.targets import judge_target, recovery_targets
from harness.analysis.rules.unasked import told as told_unasked
from harness.analysis.rules.unasked import unasked
from harness.analysis.statistics.binomial import judge_proportion
from harness.analysis.verdict import tables
from harness.analysis.verdict.acknowledged import acknowledged_result
from harness.analysis.verdict.after_load import after_load_result, ending
from harness.analysis.verdict.proofs import fault_results, left_over
from harness.analysis.verdict.verdict import MIX_POINTS, RECOVERY, Case, rule
from harness.model.clock import step_of
from harness.model.records import events as ev
from harness.model.records.alerts import AlertRow
from harness.model.records.load import STEP_S
from harness.model.records.metrics import ALLOWED_OVER, Origin
from harness.model.records.plan import Plan
from harness.model.records.result import (
    FaultResult,
    ImpactResult,
    MemoryResult,
    NameResult,
    RecoveryResult,
    Result,
    TargetResult,
)
from harness.model.records.samples import Sample
from harness.model.records.targets import Target
from harness.model.target_grammar import JUDGED_PHASES, merge


def judge(
    plan: Plan,
    history: Sequence[ev.Event],
    store: WindowStore,
    samples: Sequence[Sample],
    alerts: Sequence[AlertRow] = (),
    *,
    extra_targets: Sequence[Target] = (),
) -> Result:
    """The result of one run, however early it ended. extra_targets replace or join those of the plan.

    Pure: it reads nothing but its arguments and raises nothing for a run that went wrong.
    """
    if extra_targets:
        plan = msgspec.structs.replace(plan, targets=merge(plan.targets, extra_targets, plan.strict))
    facts, first, last = facts_of(plan, history, store, samples)
    phases, cut = facts.spans, facts.cut
    faults = fault_results(plan, history)
    injected = any(fault.injected_s is not None for fault in faults)
    watched = recovery_and_impact.watch(facts, history)
    gaps = store.gaps(first, last) if last > first else []
    # To the end of arrivals: recovery also looks at the tail, for relapses.
    loaded = max([last, *(step_of(event.end_s) for event in history if isinstance(event, ev.LoadEnded))])
    unseen = _unseen(store, first, loaded, gaps)
    facts.violating = recovery_and_impact.violating(watched, first, last)
    facts.recovery = recovery_and_impact.recovery_result(facts, watched, history, injected, unseen)
    facts.memory = _memory(plan, phases, history, samples)
    seen = [span for span in phases if span.end > span.start]
    unsent = sum(facts.totals(span).arrivals.unsent for span in seen if span.name not in ("warmup", "settle"))
    made = generator(store, first / 10, last / 10, unsent)
    impact = recovery_and_impact.impact_result(facts, watched, history, facts.violating) if watched else None
    if impact is not None and _end_unseen(facts, facts.recovery, impact, unseen):
        impact = msgspec.structs.replace(impact, mitigated_s=None, mitigated_at_least=False, end_unseen=True)
    if impact is not None and impact.before_s is not None:
        injected_s = min(event.sent_s for event in history if isinstance(event, ev.FaultInjected))
        if any(a < injected_s and injected_s - impact.before_s < b for a, b in unseen):
            impact = msgspec.structs.replace(impact, before_s=None)
    if impact is not None and impact.by_name:
        impact = msgspec.structs.replace(impact, by_name_failed=_failed_by_name(facts, impact, faults))
    facts.detection = detection(facts, history, impact, alerts)
    judged = tuple((target, _failed_of_names(target, judge_target(target, facts), facts)) for target in plan.targets)
    fresh = fresh_connections(facts, samples, max((span.end_s for span in phases), default=0.0), unseen)
    tainted = _tainted(facts, judged, made.saturated, history)
    ruling = rule(
        Case(
            plan=plan,
            history=history,
            spans=phases,
            targets=[result for _, result in judged],
            faults=faults,
            recovery=facts.recovery,
            baseline_judged=_baseline_judged(facts),
            saturated=made.saturated,
            tainted=tainted,
            gaps=gaps,
            cut_s=round(sum(b - a for a, b in cut) / 10, 1),
            impact=impact,
            before_s=impact.before_s if impact is not None else None,
            by_name={n: (bad, impact.by_name_failed.get(n)) for n, bad in impact.by_name.items()} if impact else {},
            over_before=_over_before(facts.recovery, impact),
            mix=_mix_moves(facts),
            left=left_over(plan, history),
            lost=lost_with(history, store, first, last),
            violating=facts.violating,
            ending=ending(facts, facts.recovery, history),
            fell=_fell(facts, watched, history, unseen),
            unasked=told_unasked(unasked(facts)),
            violating_s=round(sum((b - a for a, b in facts.violating), 0.0), 6),
        )
    )
    timed = facts.violating if watched and recovery_targets(plan) else None
    rows = [(span, timed if first <= span.start < max(last, first + 1) else None) for span in seen]
    sized = frozenset(name for span in seen for name, one in facts.totals(span).names.items() if one.body_bytes)
    phi = facts.dispersion(None, None, True).phi
    bursts = round(phi, 3) if phi > 1.005 else None
    started = next((event.wall for event in history if isinstance(event, ev.Started)), None)
    return Result(
        verdict=ruling.verdict,
        exit_code=int(ruling.exit_code),
        reasons=ruling.reasons,
        scenario=plan.scenario.name,
        scale=plan.scale,
        model=plan.load.model,
        stack=plan.stack,
        seed=plan.seed,
        experiment=plan.experiment,
        target_url=plan.load.host,
        started=started,
        phases=tuple(tables.phase_result(span, facts.totals(span), times, bursts) for span, times in rows),
        requests=tuple(row for span in seen for row in tables.request_results(span.name, facts.totals(span), sized)),
        totals=tables.whole_run(store),
        setup=tuple(tables.request_result(name, "setup", names, None) for name, names in sorted(store.setup.items())),
        errors=tables.error_results(store),
        slowest=tables.slowest(store, seen),
        targets=tuple(_untrusted(result) if target.text in tainted else result for target, result in judged),
        faults=faults,
        recovery=_untrusted_recovery(facts.recovery) if RECOVERY in tainted else facts.recovery,
        impact=impact,
        generator=msgspec.structs.replace(made, clocks=clocks(history)) if store.workers else None,
        memory=facts.memory,
        signals=signals(samples, seen),
        cpu_by_phase=cpu_by_phase(samples, seen, plan),
        signatures=signatures_of(plan, history, phases, store, samples),
        detection=facts.detection,
        acknowledged=acknowledged_result(history),
        after_load=after_load_result(history),
        fresh_connections=fresh,
        warnings=(*plan.warnings, *ruling.warnings, *told(fresh)),
        earlier_baseline_s=round(sum(b - a for a, b in (one.baseline or (0, 0) for one in store.earlier)) / 10, 1),
    )


def clean_baseline(plan: Plan, history: Sequence[ev.Event], store: WindowStore, result: Result) -> Span | None:
    """The baseline of a judged experiment where later ones of its session may be measured by it too: it is complete, no
    primary target is broken in it, the generator kept up and recorded all of it, and no outage had begun before the
    injection."""
    facts, _, _ = facts_of(plan, history, store, ())
    baseline = facts.baseline
    if baseline is None or not _baseline_judged(facts):
        return None
    broken = any(one.primary and one.phase == "baseline" and one.outcome == "broken" for one in result.targets)
    unseen = _unseen(store, baseline.start, baseline.end, store.gaps(baseline.start, baseline.end))
    early = result.impact is not None and result.impact.before_s is not None
    return None if broken or unseen or early else baseline


def facts_of(
    plan: Plan, history: Sequence[ev.Event], store: WindowStore, samples: Sequence[Sample]
) -> tuple[Facts, int, int]:
    """What a run is judged on, and the steps [first, last) that its result speaks about."""
    phases = spans(history, store.end)
    first, last = _judged_steps(phases, history, store)
    if not any(isinstance(event, ev.LoadEnded) for event in history):
        abandon_open(store)
    starved = saturated(store, first / 10, last / 10)
    cut = cut_from_baseline(span_of(phases, "baseline"), starved)
    return Facts(plan=plan, store=store, spans=phases, samples=samples, cut=cut), first, last


def _failed_of_names(target: Target, result: TargetResult, facts: Facts) -> TargetResult:
    """With how many of each name's bad requests failed: a name that is only slow is not to be said to fail."""
    span = span_of(facts.spans, target.phase or "")
    if not result.names or span is None or target.metric not in ALLOWED_OVER:
        return result
    totals, counted = facts.totals(span), counts_failures(target, facts)

    def failed(name: NameResult) -> int:
        return min(name.bad, totals.of(name.name).expected_failed) if counted else 0

    names = tuple(msgspec.structs.replace(name, failed=failed(name)) for name in result.names)
    return msgspec.structs.replace(result, names=names)


def _failed_by_name(facts: Facts, impact: ImpactResult, faults: Sequence[FaultResult]) -> dict[str, int]:
    """The same from the first injection on (in a control run: from the fault phase on)."""
    injected = [fault.injected_s for fault in faults if fault.injected_s is not None]
    fault = span_of(facts.spans, "fault")
    first = step_of(min(injected)) if injected else fault.start if fault is not None else 0
    totals = facts.store.totals(first, facts.store.end)
    return {name: min(bad, totals.of(name).expected_failed) for name, bad in impact.by_name.items()}


def _over_before(recovery: RecoveryResult, impact: ImpactResult | None) -> bool:
    if impact is None or impact.start_s is None or recovery.zero_s is None or impact.end_unseen:
        return False
    return recovery.outcome == "no_impact" and impact.start_s < recovery.zero_s


def _end_unseen(
    facts: Facts, recovery: RecoveryResult, impact: ImpactResult, unseen: Sequence[tuple[float, float]]
) -> bool:
    """What the fault broke seems to have ended before the undo, in seconds that the generator did not see."""
    zero_s = recovery.zero_s
    if impact.start_s is None or zero_s is None:
        return False
    edge = max((min(b, zero_s) for a, b in impact.violating if a < zero_s), default=impact.start_s)
    if impact.mitigated_s is not None:
        edge = impact.mitigated_s
    if edge >= zero_s:
        return False
    held_s = min(edge + facts.plan.phases.hold_s, zero_s)
    return any(low < held_s and edge - STEP_S < high for low, high in unseen)


def _fell(
    facts: Facts,
    watched: Sequence[recovery_and_impact.Watched],
    history: Sequence[ev.Event],
    unseen: Sequence[tuple[float, float]],
) -> tuple[float, float] | None:
    """The outage that a control run ended with, after its last judged phase: what recovery would call one, had there
    been a fault that was undone a hold before."""
    tail = span_of(facts.spans, "tail")
    loaded = next((event.end_s for event in reversed(history) if isinstance(event, ev.LoadEnded)), None)
    if not facts.plan.control_run or tail is None or loaded is None:
        return None
    phases = facts.plan.phases
    zero_s = tail.start_s - phases.hold_s
    found: list[tuple[float, float]] = []
    for w in watched:
        zero = Zero(zero_s, zero_s, zero_s)
        op = proportion_op(w.target)
        limit_s = phases.recovery_limit_s
        seen = recovery(w.series, w.baseline, zero, phases.hold_s, limit_s, loaded, w.target.text, op, unseen)
        if seen.outcome in ("undecided", "not_recovered"):
            found += recovery_and_impact.violating([w], tail.start, step_of(loaded))
    found = [(a, b) for a, b in merge_stretches(found) if not any(low < b and a < high for low, high in unseen)]
    return found[-1] if found else None


def _judged_steps(phases: Sequence[Span], history: Sequence[ev.Event], store: WindowStore) -> tuple[int, int]:
    """From baseline to the end of `after`: what the result speaks about. Recovery that never came ends with load.

    In a run that was cut off only what is final: requests that were open at that moment are no recording gap.
    """
    baseline = span_of(phases, "baseline")
    if baseline is None:
        return 0, 0
    last = max(span.end for span in phases if span.name != "tail")
    if not any(isinstance(event, ev.LoadEnded) for event in history):
        last = min(last, store.final_before())
    return baseline.start, max(baseline.start, last)


def _unseen(store: WindowStore, first: int, end: int, gaps: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """Stretches in which the generator could not keep up, stood still or did not record."""
    since, until = first / 10, end / 10
    lost = ((n / 10, (n + 1) / 10) for n in gaps)
    return merge_stretches([*saturated(store, since, until), *stalls(store, since, until), *lost])


def _baseline_judged(facts: Facts) -> bool:
    """The baseline was seen to its end and has requests."""
    baseline = span_of(facts.spans, "baseline")
    return baseline is not None and baseline.complete and facts.totals(baseline).attempts > 0


def _memory(
    plan: Plan, phases: Sequence[Span], history: Sequence[ev.Event], samples: Sequence[Sample]
) -> MemoryResult | None:
    baseline = span_of(phases, "baseline")
    if baseline is None or not any("target" in sample.trees for sample in samples):
        return None
    end_s = max(span.end_s for span in phases)
    faults = fault_intervals(plan, history, end_s)
    limits = [t.value for t in plan.targets if t.traits.origin is Origin.MEMORY]
    limit = min(limits, default=LIMIT_PER_H)
    if not faults:
        return memory(samples, (baseline.start_s, end_s), None, seed=plan.seed, limit_per_h=limit)
    before, after = (baseline.start_s, faults[0][0]), (max(undone for _, undone in faults), end_s)
    return memory(samples, before, after, seed=plan.seed, limit_per_h=limit)


def _tainted(
    facts: Facts,
    judged: Sequence[tuple[Target, TargetResult]],
    saturated: Sequence[tuple[float, float]],
    history: Sequence[ev.Event],
) -> frozenset[str]:
    """Texts of broken targets that the saturated generator may have made up; "recovery" for the run's recovery."""
    if not saturated:
        return frozenset()
    # The impact that a starved generator may have made up is what an alert was held against.
    found = {target.text for target, one in judged if target.traits.of_alert and one.outcome == "broken"}
    steps = frozenset(number for a, b in saturated for number in range(step_of(a), step_of(b) + 1))
    for target, result in judged:
        span = span_of(facts.spans, target.phase or "")
        if result.outcome != "broken" or span is None or not span.overlaps(saturated):
            continue
        if not target.traits.by_generator or _own_doing(target, span, facts, steps):
            continue
        if not any(_name_by_itself(target, name, span, facts, steps) for name in result.names):
            found.add(target.text)
    if facts.recovery is not None and _recovery_tainted(facts, facts.recovery, saturated, steps, history):
        found.add(RECOVERY)
        found |= {t.text for t, _ in judged if t.traits.origin is Origin.RECOVERY}
    return frozenset(found)


_STARVED = "the load generator could not keep up meanwhile, which may have made up what it saw"


def _untrusted(result: TargetResult) -> TargetResult:
    """A broken target that the generator may have made up is told as open, like the verdict's words about it."""
    if result.outcome != "broken":
        return result
    names = tuple(name for name in result.names if name.outcome != "broken")
    why = f"{_STARVED}: {result.why}" if result.why else _STARVED
    return msgspec.structs.replace(result, outcome="undecided", why=why, names=names)


def _untrusted_recovery(found: RecoveryResult | None) -> RecoveryResult | None:
    if found is None or found.outcome != "not_recovered":
        return found
    targets = tuple(
        msgspec.structs.replace(one, outcome="undecided", why=f"{_STARVED}: {one.why}", lower_s=None)
        if one.outcome == "not_recovered"
        else one
        for one in found.targets
    )
    return msgspec.structs.replace(
        found, outcome="undecided", why=f"{_STARVED}: {found.why}", lower_s=None, targets=targets
    )


def _own_doing(
    target: Target, span: Span, facts: Facts, saturated: frozenset[int], allowed: float | None = None
) -> bool:
    """Still broken when only that counts which the target itself did: of a latency target, were every request of the
    saturated seconds a quick one. allowed: the share that may be bad, where it is not the target's own."""
    if not target.traits.watched:
        return False
    limit = watch_limit(target, facts)
    if limit is None:
        return False
    latency_ms = limit if target.metric in ALLOWED_OVER else None
    chances = chances_of(target, span, facts, latency_ms)
    if target.traits.failures:
        series = facts.store.series(target, span.start, span.end, limit=limit, proven_unless=saturated)
        p = limit if allowed is None else allowed
        return judge_proportion(sum(series.bad), sum(series.n), p, target.op, chances) == "broken"
    if target.op in ("<", "<="):
        count = facts.store.counter(limit)
        steps = list(facts.store.steps(span.start, span.end))
        slow = sum(count.slow(number, step, target.name) for number, step in steps if number not in saturated)
        n = facts.totals(span).of(target.name).ok
        if counts_failures(target, facts):
            slow += sum(proven(step, target.name, number in saturated) for number, step in steps)
            _, n = sums_in(facts.series(target.name, limit, True), span)
        p = ALLOWED_OVER[target.metric] if allowed is None else allowed
        return n > 0 and judge_proportion(slow, n, p, "<=", chances) == "broken"
    return False


def _name_by_itself(target: Target, name: NameResult, span: Span, facts: Facts, saturated: frozenset[int]) -> bool:
    """A request name that is still broken when only that counts which the target itself did."""
    named = msgspec.structs.replace(target, name=name.name)
    return name.outcome == "broken" and _own_doing(named, span, facts, saturated, name.limit)


def _recovery_tainted(
    facts: Facts,
    found: RecoveryResult,
    saturated: Sequence[tuple[float, float]],
    steps: frozenset[int],
    history: Sequence[ev.Event],
) -> bool:
    if found.zero_s is None or not any(end > found.zero_s for _, end in saturated):
        return False
    own = recovery_and_impact.recovery_result(
        facts, recovery_and_impact.watch(facts, history, proven_unless=steps), history, True
    )
    if found.outcome == "not_recovered":
        return own.outcome != "not_recovered"
    # A recovery that came late is late by the target's own acts only if it is as late on those alone.
    late = [t for t in facts.plan.targets if t.traits.origin is Origin.RECOVERY]
    return any(own.lower_s is None or own.lower_s < t.value for t in late)


def _mix_moves(facts: Facts) -> list[tuple[str, str, float, float]]:
    """(phase, class, planned share, sent share) where they differ by more than two points."""
    found = []
    for name in JUDGED_PHASES:
        span = span_of(facts.spans, name)
        if span is None:
            continue
        row = tables.phase_result(span, facts.totals(span), None)
        for class_name, planned in row.mix_planned.items():
            sent = row.mix_sent.get(class_name, 0.0)
            if abs(sent - planned) > MIX_POINTS and row.mix_sent:
                found.append((str(name), class_name, planned, sent))
    return found
