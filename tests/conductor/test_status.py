"""What the live view is told of a phase that ends when it ends."""

from __future__ import annotations

from pathlib import Path

import msgspec

from harness.analysis.record.windows import WindowStore
from harness.conductor.recording.history import History
from harness.conductor.status import StatusBoard
from harness.model.records.events import ZeroFound
from harness.plan.machine import State
from tests.report.sample import plan_of


def test_an_open_phase_says_how_long_it_may_last(tmp_path: Path) -> None:
    plan = plan_of("fail")
    history = History(tmp_path / "history.jsonl", plan.experiment, lambda problem: None)
    board = StatusBoard(plan, history)
    history.add(ZeroFound, at=132.5, zero_s=132.4, lower_s=132.3, upper_s=132.4, source="probe")
    board.entered("recovery", 133.0)
    state = State(plan=plan, phase="recovery", phase_start=133.0)
    shown = board.live_state(state, WindowStore(plan), 142.4)
    limit = plan.phases.recovery_limit_s + plan.phases.hold_s
    assert shown.phase_left_s is None and shown.phase_most_s == limit - 10.0
    assert shown.limits == {"p95": "<200ms", "error_rate": "<1%"}
    fixed = board.live_state(msgspec.structs.replace(state, phase="after", phase_end=150.0), WindowStore(plan), 142.4)
    assert fixed.phase_most_s is None and fixed.phase_left_s is not None
