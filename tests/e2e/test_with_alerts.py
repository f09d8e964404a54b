"""`--with-alerts` as people use it: a suite on the embedded stack with its own Prometheus and Alertmanager. An alert
that detects its fault, one that never fires, one of a fault that hurts nobody: each where it is expected."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.model.jsonl import read_lines
from harness.model.records.alerts import AlertRow, Changed
from tests.e2e.observe import wait_until
from tests.e2e.test_suite import OPTIONS, Suite, result
from tests.support.servers.alerting import programs

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.calm]

EXPERIMENTS = """
experiments:
  - name: paused
    faults: [api-pause]
    fault_for: 12s
    expected_alerts: [SampleApiDown, KafkaDown]
    targets: ["detect{SampleApiDown} < 30s"]
  - {name: no cache, faults: [redis-down], fault_for: 10s, expected_alerts: [RedisDown]}
"""
CALM = OPTIONS.replace("rate: 50", "rate: 20")


def fired(folder: Path, alert: str) -> list[float]:
    """When the sources said so, on the experiment's clock."""
    rows: list[AlertRow] = list(read_lines(folder / "alerts.jsonl", AlertRow))
    return [one.at for one in rows if isinstance(one, Changed) and one.alert == alert and one.state == "firing"]


@pytest.mark.timeout(300)
def test_alerts_of_a_suite_are_held_against_the_experiment_that_expects_them(tmp_path: Path) -> None:
    programs()
    suite = Suite(tmp_path, "--with-alerts", experiments=EXPERIMENTS, options=CALM)
    try:
        assert wait_until(suite.ended, 240), suite.text()
    finally:
        suite.kill_group()
    paused, cache = (suite.dir / name for name in ("01-paused", "02-no-cache"))
    first, second = outcomes(paused), outcomes(cache)
    # KafkaDown cannot fire: while the API is paused nobody says anything of Kafka.
    assert first["SampleApiDown"]["outcome"] == "detected" and first["KafkaDown"]["outcome"] == "never_fired", (
        suite.text()
    )
    assert fired(paused, "KafkaDown") == []
    injected = next(one["at"] for one in suite.history("01-paused") if one["event"] == "fault_injected")
    seen = fired(paused, "SampleApiDown")
    assert seen and injected + 4 < seen[0] < injected + 12, "its rule waits for 4 s"
    assert first["SampleApiDown"]["seconds"] == pytest.approx(seen[0] - result(paused)["impact"]["start_s"], abs=1.1)
    judged = {one["target"]: one["outcome"] for one in result(paused)["targets"]}
    assert judged["detect{SampleApiDown} < 30s"] == "held"
    assert "KafkaDown" not in second and "RedisDown" not in first
    assert second["RedisDown"]["outcome"] == "fired_without_impact" and fired(cache, "RedisDown")
    told = json.loads((suite.dir / "suite.json").read_text())
    assert "SampleApiDown" in json.dumps(told) and "KafkaDown" in (suite.dir / "report.md").read_text()


def outcomes(folder: Path) -> dict[str, dict[str, Any]]:
    return {one["alert"]: one for one in result(folder)["detection"]["alerts"]}
