"""The headline runs: each fault is harmless on the hardened API, and found with the defect that it reveals.

The cases are the chosen ones of the truth table (benchmarks/truth.py), which runs all of them, and more than once.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.analysis.run_directory import read_plan, read_result
from harness.report.findings.rules import findings
from tests.e2e.observe import Run


def _truth() -> ModuleType:
    """benchmarks/ is no package."""
    spec = importlib.util.spec_from_file_location("truth", Path(__file__).parents[2] / "benchmarks" / "truth.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["truth"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


truth = _truth()
HARDENED = [case for case in truth.CASES if case.chosen and case.kind == "hardened"]
FOUND = [case for case in truth.CASES if case.chosen and case.kind == "found"]

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.calm]

LOAD = ("--scenario", "target", "--spawn-rate", "5000", "--warmup", "4s", "--request-timeout", "5s", "--rate", "100")
SHORTEST = (*LOAD, "--baseline", "15s", "--fault-for", "10s", "--recovery-limit", "60s")
"""The shortest phases that the command itself takes."""
DECIDED = (*LOAD, "--baseline", "6s", "--fault-for", "10s", "--recovery-limit", "30s", "--hold", "6s")
"""At 100 requests a second: 600 of them in each phase, where 299 decide every target. Enough to find a defect; a PASS
is looked at for longer, where one slow second of the machine weighs less."""
DEFAULT = {"no-timeout", "lost-writes"}
"""Of the defects, one that a target finds and one that is found by what is read back after the load. All others are
`thorough`: what makes a finding is held on results (tests/report/test_findings.py), and what the defects do by
tests/api/test_api_defects.py. The hardened service is under a fault in tests/test_api.py: its script is redis-down with
these phases."""
INCONCLUSIVE = 3


def decided(folder: Path, *args: str, defect: str = "", shortened: bool = False) -> tuple[int, Run]:
    """The exit code and the run. INCONCLUSIVE is the harness's own word that the machine was too busy to tell: that
    deserves another try."""
    for attempt in range(3):
        place = folder / f"try{attempt}"
        place.mkdir()
        run = Run(place, *args, env={"ANOMALY_API_DEFECT": defect}, shortened=shortened, every_write=True)
        try:
            code = run.end()
        finally:
            run.kill_group()
        if code != INCONCLUSIVE:
            break
    return code, run


def cases(some: list[truth.Case], name: str) -> list[object]:  # type: ignore[name-defined]
    """With the fault or the defect as its name."""
    names = [getattr(case, name) for case in some]
    marks = [[pytest.mark.thorough] if one not in DEFAULT else [] for one in names]
    return [pytest.param(case, id=one, marks=mark) for case, one, mark in zip(some, names, marks, strict=True)]


def assert_not_accused(result: dict[str, Any]) -> None:
    """Of one fault on the hardened service, beside the verdict."""
    assert [each["proven"] for each in result["faults"]] == [True] and result["faults"][0]["undo_verified"] is True
    assert not any(each["found"] for each in result["signatures"]), result["signatures"]
    promised = result["acknowledged"]
    assert promised["there"] == promised["chosen"] > 100 and promised["lost"] == promised["unchecked"] == 0, promised


@pytest.mark.parametrize("case", cases(HARDENED, "fault"))
def test_the_hardened_service_is_not_accused(tmp_path: Path, case: truth.Case) -> None:  # type: ignore[name-defined]
    code, run = decided(tmp_path, "--fault", case.fault, *SHORTEST)
    assert code == 0, run.text()
    assert_not_accused(run.result())


@pytest.mark.parametrize("case", cases(FOUND, "defect"))
def test_the_defect_is_found(tmp_path: Path, case: truth.Case) -> None:  # type: ignore[name-defined]
    code, run = decided(tmp_path, "--fault", case.fault, *DECIDED, *case.flags, defect=case.defect, shortened=True)
    assert code == 1, run.text()
    result = run.result()
    assert [f["proven"] for f in result["faults"]] == [True] and result["faults"][0]["undo_verified"] is True
    broken = [t for t in result["targets"] if t["outcome"] == "broken" and t["primary"]]
    assert not any(t["phase"] == "baseline" for t in broken), broken
    assert case.reveals in {found.key for found in findings(read_plan(run.dir), read_result(run.dir))}, run.text()
    if case.reveals == "lost-writes":
        assert result["acknowledged"]["lost"] > 0 and "acknowledged writes" in result["reasons"][0], result["reasons"]
    else:
        assert any(t["phase"] == "fault" and t["observed"] is not None for t in broken), broken
    if case.defect == "leaky-pool":
        assert result["recovery"]["outcome"] == "not_recovered" and result["recovery"]["lower_s"] >= 30
