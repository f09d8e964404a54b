"""The eight headline runs: each fault is harmless on the hardened API and found with the defect that it reveals."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.observe import Run

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.calm]

PHASES = (
    "--spawn-rate",
    "1000",
    "--warmup",
    "5s",
    "--baseline",
    "15s",
    "--fault-for",
    "12s",
    "--recovery-limit",
    "20s",
)
INCONCLUSIVE = 3


def run_once(folder: Path, fault: str, defect: str) -> tuple[int, Run]:
    folder.mkdir()
    run = Run(folder, "--fault", fault, "--scenario", "target", *PHASES, env={"ANOMALY_API_DEFECT": defect})
    try:
        return run.end(), run
    finally:
        run.kill_group()


@pytest.mark.parametrize(
    ("fault", "defect"),
    [
        ("redis-down", ""),
        ("redis-down", "no-fallback"),
        ("redis-hang", ""),
        ("redis-hang", "no-timeout"),
        ("kafka-latency", ""),
        ("kafka-latency", "sync-kafka"),
        ("db-connection-limit", ""),
        ("db-connection-limit", "small-pool"),
    ],
)
def test_the_defect_is_found_and_the_hardened_service_is_not_accused(tmp_path: Path, fault: str, defect: str) -> None:
    # INCONCLUSIVE is the harness's own word that the machine was too busy to tell: that deserves another try.
    for attempt in range(3):
        code, run = run_once(tmp_path / f"try{attempt}", fault, defect)
        if code != INCONCLUSIVE:
            break
    assert code == (1 if defect else 0), run.text()
    result = run.result()
    assert [f["proven"] for f in result["faults"]] == [True] and result["faults"][0]["undo_verified"] is True
    if defect:
        broken = [t for t in result["targets"] if t["outcome"] == "broken" and t["primary"]]
        assert any(t["phase"] == "fault" and t["observed"] is not None for t in broken), broken
        assert not any(t["phase"] == "baseline" for t in broken), broken
