"""Two sides -> a Comparison. The same files always give the same one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.analysis.comparison import answer
from harness.analysis.comparison.harm import harm_of, p95_target, span_s
from harness.analysis.run_directory import load_run, made_of, read_plan
from harness.analysis.verdict.judge import judge
from harness.compare.groups import Named, sides
from harness.compare.same import differences, other_arrivals, refuse_others
from harness.model.errors import UsageError
from harness.model.exit_codes import ExitCode
from harness.model.records import events as ev
from harness.model.records.many_runs.group import Answer, Comparison, ComparisonRow, Method, Middle, RunFigures
from harness.model.records.plan import Plan
from harness.model.records.result import PhaseResult, Result

DEFAULT_MARGIN = 0.5
MOST_MARGIN = 10.0

ROWS = ("harm", "violating_s", "recovery_s", "error_rate", "p95_ms", "baseline_p95_ms", "rps")
_TWIN = "the other of its pair is left out"
EXIT_CODES: dict[Answer, ExitCode] = {
    "worse": ExitCode.FAIL,
    "not_worse": ExitCode.PASS,
    "cannot_tell": ExitCode.INCONCLUSIVE,
}


def compare(base: Path, new: Path | None = None, *, margin: float = DEFAULT_MARGIN) -> Comparison:
    """NEW against BASE, or, of a group of pairs, its B against its A. Raises UsageError for what cannot be compared."""
    if not 0 <= margin <= MOST_MARGIN:
        raise UsageError(f"a margin of {margin:g} is no change", hint="0.5 is 50 %; 10 at most")
    named = sides(base, new)
    plans = [(one.path, read_plan(one.path)) for one in (*named.base, *named.new)]
    first = plans[0][1]
    refuse_others(plans[0][0], first, plans[1:])
    limit_ms = _limit(first, named.base)
    seen: dict[tuple[str, float], Path] = {}
    here = tuple(_figures(one, limit_ms, seen) for one in named.base)
    there = tuple(_figures(one, limit_ms, seen) for one in named.new)
    if named.paired:
        here, there = _whole_pairs(here, there), _whole_pairs(there, here)
    counted = [[one for one in side if not one.left_out] for side in (here, there)]
    if not all(counted):
        one = next(one for one in (*here, *there) if one.left_out not in ("", _TWIN))
        raise UsageError(f"none of these runs can be compared: {one.directory}: {one.left_out}")
    method: Method = "pairs" if named.paired else "one_to_one" if named.single else "groups"
    base_logs, new_logs = ([answer.log_harm(one.harm or 0.0) for one in used] for used in counted)
    told = (answer.of_pairs if named.paired else answer.of_groups)(base_logs, new_logs, margin)
    fewest = min(len(used) for used in counted)
    held_back = _held_back(told.answer, here, there)
    said: Answer = "cannot_tell" if held_back or named.single else told.answer
    side_plans = [[plan for _, plan in part] for part in (plans[: len(here)], plans[len(here) :])]
    return Comparison(
        answer=said,
        exit_code=int(EXIT_CODES[said]),
        method=method,
        margin=margin,
        pairs=fewest,
        p=None if named.single else told.p,
        change=round(math.expm1(told.log_change), 6),
        upper=None if math.isinf(told.log_upper) else round(math.expm1(told.log_upper), 6),
        spread=None if told.spread is None else round(told.spread, 6),
        needed=answer.needed(told, fewest, margin) if said == "cannot_tell" and not held_back else None,
        why=held_back,
        limit_ms=limit_ms,
        span_s=span_s(first),
        scenario=first.scenario.name,
        base=here,
        new=there,
        rows=tuple(_row(metric, *counted) for metric in ROWS),
        differs=(*(other_arrivals(*side_plans) if named.paired else ()), *differences(*side_plans)),
    )


def _figures(one: Named, limit_ms: float | None, seen: dict[tuple[str, float], Path]) -> RunFigures:
    """Of one run. seen: when the runs before it began, by which a copy is known."""
    run = load_run(one.path)
    for began in (event for event in run.history if isinstance(event, ev.Started)):
        if (other := seen.setdefault((began.wall, began.monotonic), one.path)) != one.path:
            raise UsageError(f"{one.path} and {other} are the same run", hint="a run counts once")
    found = RunFigures(directory=str(one.path), pair=one.pair)
    harm = made_of(one.path, lambda: harm_of(run.plan, run.history, run.store, limit_ms))
    if isinstance(harm, str):
        return _but(found, left_out=harm)
    result = made_of(one.path, lambda: judge(run.plan, run.history, run.store, run.samples, run.alerts))
    found = _but(found, verdict=result.verdict)
    if any(not fault.proven for fault in result.faults):
        return _but(found, left_out="its fault is not proven")
    phases = {phase.name: phase for phase in result.phases}
    fault, baseline = phases.get("fault"), phases.get("baseline")
    if _starved(result, baseline, run.plan):
        return _but(found, left_out="its load generator could not keep up")
    return _but(
        found,
        harm=round(harm.harm, 3),
        bad=harm.bad,
        n=harm.n,
        baseline_share=round(harm.baseline_share, 6),
        violating_s=None if result.impact is None else result.impact.violating_s,
        recovery=None if result.recovery is None else result.recovery.outcome,
        recovery_s=None if result.recovery is None else result.recovery.seconds,
        error_rate=None if fault is None else fault.error_rate,
        p95_ms=None if fault is None else fault.p95_ms,
        baseline_p95_ms=None if baseline is None else baseline.p95_ms,
        rps=None if fault is None else fault.rps,
    )


def _starved(result: Result, baseline: PhaseResult | None, plan: Plan) -> bool:
    """Whether failures of what is compared may be the generator's own."""
    fault = next((phase for phase in result.phases if phase.name == "fault"), None)
    if result.generator is None or baseline is None or fault is None:
        return False
    end_s = fault.start_s + span_s(plan)
    return any(low < end_s and high > baseline.start_s for low, high in result.generator.saturated)


def _whole_pairs(side: Sequence[RunFigures], other: Sequence[RunFigures]) -> tuple[RunFigures, ...]:
    return tuple(
        _but(one, left_out=_TWIN) if twin.left_out and not one.left_out else one
        for one, twin in zip(side, other, strict=True)
    )


def _held_back(said: Answer, base: Sequence[RunFigures], new: Sequence[RunFigures]) -> str:
    """A run may be missing because of what would have counted in it: the worst of NEW, or of BASE."""
    side, name = (base, "BASE") if said == "worse" else (new, "NEW")
    out = [one for one in side if one.left_out and one.left_out != _TWIN]
    if said == "cannot_tell" or not out:
        return ""
    words = "run is" if len(out) == 1 else "runs are"
    return f"{len(out)} {words} left out of {name}, which may be the ones that did most harm"


def _limit(plan: Plan, base: Sequence[Named]) -> float | None:
    """Over which a request is a slow one, in every run: as planned, or where it is relative to baseline, BASE's."""
    target = p95_target(plan)
    if target is None:
        return None
    if all(limit.relative is None for limit in target.limits):
        return max(limit.value for limit in target.limits)
    found = []
    for one in base:
        plan, history, store, samples = load_run(one.path)
        result = made_of(one.path, lambda: judge(plan, history, store, samples))  # noqa: B023  # called at once
        found += [each.limit for each in result.targets if each.target == target.text and each.phase == target.phase]
    known = [limit for limit in found if limit is not None]
    return statistics.median(known) if known else None


def _row(metric: str, base: Sequence[RunFigures], new: Sequence[RunFigures]) -> ComparisonRow:
    return ComparisonRow(metric=metric, base=_middle(metric, base), new=_middle(metric, new))


def _middle(metric: str, runs: Sequence[RunFigures]) -> Middle:
    known = [value for run in runs if (value := getattr(run, metric)) is not None]
    if not known:
        return Middle(median=None, low=None, high=None, known=0, of=len(runs))
    return Middle(median=statistics.median(known), low=min(known), high=max(known), known=len(known), of=len(runs))


def _but(figures: RunFigures, **changed: object) -> RunFigures:
    return msgspec.structs.replace(figures, **changed)
