"""The whole pipeline against a service that breaks and mends at known instants: the numbers are right.

Short forms of benchmarks/recovery_accuracy.py and benchmarks/fault_edges.py, which print the accuracy.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import edges
from tests.e2e.edges import Seen, Watcher
from tests.e2e.measured import MeasuredSystem, Truth, recovery_truth, run_options, watch
from tests.e2e.observe import Run
from tests.e2e.programmable import FLAP_S, Kind, Programmable, outage
from tests.e2e.standing import harness_command

pytestmark = [pytest.mark.slow, pytest.mark.stack]

RPS = 200
# At 200 requests a second, five seconds of each phase decide its targets: 1,000 where 299 are needed.
SHORT = ("--baseline", "5s", "--fault-for", "4s", "--recovery-limit", "30s", "--hold", "5s", "--quiet")


@pytest.fixture
def system(tmp_path: Path) -> Iterator[MeasuredSystem]:
    made = MeasuredSystem(tmp_path)
    yield made
    made.close()


def measured(system: MeasuredSystem, kind: Kind, *more: str, mitigated: bool = False) -> tuple[Run, Truth]:
    run = system.start("--fault", "payments-down", *run_options(kind, RPS), *SHORT, *more, shortened=True)
    try:
        truth = watch(run, system.service, kind, random.Random(kind), mitigated=mitigated)
        run.end()
    finally:
        run.kill_group()
    return run, truth


def doubt(result: dict[str, Any], truth: Truth) -> float:
    """Seconds by which a busy machine may have shifted what anybody could see: requests sent late, or read late."""
    read_late = [change.first_after - change.at for change in truth.changes]
    return 0.1 + max(read_late, default=0.0) + (result["generator"]["lateness_p99_ms"] or 0.0) / 1000


@pytest.mark.calm
@pytest.mark.parametrize("kind", ["flapping", pytest.param("hang", marks=pytest.mark.thorough)])
def test_recovery_is_placed_when_the_service_was_really_well_again(system: MeasuredSystem, kind: Kind) -> None:
    run, truth = measured(system, kind)
    result = run.result()
    recovery, slack = result["recovery"], doubt(result, truth)
    true = recovery_truth(result, truth)
    assert recovery["outcome"] == "recovered" and true is not None and true >= 0.4, (recovery, truth)
    # What a hang has held back comes at once when it ends, and a busy machine takes its time for that.
    late = 0.5 if kind == "hang" else 0.0
    assert recovery["lower_s"] - slack - late <= true <= recovery["upper_s"] + slack, (recovery, truth)
    assert abs(recovery["seconds"] - true) <= 0.3 + slack + late, (recovery, truth)
    assert recovery["upper_s"] - recovery["lower_s"] <= 1.0, "200 requests a second place such an edge"
    assert truth.start is not None
    assert abs(result["impact"]["start_s"] - truth.start) <= 0.3 + slack, (result["impact"], truth)


@pytest.mark.calm
def test_a_service_that_copes_with_the_fault_is_mitigated_when_it_was_and_recovers_in_no_time(
    system: MeasuredSystem,
) -> None:
    """Broken for a while in the fault phase, well for more than the longest window (5 s) before the undo."""
    run, truth = measured(system, "20%", "--fault-for", "12s", mitigated=True)
    result = run.result()
    impact, slack = result["impact"], doubt(result, truth)
    assert truth.start is not None and truth.end is not None
    assert abs(impact["start_s"] - truth.start) <= 0.4 + slack, (impact, truth)
    assert abs(impact["mitigated_s"] - truth.end) <= 0.4 + slack, (impact, truth)
    stretches = impact["violating"]
    assert abs(stretches[0][0] - truth.start) <= 0.4 + slack, (stretches, truth)
    assert abs(stretches[-1][1] - truth.end) <= 0.4 + slack, (stretches, truth)
    assert result["recovery"]["outcome"] == "no_impact" and result["recovery"]["seconds"] == 0
    # Broken for 2 to 4 of the phase's 12 s, at 20 %: more than 1 % failed.
    broken = [t for t in result["targets"] if t["outcome"] == "broken" and t["primary"]]
    assert [(t["metric"], t["phase"]) for t in broken] == [("error_rate", "fault")], broken
    assert result["verdict"] == "fail" and any("error" in reason.lower() for reason in result["reasons"])


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Seen]]:
    """Two faults on a path that the service does not need, and what somebody on that path has seen."""
    system = MeasuredSystem(tmp_path_factory.mktemp("harmless"))
    faults = ("--fault", "payments-down@1s+2s", "--fault", "payments-latency:latency=300ms@5s+2s")
    watcher = Watcher(system.path.host, system.path.port)
    try:
        run = system.start(*faults, *run_options("none", RPS), *SHORT[:2], *SHORT[4:], shortened=True)
        try:
            run.end()
        finally:
            run.kill_group()
        yield run, watcher.stop()
    finally:
        watcher.kill()
        system.close()


def test_a_service_that_is_not_broken_shows_no_impact_and_analyze_agrees(harmless: tuple[Run, Seen]) -> None:
    run, _ = harmless
    result = run.result()
    # A machine that is too busy for the load may forbid a PASS, and leave open what it did not see; it never makes an
    # outage.
    busy = bool(result["generator"]["saturated"])
    assert result["verdict"] == "pass" or (result["verdict"] == "inconclusive" and busy)
    assert run.process.returncode == result["exit_code"] == (0 if result["verdict"] == "pass" else 3)
    recovery = result["recovery"]
    assert (recovery["outcome"], recovery["seconds"]) == ("no_impact", 0) or (
        recovery["outcome"] == "undecided" and busy
    )
    assert result["impact"]["start_s"] is None and result["impact"]["violating_s"] == 0
    again = harness_command("analyze", str(run.dir), "--dry-run", "--json")
    assert again.returncode == result["exit_code"], again.stderr
    assert json.loads(again.stdout) == result, "analyze is a pure function of the recorded files"


def test_a_fault_is_recorded_when_the_path_through_the_proxy_really_broke_and_mended(
    harmless: tuple[Run, Seen],
) -> None:
    run, seen = harmless
    events = run.events()
    t0 = next(event["monotonic"] for event in events if event["event"] == "started")
    checked = 0
    for event in events:
        if event["event"] not in ("fault_injected", "undone", "zero"):
            continue
        sent, at = event.get("sent_s", event.get("lower_s", 0.0)) + t0, event.get("upper_s", event["at"]) + t0
        if event["event"] == "zero":
            brackets = [edges.opened(seen, at), edges.quickened(seen, at, 0.3)]
        elif "-down" in event["fault"]:
            brackets = [edges.cut(seen, at) if event["event"] == "fault_injected" else edges.opened(seen, at)]
        elif event["event"] == "fault_injected":
            brackets = [edges.slowed(seen, at, 0.3)]
        else:
            brackets = [edges.quickened(seen, at, 0.3)]
        real = next((bracket for bracket in brackets if bracket is not None), None)
        assert real is not None, (event, "nothing was seen of it")
        assert sent - 0.02 <= real[1] and real[0] <= at + 0.02, (event, t0, real)
        checked += 1
    assert checked >= 4, events


def test_the_service_of_these_tests_changes_when_it_is_told_to() -> None:
    service = Programmable()
    try:
        import time
        import urllib.error
        import urllib.request

        def status() -> int:
            try:
                with urllib.request.urlopen(service.url, timeout=10) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                error.close()
                return error.code

        start = time.monotonic() + 0.3
        planned = outage("flapping", start, math.inf, start + 1.5 * FLAP_S)
        assert planned.end == pytest.approx(start + 3 * FLAP_S)
        service.plan(*planned.segments)
        answers = []
        while time.monotonic() < start + 3 * FLAP_S + 0.3:
            before = time.monotonic()
            answers.append((before, status(), time.monotonic()))
            time.sleep(0.005)
        for before, code, after in answers:
            broken = [planned.segments[turn].start <= at < planned.segments[turn].end
                      for turn in (0, 1) for at in (before, after)]  # fmt: skip
            if broken[0] == broken[1] and broken[2] == broken[3]:
                assert code == (500 if any(broken) else 200), (before - start, after - start)
        assert [change.at for change in service.changes()] == pytest.approx(
            [start, start + FLAP_S, start + 2 * FLAP_S, start + 3 * FLAP_S]
        )
    finally:
        service.close()
