"""The whole pipeline against a service that the test breaks and mends at known instants: the numbers are right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.observe import Run
from tests.e2e.programmable import Programmable

pytestmark = pytest.mark.slow

FILE = Path(__file__).with_name("locustfile_simple.py")


@pytest.fixture
def service() -> Iterator[Programmable]:
    target = Programmable()
    yield target
    target.close()


def start(service: Programmable, folder: Path) -> Run:
    return Run(
        folder,
        *("--host", f"http://127.0.0.1:{service.port}", "--locustfile", str(FILE), "--fault", "none"),
        *("--rate", "200", "--users", "20", "--spawn-rate", "100", "--warmup", "1s", "--baseline", "15s"),
        *("--fault-for", "10s", "--recovery-limit", "30s", "--request-timeout", "5s", "--target", "p95 < 2s"),
    )


def test_impact_and_recovery_are_found_where_they_were(service: Programmable, tmp_path: Path) -> None:
    run = start(service, tmp_path)
    try:
        run.wait_phase("fault")
        broke = service.set(True)
        run.wait_phase("recovery")
        mended = service.set(False)
        assert run.end() == 1, run.text()
    finally:
        run.kill_group()
    t0 = next(event["monotonic"] for event in run.events() if event["event"] == "started")
    result = run.result()
    impact, recovery = result["impact"], result["recovery"]
    # 100 ms steps, an edge inside one; the interval is the promise, the number should be within two steps of it.
    assert abs(impact["start_s"] - (broke - t0)) <= 0.3, (impact, broke - t0)
    truth = mended - t0 - recovery["zero_s"]
    assert recovery["outcome"] == "recovered", recovery
    assert recovery["lower_s"] - 0.05 <= truth <= recovery["upper_s"] + 0.05, (recovery, truth)
    assert abs(recovery["seconds"] - truth) <= 0.3, (recovery, truth)
    assert abs(impact["violating_s"] - (mended - broke)) <= 0.5, (impact, mended - broke)
    broken = [t for t in result["targets"] if t["outcome"] == "broken" and t["primary"]]
    assert [(t["metric"], t["phase"]) for t in broken] == [("error_rate", "fault")], broken
    assert result["verdict"] == "fail" and any("error" in reason.lower() for reason in result["reasons"])


def test_a_service_that_is_not_broken_shows_no_impact_and_analyze_agrees(service: Programmable, tmp_path: Path) -> None:
    run = start(service, tmp_path)
    try:
        assert run.end() == 0, run.text()
    finally:
        run.kill_group()
    result = run.result()
    assert result["verdict"] == "pass" and result["recovery"]["outcome"] == "no_impact"
    assert result["impact"]["start_s"] is None and result["impact"]["violating_s"] == 0
    from tests.e2e.standing import harness_command

    again = harness_command("analyze", str(run.dir), "--dry-run", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == result, "analyze is a pure function of the recorded files"
