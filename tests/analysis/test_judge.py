"""The numbers of a result on runs whose truth is known: phases, impact, recovery, faults, errors."""

from __future__ import annotations

import msgspec
import pytest
from histories import CLASSES, INJECTED, ZERO, Reply, Scene, failing, make, phase, slow, target

from harness.analysis.rules.recovery_and_impact import zero_of
from harness.model.records import events as ev
from harness.model.records.result import Result, TargetRecovery
from harness.model.records.windows import ErrorRow


def phase_of(result: Result, name: str) -> object:
    return next(p for p in result.phases if p.name == name)


def test_phases_add_up_and_lie_on_the_grid() -> None:
    result = Scene().build().judge()
    # Recovery had no length: `after` began with the first step after the fault phase.
    assert [p.name for p in result.phases] == ["warmup", "baseline", "gap", "fault", "after", "tail"]
    for before, after in zip(result.phases, result.phases[1:], strict=False):
        assert before.end_s == after.start_s
        assert round(before.end_s * 10) == pytest.approx(before.end_s * 10)
    whole = next(r for r in result.totals if r.name == "Aggregated")
    assert whole.requests == sum(p.requests for p in result.phases)
    assert {r.name for r in result.totals} == {*CLASSES.values(), "Aggregated"}
    for p in result.phases:
        assert p.requests == sum(r.requests for r in result.requests if r.phase == p.name)
        assert sum(p.mix_planned.values()) == pytest.approx(1)


def test_a_failure_on_the_edge_of_a_phase_belongs_to_the_phase_of_its_intended_start() -> None:
    before = Scene(service=failing(INJECTED - 0.1, INJECTED, 1.0)).build().judge()
    assert [p.failures for p in before.phases if p.name in ("baseline", "fault")] == [0, 0]
    at = Scene(service=failing(INJECTED, INJECTED + 0.1, 1.0)).build().judge()
    failures = {p.name: p.failures for p in at.phases}
    assert failures["fault"] > 0 and failures["gap"] == 0


def test_impact_and_recovery_of_a_hard_outage() -> None:
    result = Scene(service=failing(INJECTED + 0.5, ZERO + 1.5, 1.0, "refused"), recovery_s=1.6).build().judge()
    impact, recovery = result.impact, result.recovery
    assert impact is not None and recovery is not None
    assert impact.start_s == pytest.approx(INJECTED + 0.5, abs=0.11)
    assert impact.violating_s == pytest.approx(21.0, abs=0.3)
    assert impact.mitigated_s is None
    assert impact.failed_requests == pytest.approx(21 * 200, rel=0.05)
    assert impact.budget_burnt is not None and impact.budget_burnt > 10
    assert recovery.outcome == "recovered"
    assert recovery.lower_s is not None and recovery.upper_s is not None
    assert recovery.lower_s <= 1.5 <= recovery.upper_s
    assert recovery.from_undo_requested_s == pytest.approx(1.52, abs=0.15)
    assert {t.target for t in recovery.targets} == {"after: p95 < 200ms", "after: error_rate < 1%"}


def test_recovery_counts_from_a_one_shot_that_comes_after_the_last_undo() -> None:
    run = Scene(service=failing(INJECTED, ZERO + 6.0, 1.0, "refused"), recovery_s=6.1).build()
    restart = msgspec.structs.replace(run.plan.faults[0], id="redis-restart", for_s=None)
    plan = msgspec.structs.replace(run.plan, faults=(*run.plan.faults, restart))
    shot = make(ev.FaultInjected, ZERO + 4.0, fault="redis-restart", sent_s=ZERO + 2.0)
    assert zero_of(plan, run.events) == zero_of(run.plan, run.events)
    zero = zero_of(plan, [*run.events, shot])
    assert zero is not None and (zero.zero_s, zero.lower_s, zero.upper_s) == (ZERO + 4.0, ZERO + 2.0, ZERO + 4.0)
    unknown = [e for e in run.events if not isinstance(e, ev.ZeroFound | ev.UndoVerified)]
    assert zero_of(plan, [*unknown, shot]) is None, "nobody knows when the other fault ended"


def test_mitigation_while_the_fault_is_on() -> None:
    result = Scene(service=failing(INJECTED, INJECTED + 3, 0.8)).build().judge("fault: error_rate <= 100%")
    impact = result.impact
    assert impact is not None and impact.mitigated_s == pytest.approx(INJECTED + 3, abs=0.2)
    assert not impact.mitigated_at_least
    late = Scene(service=failing(INJECTED, INJECTED + 12, 0.8)).build().judge("fault: error_rate <= 100%").impact
    assert late is not None and late.mitigated_at_least


def test_slow_instead_of_failing_recovers_by_its_latency_target() -> None:
    result = Scene(service=slow(INJECTED, ZERO + 2, 800.0), recovery_s=2.1).build().judge()
    by_name = {t.target: t for t in (result.recovery.targets if result.recovery else ())}
    assert by_name["after: error_rate < 1%"].outcome == "no_impact"
    assert result.recovery is not None and result.recovery.seconds == pytest.approx(2.0, abs=0.15)


def test_named_targets_take_part_in_recovery() -> None:
    def service(at: float, draw: object) -> Reply:
        return Reply(20.0)

    scene = Scene(service=service, targets=("after: p95{GET /items} < 100ms",))
    result = scene.build().judge()
    assert result.recovery is not None
    assert "after: p95{GET /items} < 100ms" in {t.target for t in result.recovery.targets}


def test_a_relapse_moves_recovery_and_is_listed() -> None:
    def service(at: float, draw: object) -> Reply:
        hurt = INJECTED <= at < ZERO + 1 or 62.0 <= at < 64.0
        return Reply(5.0, "status") if hurt else Reply(20.0)

    result = Scene(service=service, recovery_s=1.1, after_s=40.0).build().judge("fault: error_rate <= 100%")
    recovery = result.recovery
    assert recovery is not None and recovery.seconds == pytest.approx(21.0, abs=0.3)
    assert len(recovery.relapses) == 1
    assert recovery.relapses[0] == pytest.approx((62.0, 64.0), abs=0.3)


def test_flapping_counts_from_the_last_zero() -> None:
    def service(at: float, draw: object) -> Reply:
        on = 23 <= at < 28 or 33 <= at < 43.0 + 1.0
        return Reply(5.0, "refused") if on else Reply(20.0)

    run = Scene(service=service, recovery_s=1.1).build()
    first = [
        make(ev.Undone, 28.0, fault="redis-down", sent_s=27.9),
        make(ev.UndoVerified, 28.1, fault="redis-down"),
        make(ev.ZeroFound, 28.1, zero_s=28.0, lower_s=27.9, upper_s=28.1, source="probe"),
        make(ev.FaultInjected, 33.0, fault="redis-down", sent_s=33.0),
    ]
    at = next(i for i, e in enumerate(run.events) if isinstance(e, ev.UndoRequested))
    run.events[at:at] = first
    result = run.judge("fault: error_rate <= 100%")
    assert result.recovery is not None and result.recovery.zero_s == ZERO
    assert result.recovery.seconds == pytest.approx(1.0, abs=0.15)
    assert result.exit_code == 0
    assert result.impact is not None and len(result.impact.violating) == 2
    assert result.impact.mitigated_s is None  # the gap between two faults mitigates nothing
    injected_again = run.without(ev.UndoVerified)
    assert injected_again.judge().exit_code == 5


def test_drain_is_when_the_last_request_from_before_zero_ended() -> None:
    run = Scene().build()
    for i, row in enumerate(run.rows):
        if getattr(row, "at", 0) and 42 < row.at <= 47 and hasattr(row, "open"):  # type: ignore[union-attr]
            run.rows[i] = msgspec.structs.replace(row, open=[420, 1])  # type: ignore[type-var]
    recovery = run.judge().recovery
    assert recovery is not None and recovery.drain_s == pytest.approx(5.0)


def test_faults_show_what_was_recorded() -> None:
    fault = Scene().build().judge().faults[0]
    assert (fault.name, fault.proven, fault.undo_verified) == ("redis-down", True, True)
    assert fault.requested_s == INJECTED and fault.injected_s == INJECTED + 0.01
    assert fault.undone_s == pytest.approx(ZERO - 0.01)
    assert [e.source for e in fault.proof] == ["probe", "undo"]


def test_errors_have_counts_times_and_examples() -> None:
    run = Scene(service=failing(INJECTED, ZERO, 0.3, "status")).build()
    run.rows.append(
        ErrorRow(worker="w0", kind="status", name="GET /items", count=5, first_s=23.1, last_s=42.9, example="HTTP 503")
    )
    run.rows.append(ErrorRow(worker="w0", kind="status", name="POST /login", count=2, example="HTTP 401"))
    errors = {(e.kind, e.name): e for e in run.judge().errors}
    fault = next(r for r in run.judge().requests if r.phase == "fault" and r.name == "GET /items")
    assert errors[("status", "GET /items")].count == fault.failures
    assert errors[("status", "GET /items")].example == "HTTP 503"
    assert errors[("status", "POST /login")].count == 2
    unsent = Scene(service=failing(INJECTED, ZERO, 0.1, "unsent_cap")).build().judge().errors
    assert unsent[0].kind == "unsent" and unsent[0].name is None and "waiting for the target" in unsent[0].example
    failed = Scene(service=failing(INJECTED, ZERO, 0.1, "failed")).build()
    assert [(e.kind, e.name) for e in failed.judge().errors] == [("exception", None)]
    failed.rows.append(ErrorRow(worker="w0", kind="unfinished", count=3, example="its task was running"))
    failed.rows.append(ErrorRow(worker="w0", kind="exception", count=4, example="ValueError"))
    assert {(e.kind, e.count) for e in failed.judge().errors} == {("unfinished", 3), ("exception", 4)}


def test_the_doubt_about_zero_widens_the_interval() -> None:
    service = failing(INJECTED, ZERO + 1.5, 1.0)
    sure = Scene(service=service, recovery_s=1.6).build().judge().recovery
    unsure = Scene(service=service, recovery_s=1.6, doubt_s=0.5).build().judge().recovery
    assert sure and unsure and sure.upper_s and unsure.upper_s
    assert unsure.upper_s == pytest.approx(sure.upper_s + 0.48, abs=0.01)


def test_without_a_probe_zero_is_the_undo_itself() -> None:
    run = Scene(service=failing(INJECTED, ZERO + 1, 1.0), recovery_s=1.1).build().without(ev.ZeroFound)
    recovery = run.judge().recovery
    assert recovery is not None and recovery.zero_s == pytest.approx(ZERO - 0.01)
    unproven = run.without(ev.UndoVerified).judge()
    assert unproven.recovery is not None and unproven.recovery.outcome == "not_judged"
    assert unproven.exit_code == 5


def test_extra_targets_replace_those_of_the_plan() -> None:
    run = Scene().build()
    result = run.judge("after: p95 < 1ms")
    assert target(result, "after: p95 < 1ms").outcome == "broken"
    assert "after: p95 < 200ms" not in {t.target for t in result.targets}


def test_the_same_files_give_the_same_result() -> None:
    run = Scene(service=failing(INJECTED, ZERO + 1, 0.2), recovery_s=1.1).build()
    first, second = run.judge(), run.judge()
    assert msgspec.json.encode(first) == msgspec.json.encode(second)
    assert msgspec.json.decode(msgspec.json.encode(first), type=Result) == first


def test_a_phase_that_was_announced_late_still_ends_the_one_before() -> None:
    """`after` begins at the recovered step, which is known only a hold later: its event comes out of order."""
    run = Scene(service=failing(INJECTED, ZERO + 3, 1.0), recovery_s=3.1).build()
    events = [e for e in run.events if not (isinstance(e, ev.PhaseStarted) and e.phase == "after")]
    late = msgspec.structs.replace(phase("after", 46.2), at=61.0)
    events.insert(-2, late)
    run.events = events
    result = run.judge()
    spans = {p.name: (p.start_s, p.end_s) for p in result.phases}
    assert spans["recovery"] == (43.1, 46.2) and spans["after"][0] == 46.2


def test_recovery_lists_the_latest_of_its_targets() -> None:
    def service(at: float, draw: object) -> Reply:
        if INJECTED <= at < ZERO + 1:
            return Reply(5.0, "status")
        return Reply(700.0) if ZERO + 1 <= at < ZERO + 4 else Reply(20.0)

    recovery = Scene(service=service, recovery_s=4.1).build().judge().recovery
    assert recovery is not None and recovery.seconds == pytest.approx(4.0, abs=0.15)
    by_target: dict[str, TargetRecovery] = {t.target: t for t in recovery.targets}
    assert by_target["after: error_rate < 1%"].seconds == pytest.approx(1.0, abs=0.15)
    assert by_target["after: p95 < 200ms"].seconds == pytest.approx(4.0, abs=0.15)


def test_healthy_background_noise_is_no_impact() -> None:
    result = Scene(service=failing(0, 0, 0, background=0.003)).build().judge()
    assert result.verdict == "pass"
    assert result.impact is not None and result.impact.violating_s == 0
