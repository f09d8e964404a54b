"""Folders of runs and suites, made by hand."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from harness.model.jsonl import encode
from harness.model.records.many_runs.suite import Attempt, Cell, ExperimentOutcome, ExperimentResult, Score, SuiteResult
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from tests.report import sample

NOW = datetime.now(UTC)
OLD_S = 7200.0
"""Raw records of a run that has ended are older than this."""
replace = msgspec.structs.replace


def ago(**length: float) -> str:
    return (NOW - timedelta(**length)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def run(
    folder: Path,
    name: str,
    started: str,
    *,
    kind: sample.Kind = "pass",
    recovery_s: float | None = None,
    version: str = "1.0.0",
    raw: bool = False,
    edit_plan: dict[str, Any] | None = None,
    edit_result: dict[str, Any] | None = None,
) -> Path:
    """A run directory, as far as history looks at it."""
    plan: Plan = sample.plan(*(() if kind == "control" else (sample.planned_fault(),)))
    assert plan.provenance is not None
    plan = replace(plan, provenance=replace(plan.provenance, target_version=version), **(edit_plan or {}))
    result: Result = replace(sample.result(kind), started=started, **(edit_result or {}))
    if recovery_s is not None:
        assert result.recovery is not None
        result = replace(result, recovery=replace(result.recovery, outcome="recovered", seconds=recovery_s))
    made = folder / name
    made.mkdir(parents=True)
    (made / "plan.json").write_bytes(encode(plan))
    (made / "result.json").write_bytes(encode(result))
    if raw:
        add_raw(made)
    return made


def add_raw(folder: Path) -> None:
    (folder / "logs").mkdir()
    (folder / "history.jsonl").write_text("")
    for name in ("windows.jsonl", "samples.jsonl", "log.jsonl", "logs/load.log", "report.html"):
        (folder / name).write_text("x" * 1000)
    settle(folder)


def settle(folder: Path) -> None:
    """As if nobody had written to it for a while."""
    then = NOW.timestamp() - OLD_S
    for path in folder.rglob("*"):
        os.utime(path, (then, then), follow_symlinks=False)


def experiment(
    name: str, outcome: ExperimentOutcome, *, definition: str = "d", harm: int | None = None
) -> ExperimentResult:
    verdicts = {"held": ("pass", 0), "broken": ("fail", 1), "unknown": ("inconclusive", 3)}
    attempts: tuple[Attempt, ...] = ()
    if outcome != "not_run":
        verdict, code = verdicts[outcome]
        cell = Cell(request="GET /", outcome=outcome, bad=0, n=100, allowed=0.05)
        attempts = (
            Attempt(
                directory=f"01-{name}",
                outcome=outcome,
                verdict=verdict,  # type: ignore[arg-type]
                exit_code=code,
                reason="",
                started=None,
                seconds=40.0,
                harm=harm,
                cells=(cell,),
            ),
        )
    dependency, _, kind = name.partition("-")
    return ExperimentResult(
        name=name,
        faults=(f"{name}@5s+10s",),
        dependency=dependency,
        kind=kind,
        definition=definition,
        outcome=outcome,
        attempts=attempts,
    )


def suite(folder: Path, directory: str, started: str, *experiments: ExperimentResult, **edit: Any) -> Path:
    made = folder / directory
    made.mkdir(parents=True)
    result = SuiteResult(
        name="standard",
        profile="standard",
        exit_code=1,
        reasons=("2 experiments are broken",),
        started=started,
        seconds=600.0,
        scenario="target",
        scale=0.02,
        rate=200.0,
        model="open",
        stack="embedded",
        seed=1,
        target_url="http://127.0.0.1:1",
        target_version="1.0.0",
        harness="0.1.0",
        machine="Linux",
        command="harness",
        load="l1",
        locustfile_sha256="s",
        experiments=experiments,
        score=Score(held=0, broken=0, unknown=0, not_run=0, low=0.0, high=100.0),
    )
    (made / "suite.json").write_bytes(encode(replace(result, **edit)))
    return made
