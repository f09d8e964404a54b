"""What a rehearsal says of each drill, and how short it makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.gameday.rehearse import _found, _of, answer, short
from harness.model.records.many_runs.suite import ExperimentResult
from harness.model.records.result import FaultResult
from harness.plan.phases import MIN_BASELINE_S, MIN_FAULT_S, MIN_HOLD_S
from harness.plan.suite.items import one
from harness.suite.prepare import PlannedItem
from tests.analysis.suite.suites import attempt, experiment
from tests.history.folders import run
from tests.plan.test_planner import make
from tests.report import sample

replace = msgspec.structs.replace
FAULT: FaultResult = sample.result("pass").faults[0]
REST = "Nothing was injected: the target, on the load of its suite, did not come to rest within 120 s."


GONE = {"injected_s": None, "proven": False, "undone_s": None, "undo_verified": None}


@pytest.mark.parametrize(
    ("faults", "works", "said"),
    [
        (({},), True, "injected, proven, undone"),
        (({}, {}), True, "injected, proven, undone"),
        (({"undone_s": None, "undo_verified": None},), True, "injected, proven; there was nothing to undo"),
        ((GONE,), False, "not injected: the target, on the load of its suite, did not come to rest within 120 s."),
        (({}, GONE), False, "not injected: the target, on the load of its suite, did not come to rest within 120 s."),
        (({"proven": False, "missing": "nobody uses it"},), False, "not proven: nobody uses it"),
        (({"proven": False},), False, f"not proven: {REST}"),
        (({"proven": False, "undo_verified": False},), False, "its undo could not be verified"),
        ((), True, "nothing is broken in it, and it was carried out"),
    ],
)
def test_what_is_said_of_a_drill(faults: Any, works: bool, said: str) -> None:
    made = tuple(replace(FAULT, **{"missing": None, **changes}) for changes in faults)
    assert _of(replace(sample.result("pass"), faults=made), REST) == (works, said)


def test_a_control_drill_that_broke_off() -> None:
    control = sample.result("control")
    cut = tuple(phase for phase in control.phases if phase.name != "after")
    assert _of(replace(control, phases=cut), "r") == (False, "not carried out: r")


def test_a_target_that_had_to_be_started_again_is_told_of_a_drill_that_works(tmp_path: Path) -> None:
    run(tmp_path, "01-x", "2027-01-01T10:00:00Z", kind="pass")
    reset = "api had ended and was started again"
    works, said = _found(experiment("x", attempt("held", reset=reset)), tmp_path)
    assert works and said == f"injected, proven, undone; the target did not come back by itself: {reset}"


def test_a_drill_that_was_not_run_or_left_nothing(tmp_path: Path) -> None:
    never: ExperimentResult = experiment("x", why="it was interrupted")
    assert _found(never, tmp_path) == (False, "not run: it was interrupted")
    works, said = _found(experiment("x", attempt("held")), tmp_path)
    assert not works and said.startswith("it left no result: ")


def test_the_answer() -> None:
    assert [answer(1, 0), answer(3, 0), answer(3, 1), answer(1, 1)] == [
        "the drill would work",
        "all 3 drills would work",
        "1 of 3 drills would not work as planned",
        "1 of 1 drill would not work as planned",
    ]


def test_a_rehearsal_is_short_and_nothing_ends_it() -> None:
    long = make(faults=("redis-latency:latency=1s",), abort_if=("p95 > 1s for 5s",), fault_s=90.0)
    plan = short(PlannedItem(item=one("x", "redis-latency"), plan=long)).plan
    phases = plan.phases
    assert (phases.baseline_s, phases.fault_s, phases.hold_s) == (MIN_BASELINE_S, MIN_FAULT_S, MIN_HOLD_S)
    assert plan.faults[0].for_s == MIN_FAULT_S and not plan.abort_if and not phases.extend
    assert plan.load == long.load and plan.targets == long.targets and plan.faults[0].change == long.faults[0].change


def test_faults_that_follow_each_other_keep_their_times() -> None:
    long = make(faults=("redis-down@0s+5s", "kafka-down@20s+10s"))
    plan = short(PlannedItem(item=one("x", "redis-down"), plan=long)).plan
    assert plan.faults == long.faults and plan.phases.fault_s == long.phases.fault_s == 30.0
