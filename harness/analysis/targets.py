"""Did a target hold in its phase? One function a kind of metric; docs/targets.md says the rules in words.

held         met, with enough requests to say so
broken       not met, and not by chance
undecided    too close or too little was seen; `why` says which
not_judged   it does not apply here (recovery in a control run) or cannot be known (CPU of a foreign machine)
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis import binomial
from harness.analysis.cells import NameTotals, Totals
from harness.analysis.sampled import cpu_share, signal_mean
from harness.analysis.spans import Span, span_of
from harness.analysis.windows import WindowStore
from harness.model.plan import Plan
from harness.model.result import MemoryResult, Outcome, RecoveryResult, TargetResult
from harness.model.samples import Sample
from harness.model.target_grammar import ALLOWED_OVER, METRICS
from harness.model.targets import Op, Target
from harness.model.units import format_duration, format_ms, format_percent

COMPARE: Mapping[Op, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass
class Facts:
    """What targets are judged on. violating: stretches in which a target of recovery was broken.

    recovery and memory are None until they are known (while baseline is judged, for one).
    """

    plan: Plan
    store: WindowStore
    spans: Sequence[Span]
    samples: Sequence[Sample] = ()
    recovery: RecoveryResult | None = None
    memory: MemoryResult | None = None
    violating: Sequence[tuple[float, float]] = ()
    _totals: dict[str, Totals] = field(default_factory=dict)

    def totals(self, span: Span) -> Totals:
        if span.name not in self._totals:
            self._totals[span.name] = self.store.totals(span.start, span.end)
        return self._totals[span.name]

    @property
    def open_model(self) -> bool:
        return self.plan.load.rate is not None


def judge_target(target: Target, facts: Facts) -> TargetResult:
    """Judge one target in its phase."""
    if target.metric == "recovery":
        return _recovery(target, facts)
    if target.metric == "memory_growth":
        return _memory(target, facts)
    span = span_of(facts.spans, target.phase or "")
    if span is None:
        return _result(target, None, None, "not_judged", f"the run had no {target.phase} phase")
    if facts.store.end <= span.start and target.metric in (*ALLOWED_OVER, "max", "error_rate", "rps"):
        return _result(target, None, None, "undecided", "nothing was recorded in this phase")
    if target.metric in ALLOWED_OVER:
        return _percentile(target, span, facts)
    if target.metric == "max":
        return _max(target, span, facts)
    if target.metric == "error_rate":
        return _error_rate(target, span, facts)
    if target.metric == "rps":
        return _rps(target, span, facts)
    if target.metric == "violating":
        return _violating(target, span, facts)
    if target.metric == "cpu":
        return _cpu(target, span, facts)
    return _signal(target, span, facts)


def resolve(target: Target, facts: Facts) -> float | None:
    """The limit in the target's own unit: the value, or a factor of what this run's baseline showed.

    None when the baseline showed nothing. "of plan" is resolved where it is judged.
    """
    if target.relative != "baseline":
        return target.value
    span = span_of(facts.spans, "baseline")
    if span is None:
        return None
    base = observe(target, span, facts)
    return None if base is None else target.value * base


def observe(target: Target, span: Span, facts: Facts) -> float | None:
    """What the phase showed, in the target's unit; None when nothing did."""
    totals = facts.totals(span)
    if target.metric in ALLOWED_OVER:
        return totals.of(target.name).quantile_ms(1 - ALLOWED_OVER[target.metric])
    if target.metric == "max":
        return totals.of(target.name).max_ms or None
    if target.metric == "error_rate":
        bad, n = _errors(target, totals)
        return bad / n if n else None
    if target.metric == "rps":
        return totals.of(target.name).replies / span.seconds
    if target.metric == "cpu":
        used = cpu_share(facts.samples, span, facts.plan)
        return None if used is None else used.mean
    if target.metric not in METRICS:
        return signal_mean(facts.samples, target.metric, span)
    return None


def is_upper_proportion(target: Target) -> bool:
    """A bound on the share of bad requests: what recovery and impact are judged on."""
    return target.op in ("<", "<=") and (target.metric in ALLOWED_OVER or target.metric == "error_rate")


def recovery_targets(plan: Plan) -> tuple[Target, ...]:
    """The `after` values of the primary error_rate and percentile targets, named ones too."""
    return tuple(t for t in plan.targets if t.primary and t.phase == "after" and is_upper_proportion(t))


def proportion_op(target: Target) -> Op:
    """How bad/n is compared: error_rate as written; a percentile target allows *at most* its share."""
    return target.op if target.metric == "error_rate" else "<="


def _percentile(target: Target, span: Span, facts: Facts) -> TargetResult:
    limit = resolve(target, facts)
    totals = facts.totals(span)
    names = totals.of(target.name)
    p = ALLOWED_OVER[target.metric]
    observed = names.quantile_ms(1 - p)
    if limit is None:
        return _result(target, observed, None, "undecided", "the baseline showed nothing to compare with")
    if names.ok == 0:
        return _without_success(target, limit, names, totals)
    # A percentile above the limit is the same claim with the roles exchanged.
    op: Op = "<=" if target.op in ("<", "<=") else ">"
    if facts.store.counted_exactly(limit, span.start):
        over = facts.store.over(target.name, limit, span.start, span.end)
        outcome = binomial.judge_proportion(over, names.ok, p, op)
        observed = _on_its_side(observed, limit, binomial.meets(over, names.ok, p, "<="))
        return _result(target, observed, limit, outcome, _share(over, names.ok, limit, outcome, p, op))
    low, high = names.over(limit)
    outcome = binomial.judge_proportion(low, names.ok, p, op)
    if outcome != binomial.judge_proportion(high, names.ok, p, op):
        why = f"within 1 % of {format_ms(limit)}, and this limit was not counted exactly during the run"
        return _result(target, observed, limit, "undecided", why)
    return _result(target, observed, limit, outcome, _share(low, names.ok, limit, outcome, p, op))


def _without_success(target: Target, limit: float, names: NameTotals, totals: Totals) -> TargetResult:
    attempts = totals.attempts if target.name is None else names.requests
    if attempts == 0:
        seen = f"no request named {target.name!r} was seen" if target.name else "no request was seen"
        return _result(target, None, limit, "undecided", seen)
    return _result(target, None, limit, "broken", f"not one of {attempts:,} requests succeeded")


def _max(target: Target, span: Span, facts: Facts) -> TargetResult:
    limit = resolve(target, facts)
    totals = facts.totals(span)
    names = totals.of(target.name)
    if limit is None:
        return _result(target, names.max_ms or None, None, "undecided", "the baseline showed nothing to compare with")
    if names.ok == 0:
        return _without_success(target, limit, names, totals)
    return _literal(target, names.max_ms, limit)


def _error_rate(target: Target, span: Span, facts: Facts) -> TargetResult:
    limit = resolve(target, facts)
    bad, n = _errors(target, facts.totals(span))
    if n == 0:
        seen = f"no request named {target.name!r} was seen" if target.name else "no request was seen"
        return _result(target, None, limit, "undecided", seen)
    if limit is None:
        return _result(target, bad / n, None, "undecided", "the baseline showed nothing to compare with")
    outcome = binomial.judge_proportion(bad, n, limit, target.op)
    virtual = facts.totals(span).of(target.name)
    why = f"{bad:,} of {n:,} requests failed"
    if target.name is None and facts.totals(span).unsent_task:
        own = facts.totals(span).unsent_task
        why += f", {own:,} of them never sent because of the locustfile: users in a task's own time, or unable to start"
    if virtual.backfilled_failed:
        why += f", {virtual.backfilled_failed:,} of them backfilled"
    if outcome == "undecided":
        why += f"; {_undecided(bad, n, limit, target.op)}"
    return _result(target, bad / n, limit, outcome, why)


def _rps(target: Target, span: Span, facts: Facts) -> TargetResult:
    totals = facts.totals(span)
    observed = totals.of(target.name).replies / span.seconds
    if target.relative != "plan":
        limit = resolve(target, facts)
        if limit is None:
            return _result(target, observed, None, "undecided", "the baseline showed nothing to compare with")
        return _literal(target, observed, limit)
    if not facts.open_model:
        return _result(target, observed, None, "not_judged", "the closed model has no plan to compare with")
    if target.name is not None:
        return _result(target, observed, None, "not_judged", "the plan counts arrivals, not requests by name")
    if totals.planned == 0:
        return _result(target, observed, None, "undecided", "no arrival was planned in this phase")
    # A task that asks for nothing can get no reply: that is no doing of the target's.
    replied, planned = totals.replied, totals.planned - totals.empty
    if planned <= 0:
        return _result(target, observed, None, "undecided", "every task ended without a request")
    why = f"{replied:,} of {planned:,} scheduled arrivals got a reply"
    if totals.empty:
        why += f"; {totals.empty:,} more were empty: their task ended without a request"
    # Compared as counts, so that a planned rate of 200.3 does not blur the edge.
    held = COMPARE[target.op](replied, target.value * planned)
    limit = target.value * planned / span.seconds
    return _result(target, replied / span.seconds, limit, "held" if held else "broken", why)


def _violating(target: Target, span: Span, facts: Facts) -> TargetResult:
    if not recovery_targets(facts.plan):
        return _result(target, None, target.value, "not_judged", "there is no target whose violation could be timed")
    return _literal(target, violating_in(facts.violating, span), target.value)


def violating_in(violating: Sequence[tuple[float, float]], span: Span) -> float:
    """Seconds of violating time inside a phase."""
    total = sum((max(0.0, min(end, span.end_s) - max(start, span.start_s)) for start, end in violating), 0.0)
    return round(total, 6)


def _cpu(target: Target, span: Span, facts: Facts) -> TargetResult:
    used = cpu_share(facts.samples, span, facts.plan)
    limit = resolve(target, facts)
    if used is None or limit is None:
        return _result(target, None, limit, "not_judged", "the CPU time of the target's processes was not seen")
    why = f"busiest process {format_percent(used.busiest)} of one core" if used.busiest is not None else ""
    return _literal(target, used.mean, limit, why)


def _signal(target: Target, span: Span, facts: Facts) -> TargetResult:
    seen = signal_mean(facts.samples, target.metric, span)
    if seen is None:
        known = sorted({name for sample in facts.samples for name in sample.signals})
        why = f"the signal {target.metric!r} was not seen"
        return _result(target, None, target.value, "undecided", why + (f" (seen: {', '.join(known)})" if known else ""))
    return _literal(target, seen, target.value)


def _memory(target: Target, facts: Facts) -> TargetResult:
    memory = facts.memory
    if memory is None or memory.outcome == "not_judged":
        why = memory.why if memory else "no memory samples of the target"
        return _result(target, None, target.value, "not_judged", why)
    outcome: Outcome = "held" if memory.outcome == "stable" else "broken"
    return _result(target, memory.slope, target.value, outcome, memory.why)


def _recovery(target: Target, facts: Facts) -> TargetResult:
    found = facts.recovery
    if found is None or found.outcome == "not_judged":
        why = found.why if found else "there was no recovery"
        return _result(target, None, target.value, "not_judged", why)
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
    return _result(target, found.seconds, limit, outcome, why)


def _errors(target: Target, totals: Totals) -> tuple[int, int]:
    """(bad, n) of error_rate. By request name only requests are seen: what was never sent has no name."""
    if target.name is None:
        return totals.expected_bad, totals.expected
    names = totals.of(target.name)
    return names.expected_failed, names.expected


def _literal(target: Target, observed: float, limit: float, why: str = "") -> TargetResult:
    return _result(target, observed, limit, "held" if COMPARE[target.op](observed, limit) else "broken", why)


def _on_its_side(observed: float | None, limit: float, met: bool) -> float | None:
    """The exact count decides; the sketch's value, good to 1 %, is kept on the side of the limit it decided for."""
    if observed is None:
        return None
    return min(observed, limit * 0.999) if met else max(observed, limit)


def _share(over: int, n: int, limit: float, outcome: Outcome, p: float, op: Op) -> str:
    why = f"{over:,} of {n:,} ok requests took {format_ms(limit)} or longer"
    return f"{why}; {_undecided(over, n, p, op)}" if outcome == "undecided" else why


def _undecided(bad: int, n: int, p: float, op: Op) -> str:
    lower = 1 - p if op in (">", ">=") else p
    if binomial.meets(bad, n, p, op):
        return f"too few to be sure, {binomial.needed(lower):,} are needed"
    return f"too close to call, {format_percent(bad / n)} against {format_percent(p)} can be chance"


def _result(
    target: Target, observed: float | None, limit: float | None, outcome: Outcome, why: str = ""
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
    )
