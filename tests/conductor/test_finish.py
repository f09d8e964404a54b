"""The reports at the end of a run: one that fails takes no other with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis import rundir
from harness.conductor.finish import write_reports
from harness.model.plan import Plan
from harness.model.result import Result
from tests.analysis.histories import Scene


def test_a_bug_in_one_report_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug is made: there is no other way to have one."""
    run_dir = Scene(rate=50.0).build().write(tmp_path)
    rundir.write_result(run_dir, rundir.analyze(run_dir))

    def bug(_plan: Plan, _result: Result) -> str:
        raise KeyError("phase")

    monkeypatch.setattr("harness.report.markdown.render", bug)
    told: list[str] = []
    write_reports(run_dir, told.append)
    assert told == ["report.md could not be written: KeyError: 'phase'"]
    assert (run_dir / "report.html").stat().st_size > 1_000_000 and (run_dir / "junit.xml").exists()
