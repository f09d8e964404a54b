"""Timelines on the real stack: a flapping fault with another beside it and a one-shot in between, and an abort."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.e2e.observe import QUICK, Run
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

FLAPPING = """\
baseline: 5s
recovery_limit: 30s
hold: 5s
seed: 11
faults:
  - {fault: redis-down, at: 1s, for: 3s, repeat: {every: 6s, times: 3}}
  - kafka-latency:latency=200ms@3s+9s
  - redis-flush@5s
targets: [p95 < 9s, rps >= 20% of plan, error_rate < 90%]
"""
IDS = ["redis-down", "redis-down#2", "redis-down#3", "kafka-latency", "redis-flush"]


def start(folder: Path, text: str, **env: str) -> Run:
    """At 50 requests a second: what is looked at are the faults, and the API costs most of the processor here."""
    (folder / "x.yaml").write_text(text)
    return Run(folder, "x.yaml", *QUICK, "--rate", "50", env=env, shortened=True)


def test_every_occurrence_of_a_flapping_fault_is_injected_proven_undone_and_told(
    stack: StandingStack, tmp_path: Path
) -> None:
    run = start(tmp_path, FLAPPING, XDG_STATE_HOME=str(stack.state))
    try:
        code = run.end()
    finally:
        run.kill_group()
    events, result = run.events(), run.result()
    assert code in (0, 1, 3), run.text()

    def at(kind: str, fault: str) -> float:
        found = [event for event in events if event["event"] == kind and event["fault"] == fault]
        assert len(found) == 1, (kind, fault, found)
        return float(found[0]["at"])

    phase = {event["phase"]: event["start_s"] for event in events if event["event"] == "phase"}
    for number, fault in enumerate(IDS[:3]):
        # Late on a busy machine, but never early, and never before the one before it is verified.
        assert at("fault_injected", fault) >= phase["fault"] + 1 + 6 * number
        assert at("fault_proven", fault) and at("undo_verified", fault) >= at("fault_injected", fault) + 2.9
        if number:
            assert at("fault_injected", fault) > at("undo_verified", IDS[number - 1])
    assert at("fault_injected", "kafka-latency") < at("undone", "redis-down#2"), "they overlap"
    assert at("fault_injected", "redis-flush") >= phase["fault"] + 5
    assert not [event for event in events if event["event"] == "fault_not_proven"], events

    assert [fault["name"] for fault in result["faults"]] == IDS
    assert all(fault["proven"] for fault in result["faults"])
    assert [fault["undo_verified"] for fault in result["faults"][:4]] == [True] * 4
    last = max(event["zero_s"] for event in events if event["event"] == "zero")
    assert result["recovery"]["zero_s"] == pytest.approx(last) and last >= at("undo_requested", "redis-down#3")
    _records_were_written_before_the_first_injection(run)
    page = (run.dir / "report.html").read_text()
    for name in ("redis-down", "kafka-latency", "redis-flush"):
        assert re.search(rf'<text class="fault"[^>]*>{name}</text>', page), "named once in every chart"
    for fault in IDS:
        assert f"{fault} injected" in page, "each occurrence is told"


def _records_were_written_before_the_first_injection(run: Run) -> None:
    """The original state is recorded before anything is changed, for every occurrence."""
    lines = [json.loads(line) for line in (run.dir / "journal.jsonl").read_text().splitlines()]
    kinds = [line["entry"] for line in lines if line["entry"] in ("record", "intent")]
    assert kinds.count("record") == len(IDS) and "record" not in kinds[kinds.index("intent") :]


def test_an_abort_condition_that_is_met_ends_the_run_with_fail(tmp_path: Path) -> None:
    text = (
        "baseline: 5s\nrecovery_limit: 30s\nhold: 5s\nfaults: [redis-down@1s+60s]\n"
        "targets: [p95 < 9s, rps >= 20% of plan, error_rate < 99%]\nabort_if: [error_rate > 20% for 3s]\n"
    )
    run = start(tmp_path, text, ANOMALY_API_DEFECT="no-fallback")
    try:
        code = run.end()
    finally:
        run.kill_group()
    assert code == 1, run.text()
    result, events = run.result(), run.events()
    stopped = next(event for event in events if event["event"] == "stopped")
    assert stopped["why"] == "abort" and stopped["expression"] == "error_rate > 20% for 3s"
    assert "abort condition" in result["reasons"][0]
    assert [fault["undo_verified"] for fault in result["faults"]] == [True]
    began = next(event["start_s"] for event in events if event["event"] == "phase" and event["phase"] == "fault")
    assert 3.9 <= stopped["at"] - began < 50.0, "3 s of it and one to be sure, long before the fault would have ended"
