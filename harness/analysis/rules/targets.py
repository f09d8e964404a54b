"""Did a target hold in its phase? One function a kind of metric; docs/targets.md says the rules in words.

held         met, with enough requests to say so
broken       not met, and not by chance
undecided    too close or too little was seen; `why` says which
not_judged   it does not apply here (recovery in a control run) or cannot be known (CPU of a foreign machine)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence

from harness.analysis.record.cells import NameTotals, Totals
from harness.analysis.record.spans import Span, span_of
from harness.analysis.rules import detection, proportions
from harness.analysis.rules.facts import Facts
from harness.analysis.rules.proportions import is_upper_proportion, result_of
from harness.analysis.rules.sampled import cpu_share, signal_mean
from harness.model.records.metrics import ALLOWED_OVER, Origin
from harness.model.records.plan import Plan
from harness.model.records.result import Outcome, TargetResult
from harness.model.records.targets import Op, Target
from harness.model.units import format_duration, format_percent

COMPARE: Mapping[Op, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


FIGURES: Mapping[str, Callable[[NameTotals, float], float | None]] = {
    "max": lambda names, _: names.max_ms if names.ok else None,
    "rps": lambda names, seconds: names.replies / seconds,
}
"""Metric -> its value by the counts of so many seconds: of a phase, and of each second for --abort-if. What is known by
request name has a row, unless it is watched (proportions.py)."""


def judge_target(target: Target, facts: Facts) -> TargetResult:
    """Judge one target in its phase."""
    if (of_run := OF_RUN.get(target.metric)) is not None:
        return of_run(target, facts)
    span = span_of(facts.spans, target.phase or "")
    if span is None:
        return result_of(target, None, None, "not_judged", f"the run had no {target.phase} phase")
    if facts.store.end <= span.start and target.traits.origin is Origin.REQUESTS:
        return result_of(target, None, None, "undecided", "nothing was recorded in this phase")
    return OF_PHASE.get(target.metric, _signal)(target, span, facts)


def resolve(target: Target, facts: Facts) -> float | None:
    """The limit in the target's own unit: the value, or what this run's baseline makes of it; of two the larger.

    None when the baseline showed nothing. "of plan" is resolved where it is judged.
    """
    found: list[float] = []
    for limit in target.limits:
        if limit.relative != "baseline":
            found.append(limit.value)
            continue
        base = None if facts.baseline is None else observe(target, facts.baseline, facts)
        if base is not None:
            found.append(base + limit.value if limit.plus else base * limit.value)
    return max(found, default=None)


def observe(target: Target, span: Span, facts: Facts) -> float | None:
    """What the phase showed, in the target's unit; None when nothing did."""
    if target.traits.watched:
        return proportions.observed_in(target, span, facts)
    if target.metric in FIGURES:
        return figure(target, facts.totals(span))
    if target.traits.origin is Origin.CPU:
        used = cpu_share(facts.samples, span, facts.plan)
        return None if used is None else used.mean
    if target.traits.origin is Origin.SIGNAL:
        return signal_mean(facts.samples, target.metric, span)
    return None


def figure(target: Target, totals: Totals) -> float | None:
    return FIGURES[target.metric](totals.of(target.name), totals.seconds)


def recovery_targets(plan: Plan) -> tuple[Target, ...]:
    """The `after` values of the primary error_rate and percentile targets, named ones too."""
    return tuple(t for t in plan.targets if t.primary and t.phase == "after" and is_upper_proportion(t))


def _figure(target: Target, span: Span, facts: Facts) -> TargetResult:
    """Compared as it is."""
    limit, totals = resolve(target, facts), facts.totals(span)
    observed = figure(target, totals)
    if limit is None:
        return result_of(target, observed, None, "undecided", "the baseline showed nothing to compare with")
    if observed is None:
        attempts = totals.attempts if target.name is None else totals.of(target.name).requests
        return proportions.without_success(target, limit, attempts)
    return _literal(target, observed, limit)


def _rps(target: Target, span: Span, facts: Facts) -> TargetResult:
    totals = facts.totals(span)
    observed = totals.of(target.name).replies / totals.seconds
    if target.relative == "baseline" and facts.open_model and target.name is None:
        return _replied_as_in_baseline(target, span, facts)
    if target.relative != "plan":
        return _figure(target, span, facts)
    if not facts.open_model:
        return result_of(target, observed, None, "not_judged", "the closed model has no plan to compare with")
    if target.name is not None:
        return result_of(target, observed, None, "not_judged", "the plan counts arrivals, not requests by name")
    asked, never = _asked(span, facts)
    arrivals = totals.arrivals
    if asked <= 0:
        empty = f"all {arrivals.empty:,} arrivals were empty: their task ended without a request"
        why = empty if arrivals.empty else "no arrival was planned in this phase"
        return result_of(target, observed, None, "undecided", why)
    replied = arrivals.replied
    why = f"{replied:,} of {asked:,} scheduled arrivals got a reply"
    if arrivals.empty:
        why += f"; {arrivals.empty:,} more were empty: their task ended without a request"
    if never:
        why += f"; {never:,} more had made no request when the record ended"
    # Compared as counts, so that a planned rate of 200.3 does not blur the edge.
    held = COMPARE[target.op](replied, target.value * asked)
    limit = target.value * asked / totals.seconds
    return result_of(target, replied / totals.seconds, limit, "held" if held else "broken", why)


def _asked(span: Span, facts: Facts) -> tuple[int, int]:
    """(arrivals of a phase that asked something of the target, those that still waited for a user or for their task's
    first request when a run was stopped). Nor did a task ask anything that ended without a request."""
    arrivals, never = facts.totals(span).arrivals, facts.store.unasked(span.start, span.end)
    return arrivals.planned - arrivals.empty - never, never


def _replied_as_in_baseline(target: Target, span: Span, facts: Facts) -> TargetResult:
    """The share of arrivals that got a reply, against baseline's: how many arrive is the schedule's doing, not the
    target's."""
    totals = facts.totals(span)
    replied, (asked, _) = totals.arrivals.replied, _asked(span, facts)
    observed = totals.of(None).replies / totals.seconds
    base = facts.totals(facts.baseline).arrivals if facts.baseline is not None else None
    if base is None or base.planned - base.empty <= 0 or asked <= 0:
        return result_of(target, observed, None, "undecided", "the baseline showed nothing to compare with")
    share = base.replied / (base.planned - base.empty)
    why = f"{replied:,} of {asked:,} scheduled arrivals got a reply, in baseline {format_percent(share)}"
    held = COMPARE[target.op](replied, target.value * share * asked)
    limit = target.value * share * asked / totals.seconds
    return result_of(target, replied / totals.seconds, limit, "held" if held else "broken", why)


def _violating(target: Target, span: Span, facts: Facts) -> TargetResult:
    if not recovery_targets(facts.plan):
        return result_of(target, None, target.value, "not_judged", "there is no target whose violation could be timed")
    return _literal(target, violating_in(facts.violating, span), target.value)


def violating_in(violating: Sequence[tuple[float, float]], span: Span) -> float:
    """Seconds of violating time inside a phase."""
    total = sum((max(0.0, min(end, span.end_s) - max(start, span.start_s)) for start, end in violating), 0.0)
    return round(total, 6)


def _cpu(target: Target, span: Span, facts: Facts) -> TargetResult:
    used = cpu_share(facts.samples, span, facts.plan)
    limit = resolve(target, facts)
    if used is None or limit is None:
        return result_of(target, None, limit, "not_judged", "the CPU time of the target's processes was not seen")
    why = f"busiest process {format_percent(used.busiest)} of one core" if used.busiest is not None else ""
    return _literal(target, used.mean, limit, why)


def _signal(target: Target, span: Span, facts: Facts) -> TargetResult:
    seen = signal_mean(facts.samples, target.metric, span)
    if seen is None:
        known = sorted({name for sample in facts.samples for name in sample.signals})
        others = f" (seen: {', '.join(known)})" if known else ""
        why = f"the signal {target.metric!r} was not seen{others}"
        return result_of(target, None, target.value, "undecided", why)
    return _literal(target, seen, target.value)


def _memory(target: Target, facts: Facts) -> TargetResult:
    memory = facts.memory
    if memory is None or memory.outcome == "not_judged":
        why = memory.why if memory else "no memory samples of the target"
        return result_of(target, None, target.value, "not_judged", why)
    outcome: Outcome = "held" if memory.outcome == "stable" else "broken"
    return result_of(target, memory.slope, target.value, outcome, memory.why)


def _recovery(target: Target, facts: Facts) -> TargetResult:
    found = facts.recovery
    if found is None or found.outcome == "not_judged":
        why = found.why if found else "there was no recovery"
        return result_of(target, None, target.value, "not_judged", why)
    limit = target.value
    in_time = COMPARE[target.op]
    outcome: Outcome = "undecided"
    too_late = found.lower_s is not None and not in_time(found.lower_s, limit)
    if found.outcome == "not_recovered" or too_late:
        outcome = "broken"
    elif found.outcome in ("recovered", "no_impact") and found.upper_s is not None and in_time(found.upper_s, limit):
        outcome = "held"
    why = found.why
    if found.outcome in ("recovered", "no_impact") and found.lower_s is not None and found.upper_s is not None:
        between = f"between {format_duration(found.lower_s)} and {format_duration(found.upper_s)}"
        why = f"{between}; {why}" if why else between
    return result_of(target, found.seconds, limit, outcome, why)


def _literal(target: Target, observed: float, limit: float, why: str = "") -> TargetResult:
    return result_of(target, observed, limit, "held" if COMPARE[target.op](observed, limit) else "broken", why)


# How each metric is judged; what has no row is a signal.
OF_RUN: Mapping[str, Callable[[Target, Facts], TargetResult]] = {
    "recovery": _recovery,
    "memory_growth": _memory,
    **dict.fromkeys(("detect", "false_alarms"), lambda target, facts: detection.judge(target, facts.detection)),
}
OF_PHASE: Mapping[str, Callable[[Target, Span, Facts], TargetResult]] = {
    **dict.fromkeys((*ALLOWED_OVER, "error_rate"), proportions.judge),
    "max": _figure,
    "rps": _rps,
    "violating": _violating,
    "cpu": _cpu,
}
