"""The last word on a service, and what new callers met meanwhile: real runs against one whose truth is known."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.measured import LOCUSTFILE, MeasuredSystem
from tests.e2e.observe import Run, wait_until
from tests.e2e.programmable import Segment

pytestmark = [pytest.mark.slow, pytest.mark.stack]

OPTIONS = (
    *("--fault", "payments-down", "--scenario", "target", "--locustfile", str(LOCUSTFILE), "--rate", "100"),
    *("--users", "50", "--spawn-rate", "1000", "--warmup", "1s", "--baseline", "5s", "--fault-for", "5s"),
    *("--recovery-limit", "10s", "--hold", "5s", "--request-timeout", "2s"),
    *("--target", "p95 < 5s", "--target", "recovery < 10s", "--target", "rps >= 1% of plan"),
)
"""What is looked at is the end: targets that a busy machine does not break."""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[MeasuredSystem]:
    made = MeasuredSystem(tmp_path)
    yield made
    made.close()


def break_at_injection(run: Run, system: MeasuredSystem, **how: Any) -> None:
    """From soon after the injection on, until it is told otherwise."""
    run.wait_for(lambda e: e["event"] == "fault_injected")
    system.service.plan(Segment(time.monotonic() + 0.3, math.inf, **how))


def after_load(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in run.events() if e["event"] == "after_load")
    return found


@pytest.mark.thorough
def test_a_service_that_recovers_is_asked_once_and_nothing_is_made_of_it(system: MeasuredSystem) -> None:
    run = system.start(*OPTIONS, shortened=True)
    try:
        break_at_injection(run, system, fail=1.0)
        run.wait_for(lambda e: e["event"] == "undone")
        system.service.plan()
        run.wait_for(lambda e: e["event"] == "load_ended")
        before = system.service.requests()
        run.end()
    finally:
        run.kill_group()
    result = run.result()
    # A machine that is too busy for the load may leave open what it was; the service is well either way.
    busy = bool(result["generator"]["saturated"])
    assert result["recovery"]["outcome"] == "recovered" or busy, (result["reasons"], run.text())
    assert result["after_load"]["outcome"] == "as_in_baseline"
    assert result["after_load"]["good"] == result["after_load"]["asked"] >= 6
    assert "after the load" not in " ".join(result["reasons"]) or busy
    assert not result["fresh_connections"], "new callers fared as the load did"
    asked = system.service.requests() - before
    assert asked <= 30, "a few requests, and the probes of that time"
    planned = sum(phase["requests"] for phase in result["phases"])
    assert planned == result["totals"][-1]["requests"], "none of them is in a window"


def test_one_that_comes_back_when_the_load_is_gone_is_told_so(system: MeasuredSystem) -> None:
    run = system.start(*OPTIONS, shortened=True)
    try:
        break_at_injection(run, system, fail=1.0)
        # How soon it is asked is the machine's affair: it comes back once it was asked in vain.
        assert wait_until(lambda: "asking it for" in run.text() or run.ended(), 120), run.text()
        system.service.plan()
        assert run.end() == 1, run.text()
    finally:
        run.kill_group()
    result = run.result()
    assert result["recovery"]["outcome"] == "not_recovered"
    assert result["after_load"]["outcome"] == "as_in_baseline" and after_load(run)["looks"] >= 2
    first = result["reasons"][0]
    assert "it answered again" in first and "it does not come back under this load" in first, first
    assert "restart" not in " ".join(result["reasons"])
    assert "asking it for" in run.text(), "whoever waits is told why"


@pytest.mark.thorough
def test_one_that_stays_dead_is_told_so_and_ctrl_c_ends_the_looking_not_the_verdict(system: MeasuredSystem) -> None:
    run = system.start(*OPTIONS, shortened=True)
    try:
        break_at_injection(run, system, hang=True)
        run.wait_for(lambda e: e["event"] == "load_ended")
        assert wait_until(lambda: "asking it for" in run.text() or run.ended(), 60), run.text()
        pressed = time.monotonic()
        run.process.send_signal(signal.SIGINT)
        code = run.end()
        took = time.monotonic() - pressed
    finally:
        run.kill_group()
    result = run.result()
    seen = after_load(run)
    assert code == 1 and result["verdict"] == "fail", (result["reasons"], run.text())
    assert took < 40, "it does not go on asking for a minute"
    assert not seen["as_in_baseline"] and seen["answered"] == 0 and seen["seconds"] < 50
    assert result["after_load"]["outcome"] == "no_answer"
    first = result["reasons"][0]
    assert "still no answer" in first and "come back under this load" not in first
    assert "it needs a restart" not in first, "nobody looked for long enough to say so"


def test_what_hangs_when_a_run_is_interrupted_is_unfinished_and_nobody_asks_again(system: MeasuredSystem) -> None:
    run = system.start(*OPTIONS, "--fault-for", "30s", "--request-timeout", "10s", shortened=True)
    try:
        break_at_injection(run, system, hang=True)
        time.sleep(3)
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 130, run.text()
    finally:
        run.kill_group()
    result = run.result()
    fault = next(phase for phase in result["phases"] if phase["name"] == "fault")
    assert fault["unfinished"] > 100, "100 a second were sent for about three seconds, and none was answered"
    missing = fault["planned"] - fault["requests"] - fault["unsent"]
    # A mark is 0.1 s old when the load is ended; a busy machine may be late with one.
    assert missing < fault["planned"] / 4, fault
    assert result["after_load"] is None
    assert any(error["kind"] == "unfinished" for error in result["errors"])


def test_a_service_that_serves_whom_it_knows_and_admits_nobody_new_is_told_so(system: MeasuredSystem) -> None:
    run = system.start(*OPTIONS, "--fault-for", "10s", shortened=True)
    try:
        run.wait_for(lambda e: e["event"] == "fault_injected")
        closed = time.monotonic()
        system.service.admit(False)
        time.sleep(5)
        system.service.admit(True)
        opened = time.monotonic()
        run.end()
    finally:
        run.kill_group()
    result = run.result()
    t0 = next(e["monotonic"] for e in run.events() if e["event"] == "started")
    probes = [json.loads(line).get("fresh") for line in (run.dir / "samples.jsonl").read_text().splitlines()]
    refused = [probe for probe in probes if probe is not None and not probe["ok"]]
    assert refused and all(closed - t0 - 1.1 <= probe["at"] <= opened - t0 for probe in refused)
    if result["generator"]["saturated"] and not result["fresh_connections"]:
        return  # what a harness that stood still has seen is not told
    assert len(result["fresh_connections"]) == 1, (result["fresh_connections"], run.text())
    ((start, end),) = result["fresh_connections"]
    assert closed - t0 <= start <= opened - t0 and start < end
    # A busy machine may be late with a probe, not early.
    assert end >= opened - t0 - 1.1
    fault = next(phase for phase in result["phases"] if phase["name"] == "fault")
    assert fault["failures"] < fault["requests"] / 2, "the load, which keeps its connections, was served"
    assert any("New connections were refused or kept waiting" in text for text in result["warnings"])
