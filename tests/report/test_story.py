"""The first sentence of a report says what happened, also where the usual words would be wrong."""

from __future__ import annotations

import msgspec

from harness.analysis.cells import NameTotals
from harness.analysis.tables import request_result
from harness.model.plan import Plan
from harness.model.result import Result, TargetResult
from harness.model.target_grammar import parse_targets
from harness.report.story import headline
from tests.analysis.histories import INJECTED, Scene

from .sample import plan_of, result


def broken(kind: str, text: str, observed: float) -> tuple[Plan, Result]:
    """The sample run with one target, broken."""
    (target,) = parse_targets(text)
    judged = TargetResult(
        target=target.text,
        phase=target.phase,
        metric=target.metric,
        observed=observed,
        limit=target.value,
        outcome="broken",
        primary=True,
    )
    plan = msgspec.structs.replace(plan_of("control" if kind == "control" else "fail"), targets=(target,))
    verdict = "inconclusive" if target.phase == "baseline" else "fail"
    found = msgspec.structs.replace(result("fail"), targets=(judged,), verdict=verdict, reasons=())
    return plan, found


def test_a_control_run_whose_baseline_is_broken_speaks_of_no_fault() -> None:
    said = headline(*broken("control", "baseline: p95 < 200ms", 300.0))
    assert said.startswith("INCONCLUSIVE: the service missed its targets") and "the fault" not in said
    said = headline(*broken("fail", "baseline: p95 < 200ms", 300.0))
    assert "says nothing about the fault" in said


def test_too_many_requests_are_not_called_only_so_many() -> None:
    assert "with redis-down, 400 requests a second were answered during the fault (target: <=300)" in headline(
        *broken("fail", "fault: rps <= 300", 400.0)
    )
    assert "only 100 requests a second" in headline(*broken("fail", "fault: rps >= 300", 100.0))


def test_no_impact_is_not_said_where_newcomers_were_turned_away() -> None:
    """The load keeps its connections and its users, so its targets do not tell of them."""
    run = Scene(rate=50.0).build()
    passed = run.judge()
    assert "its users saw no impact" in headline(run.plan, passed)
    shut = msgspec.structs.replace(passed, fresh_connections=((INJECTED - 2, INJECTED + 5),))
    assert "the targets held, but new connections failed for 5s" in headline(run.plan, shut)
    before = msgspec.structs.replace(passed, fresh_connections=((1.0, 3.0),))
    assert "its users saw no impact" in headline(run.plan, before)
    login = NameTotals(ok=3, failed=2, fail={"status": 2})
    refused = msgspec.structs.replace(passed, setup=(request_result("POST /login", "setup", login, None),))
    assert "2 of 5 requests outside of tasks (on_start) failed" in headline(run.plan, refused)
