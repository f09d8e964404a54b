"""What a suite found, on a terminal: counts, score, and a line for each experiment, the broken ones first."""

from __future__ import annotations

from pathlib import Path

from harness.analysis.suite.age import stale_words
from harness.model.records.many_runs.gate import GateResult
from harness.model.records.many_runs.suite import Attempt, ExperimentResult, SuiteResult
from harness.model.units import format_duration
from harness.report.sentences.text import visible

ORDER = ("broken", "unknown", "not_run", "held")
_COLOURS = {"broken": "31", "unknown": "33", "not_run": "2", "held": "32"}
_SHOWN = {"broken": "BROKEN", "unknown": "unknown", "not_run": "not run", "held": "held"}


def summary(suite: SuiteResult, run_dir: Path, gate: GateResult | None, *, colour: bool = False) -> str:
    """gate: where the suite was compared with what was accepted."""
    lines = [counts_sentence(suite)]
    if gate is not None:
        lines.append(f"Against the base: {visible(gate.sentence, 400)}")
        lines += [f"  stale in the base: {visible(stale_words(one), 400)}" for one in gate.stale]
    lines.append("")
    for reason in suite.reasons:
        lines.append(visible(reason, 400))
    wide = max((len(one.name) for one in suite.experiments), default=0)
    for one in sorted(suite.experiments, key=lambda each: ORDER.index(each.outcome)):
        shown = f"{_SHOWN[one.outcome]:<8}"
        if colour:
            shown = f"\x1b[{_COLOURS[one.outcome]}m{shown}\x1b[0m"
        lines.append(f"  {shown} {visible(one.name, 60):<{min(wide, 60)}}  {_said(one)}".rstrip())
    by_reason: dict[str, list[str]] = {}
    for left in suite.excluded:
        by_reason.setdefault(left.why, []).append(left.name)
    for why, names in by_reason.items():
        lines.append(f"  left out {visible(', '.join(names), 120)}: {visible(why, 200)}")
    report = run_dir / "report.html"
    lines += ["", f"Report: {report}" if report.is_file() else f"{run_dir}/suite.json"]
    return "\n".join(lines)


def counts_sentence(suite: SuiteResult) -> str:
    """`held 17, broken 4, unknown 6 of 27; score 63 to 85 of 100`: never the percentage alone."""
    score = suite.score
    total = len(suite.experiments)
    parts = [f"held {score.held}", f"broken {score.broken}"]
    parts += [f"unknown {score.unknown}"] if score.unknown else []
    parts += [f"not run {score.not_run}"] if score.not_run else []
    low, high = f"{score.low:.0f}", f"{score.high:.0f}"
    interval = low if low == high else f"{low} to {high}"
    return f"{', '.join(parts)} of {total}; score {interval} of 100"


def _said(one: ExperimentResult) -> str:
    shown = one.shown
    if shown is None:
        return visible(one.why, 160)
    found = recovery_words(shown)
    if one.outcome != "held":
        found = visible(shown.reason, 160)
    again = f" ({len(one.attempts)} attempts)" if len(one.attempts) > 1 else ""
    return f"{found}{again}"


def recovery_words(attempt: Attempt) -> str:
    if attempt.recovery == "recovered" and attempt.recovery_s is not None:
        return f"recovered after {format_duration(round(attempt.recovery_s, 1))}"
    if attempt.recovery != "no_impact":
        return ""
    return "targets held again before the fault ended" if attempt.violating_s else "no target was broken"
