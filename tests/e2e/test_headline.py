"""The headline runs: each fault is harmless on the hardened API, and found with the defect that it reveals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.observe import Run

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.calm]

LOAD = ("--scenario", "target", "--spawn-rate", "5000", "--warmup", "4s", "--request-timeout", "5s")
SHORTEST = (*LOAD, "--baseline", "15s", "--fault-for", "10s", "--recovery-limit", "60s")
"""The shortest phases that the command itself takes."""
DECIDED = (*LOAD, "--baseline", "6s", "--fault-for", "10s", "--recovery-limit", "30s", "--hold", "6s")
"""At 200 requests a second: 1,200 of them in each phase, where 299 decide every target. Enough to find a defect; a PASS
is looked at for longer, where one slow second of the machine weighs less."""
INCONCLUSIVE = 3


def decided(folder: Path, *args: str, defect: str = "", shortened: bool = False) -> tuple[int, Run]:
    """The exit code and the run. INCONCLUSIVE is the harness's own word that the machine was too busy to tell: that
    deserves another try."""
    for attempt in range(3):
        place = folder / f"try{attempt}"
        place.mkdir()
        run = Run(place, *args, env={"ANOMALY_API_DEFECT": defect}, shortened=shortened)
        try:
            code = run.end()
        finally:
            run.kill_group()
        if code != INCONCLUSIVE:
            break
    return code, run


@pytest.mark.parametrize("fault", ["redis-down", "redis-hang", "kafka-latency", "db-connection-limit"])
def test_the_hardened_service_is_not_accused(tmp_path: Path, fault: str) -> None:
    code, run = decided(tmp_path, "--fault", fault, *SHORTEST)
    assert code == 0, run.text()
    found = run.result()["faults"]
    assert [each["proven"] for each in found] == [True] and found[0]["undo_verified"] is True


@pytest.mark.parametrize(
    ("fault", "defect"),
    [
        ("redis-down", "no-fallback"),
        ("redis-hang", "no-timeout"),
        ("kafka-latency", "sync-kafka"),
        ("db-connection-limit", "small-pool"),
    ],
)
def test_the_defect_is_found(tmp_path: Path, fault: str, defect: str) -> None:
    code, run = decided(tmp_path, "--fault", fault, *DECIDED, defect=defect, shortened=True)
    assert code == 1, run.text()
    result = run.result()
    assert [f["proven"] for f in result["faults"]] == [True] and result["faults"][0]["undo_verified"] is True
    broken = [t for t in result["targets"] if t["outcome"] == "broken" and t["primary"]]
    assert any(t["phase"] == "fault" and t["observed"] is not None for t in broken), broken
    assert not any(t["phase"] == "baseline" for t in broken), broken
