"""The cells of one judged experiment: what became of each request name while its faults were on.

broken    as every request name's targets are, in the fault phase or after it; or a target of its own is broken
held      at most 5 % of its requests were bad, by the rule for proportions (59 requests without a bad one show it), and
          no target of its own is undecided
unknown   too few, too close, or the run cannot be trusted; `why` says which

p95 and 1 % of errors are for all requests together: a name with a tenth of the traffic could not be held to 1 % within
the seconds that a fault lasts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.analysis.record.spans import Span, span_of
from harness.analysis.rules.facts import Facts, sums_in
from harness.analysis.rules.proportions import is_upper_proportion, watch_limit
from harness.analysis.run_directory import Run, load_run, made_of
from harness.analysis.statistics.binomial import judge_proportion, meets, needed
from harness.analysis.verdict.judge import facts_of, judge
from harness.model.records import events as ev
from harness.model.records.load import STEP_S
from harness.model.records.many_runs.suite import Cell, CellOutcome
from harness.model.records.result import Result, TargetResult
from harness.model.records.targets import Target
from harness.model.target_grammar import parse_targets
from harness.model.units import format_percent
from harness.plan.isolation import ALLOWED

PHASES = ("fault", "after")


def cells_of(run_dir: Path) -> tuple[Cell, ...]:
    """Of a run directory, read and judged again. Raises UsageError for one that is damaged."""
    run = load_run(run_dir)
    return made_of(run_dir, lambda: cells(run, judge(run.plan, run.history, run.store, run.samples, run.alerts)))


def cells(run: Run, result: Result) -> tuple[Cell, ...]:
    """By request name. result: of this run. None of a run without a fault phase, and of one in which nobody asked."""
    facts, _, _ = facts_of(run.plan, run.history, run.store, run.samples)
    span = span_of(facts.spans, "fault")
    if span is None:
        return ()
    doubt = untrusted(run, result, facts, span)
    judged = [(target, one) for one in result.targets for target in _of(one) if one.phase in PHASES]
    names = {name for name in facts.counts(None, True) if name is not None}
    return tuple(_cell(name, judged, facts, span, doubt) for name in sorted(names))


def _of(result: TargetResult) -> Iterator[Target]:
    """What a primary result is about, where that is a share of bad requests."""
    for target in parse_targets(result.target)[:1] if result.primary else ():
        if is_upper_proportion(target):
            yield target


def _cell(name: str, judged: list[tuple[Target, TargetResult]], facts: Facts, span: Span, doubt: str) -> Cell:
    own = [(target, one) for target, one in judged if target.name == name]
    in_fault = [(target, one) for target, one in own if one.phase == "fault"]
    limit_ms = _latency_limit(name, judged, facts)
    bad, n = sums_in(facts.series(name, limit_ms, True), span)
    declared = [t.value for t, _ in in_fault if t.traits.failures and t.relative is None and t.other is None]
    allowed = max([ALLOWED, *declared])
    over = [(one, found) for _, one in judged for found in one.names if found.name == name]
    broken = [(one, f"{found.bad:,} of {found.n:,}") for one, found in over if found.outcome == "broken"]
    broken += [(one, one.why) for _, one in own if one.outcome == "broken"]
    excused = [(one, found.why) for one, found in over if found.outcome == "allowed" and one.phase == "fault"]
    breaks = next(iter(broken or excused), None)
    undecided = next((one for _, one in in_fault if one.outcome != "held"), None)
    outcome, why = _share(facts, span, name, limit_ms, allowed)
    if doubt:
        outcome, why, breaks = "unknown", doubt, None
    elif breaks is not None:
        outcome, why = "broken", breaks[1]
    elif not span.complete:
        outcome, why = "unknown", "the run ended in its fault phase"
    elif undecided is not None:
        outcome, why = "unknown", f"{undecided.target}: {undecided.why or 'not judged'}"
    return Cell(
        request=name,
        outcome=outcome,
        bad=bad,
        n=n,
        allowed=allowed,
        failed=min(bad, sums_in(facts.series(name, None, True), span)[0]),
        target=breaks[0].target if breaks is not None else "",
        why=why,
        may_fail=bool(facts.may_fail(name)) and not broken,
        independent=facts.independent(name),
    )


def _share(facts: Facts, span: Span, name: str, limit_ms: float | None, allowed: float) -> tuple[CellOutcome, str]:
    """Whether at most `allowed` of them were bad. One that has more and is not broken may be so by chance, or was so in
    baseline."""
    bad, n = sums_in(facts.series(name, limit_ms, True), span)
    if n == 0:
        return "unknown", "it was not asked for while the fault was on"
    chances = facts.dispersion(name, limit_ms, True).chances
    if allowed >= 1 or judge_proportion(bad, n, allowed, "<=", chances) == "held":
        return "held", ""
    said = f"{bad:,} of {n:,} were bad"
    if meets(bad, n, allowed, "<=") and n < (least := needed(allowed)):
        return "unknown", f"{said}: too few to say, {least} are needed"
    return "unknown", f"{said}: too close to {format_percent(allowed)} to say"


def _latency_limit(name: str, judged: list[tuple[Target, TargetResult]], facts: Facts) -> float | None:
    """That of its own p95 target in the fault phase, else that of all; None where no p95 target is."""
    found = {t.name: t for t, one in judged if t.traits.slow and one.phase == "fault" and t.name in (None, name)}
    target = found.get(name) or found.get(None)
    return watch_limit(target, facts) if target is not None else None


def untrusted(run: Run, result: Result, facts: Facts, span: Span) -> str:
    """Why nothing can be said of the fault phase of this run; empty: it can. (A run that is inconclusive because one
    target is undecided tells of every request name all the same.)"""
    proven = {fault.name for fault in result.faults if fault.proven}
    for fault in run.plan.faults:
        if fault.id not in proven:
            return f"the fault {fault.id} was not proven"
    if result.verdict != "inconclusive":
        return ""
    baseline = facts.baseline
    made = result.generator
    early = any(isinstance(event, ev.Stopped) for event in run.history)
    checks = (
        (early or not any(isinstance(event, ev.LoadEnded) for event in run.history), "the run ended early"),
        (baseline is None, "no baseline was seen"),
        (
            any(t.primary and t.phase == "baseline" and t.outcome == "broken" for t in result.targets),
            "targets were broken in baseline already",
        ),
        (
            result.impact is not None and result.impact.before_s is not None,
            "the service was failing before the injection",
        ),
        (any(isinstance(event, ev.LoadLost) for event in run.history), "a load process was lost"),
        (
            made is not None and any(clock.doubt_s > STEP_S for clock in made.clocks),
            "the clock of a load worker was uncertain",
        ),
        (
            baseline is not None and bool(run.store.gaps(baseline.start, span.end)),
            "not all requests were recorded",
        ),
        (
            made is not None and any(one.overlaps(made.saturated) for one in (baseline, span) if one is not None),
            "the load generator was saturated",
        ),
    )
    return next((why for found, why in checks if found), "")
