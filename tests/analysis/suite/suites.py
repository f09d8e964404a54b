"""Suites with chosen outcomes, for tests of what is said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.analysis.suite.score import outcome_of, score
from harness.model.records.many_runs.suite import (
    Attempt,
    Cell,
    CellOutcome,
    ExperimentOutcome,
    ExperimentResult,
    SuiteResult,
)
from harness.model.records.result import Verdict

VERDICTS: dict[str, Verdict] = {"held": "pass", "broken": "fail", "unknown": "inconclusive", "not_run": "inconclusive"}
ERRORS = "fault: error_rate < 1%"


def cell(name: str, outcome: CellOutcome = "held", bad: int | None = None, **more: object) -> Cell:
    bad = bad if bad is not None else 100 if outcome == "broken" else 0
    values: dict[str, object] = {
        "n": 100,
        "allowed": 0.05,
        "failed": bad,
        "target": ERRORS if outcome == "broken" else "",
    }
    return Cell(request=name, outcome=outcome, bad=bad, **{**values, **more})  # type: ignore[arg-type]


def attempt(
    outcome: ExperimentOutcome = "held", cells: Sequence[Cell] | Mapping[str, CellOutcome] = (), **more: object
) -> Attempt:
    made = tuple(cell(name, one) for name, one in cells.items()) if isinstance(cells, Mapping) else tuple(cells)
    broken = tuple(dict.fromkeys(one.target for one in made if one.outcome == "broken" and not one.may_fail))
    values: dict[str, object] = {
        "directory": "01-x",
        "verdict": VERDICTS[outcome],
        "exit_code": {"held": 0, "broken": 1}.get(outcome, 3),
        "reason": f"it was {outcome}.",
        "started": None,
        "seconds": 60.0,
        "broken_targets": broken if outcome == "broken" else (),
    }
    return Attempt(outcome=outcome, cells=made, **{**values, **more})  # type: ignore[arg-type]


def experiment(name: str = "redis-down", *attempts: Attempt, **more: object) -> ExperimentResult:
    dependency, _, kind = name.partition("-") if name != "control" else ("", "", "")
    values: dict[str, object] = {
        "faults": (name,),
        "dependency": dependency,
        "kind": kind,
        "definition": f"definition of {name}",
        "outcome": outcome_of(attempts),
        "command": f"harness run --fault {name}",
    }
    return ExperimentResult(name=name, attempts=attempts, **{**values, **more})  # type: ignore[arg-type]


def suite(*experiments: ExperimentResult, **more: object) -> SuiteResult:
    values: dict[str, object] = {
        "name": "standard",
        "profile": "standard",
        "exit_code": 0,
        "reasons": (),
        "started": None,
        "seconds": 600.0,
        "scenario": "target",
        "scale": 0.02,
        "rate": 200.0,
        "model": "open",
        "stack": "embedded",
        "seed": 1,
        "target_url": "http://127.0.0.1:9",
        "target_version": "1.0",
        "harness": "0.1.0",
        "machine": "test",
        "command": "harness suite",
        "load": "load",
        "locustfile_sha256": "0",
        "score": score(experiments),
    }
    return SuiteResult(experiments=experiments, **{**values, **more})  # type: ignore[arg-type]
