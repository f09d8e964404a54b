"""The whole pipeline against a service that the test breaks and mends at known instants: the numbers are right."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.observe import Run, family
from tests.e2e.programmable import Programmable

pytestmark = [pytest.mark.slow, pytest.mark.calm]

FILE = Path(__file__).with_name("locustfile_simple.py")


@pytest.fixture
def service() -> Iterator[Programmable]:
    target = Programmable()
    yield target
    target.close()


def now() -> float:
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def started(run: Run) -> float:
    """t0 on CLOCK_MONOTONIC."""
    at: float = next(event["monotonic"] for event in run.events() if event["event"] == "started")
    return at


def start(service: Programmable, folder: Path) -> Run:
    """At 200 requests a second, five seconds of each phase decide its targets: 1,000 where 299 are needed."""
    return Run(
        folder,
        *("--host", f"http://127.0.0.1:{service.port}", "--locustfile", str(FILE), "--fault", "none"),
        *("--rate", "200", "--users", "20", "--spawn-rate", "100", "--warmup", "1s", "--baseline", "5s"),
        *("--fault-for", "10s", "--recovery-limit", "30s", "--hold", "5s", "--request-timeout", "5s"),
        *("--target", "p95 < 2s"),
        shortened=True,
    )


def test_broken_time_is_found_where_it_was(service: Programmable, tmp_path: Path) -> None:
    run = start(service, tmp_path)
    try:
        run.wait_phase("fault")
        broke = service.set(True)
        run.wait_phase("recovery")
        mended = service.set(False)
        assert run.end() == 1, run.text()
    finally:
        run.kill_group()
    t0 = started(run)
    result = run.result()
    stretches = result["impact"]["violating"]
    # 100 ms steps, an edge inside one, at 200 requests a second.
    assert abs(stretches[0][0] - (broke - t0)) <= 0.3, (stretches, broke - t0)
    assert abs(stretches[-1][1] - (mended - t0)) <= 0.3, (stretches, mended - t0)
    broken = [t for t in result["targets"] if t["outcome"] == "broken" and t["primary"]]
    assert [(t["metric"], t["phase"]) for t in broken] == [("error_rate", "fault")], broken
    assert result["verdict"] == "fail" and any("error" in reason.lower() for reason in result["reasons"])


@pytest.mark.stack
def test_recovery_on_the_real_stack_is_when_the_service_really_recovered(tmp_path: Path) -> None:
    """The test stops the API's process during a fault that does not hurt it, and lets it go 2 s after the undo.

    A machine that is busy for a moment before or long after that hides what the test looks for: again.
    """
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        run, stopped, went_on = with_a_stopped_api(folder)
        t0 = started(run)
        impact, recovery = run.result()["impact"], run.result()["recovery"]
        # Latency is a target too: a machine that is slow for a second before the stop breaks it.
        early = impact["start_s"] < stopped - t0 - 0.3
        if recovery["outcome"] != "undecided" and not early:
            break
    assert abs(impact["start_s"] - (stopped - t0)) <= 0.3, (impact, stopped - t0)
    truth = went_on - t0 - recovery["zero_s"]
    assert 1.5 < truth < 10 and recovery["outcome"] == "recovered", (recovery, truth)
    # Not before it went on; afterwards it has to answer what had piled up, and a busy machine takes its time for it.
    assert truth - 0.3 <= recovery["upper_s"] and recovery["seconds"] >= truth - 0.3, (recovery, truth)
    assert recovery["lower_s"] <= truth + 3, (recovery, truth)


def with_a_stopped_api(folder: Path) -> tuple[Run, float, float]:
    """The ended run, and when (monotonic seconds) the API was stopped and went on."""
    run = Run(
        folder,
        *("--fault", "kafka-latency:latency=50ms", "--scenario", "target", "--spawn-rate", "5000", "--warmup", "3s"),
        *("--baseline", "15s", "--fault-for", "10s", "--recovery-limit", "30s", "--request-timeout", "5s"),
        # Whatever meets the stopped process waits for longer than this; a busy machine alone does not.
        *("--target", "p95 < 1s"),
    )
    try:
        run.wait_proven()
        api = [pid for pid, label in family(run.process.pid).items() if "-m anomaly_api" in label]
        assert len(api) == 1, api
        time.sleep(6)
        stopped = now()
        os.kill(api[0], signal.SIGSTOP)
        try:
            run.wait_for(lambda e: e["event"] == "undo_verified")
            time.sleep(2)
        finally:
            os.kill(api[0], signal.SIGCONT)
        went_on = now()
        assert run.end() == 1, run.text()
    finally:
        run.kill_group()
    return run, stopped, went_on


def test_a_service_that_is_not_broken_shows_no_impact_and_analyze_agrees(service: Programmable, tmp_path: Path) -> None:
    run = start(service, tmp_path)
    try:
        assert run.end() == 0, run.text()
    finally:
        run.kill_group()
    result = run.result()
    assert result["verdict"] == "pass" and result["recovery"]["outcome"] == "not_judged"
    assert result["impact"]["start_s"] is None and result["impact"]["violating_s"] == 0
    from tests.e2e.standing import harness_command

    again = harness_command("analyze", str(run.dir), "--dry-run", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == result, "analyze is a pure function of the recorded files"
