"""How a run ended, in words: each is said only of the run in which it was seen."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from histories import GAP, INJECTED, ZERO, Reply, Run, Scene, failing, healthy, make, stopped, target

from harness.model.records import events as ev
from harness.model.records.result import Result
from harness.model.records.windows import MarkRow
from harness.report.findings.rules import findings
from harness.report.sentences.story import headline

RESTART, NOT_UNDER_LOAD, BY_ITSELF = "it needs a restart", "does not come back under this load", "come back by itself"


def after_load(run: Run, outcome: str, seconds: float, **fields: object) -> Run:
    """The run with what was seen once its load had ended; None for what was not asked."""
    values: dict[str, object] = {
        "as_in_baseline": outcome == "as_in_baseline",
        "looks": 3,
        "asked": 12,
        "good": 12 if outcome == "as_in_baseline" else 0,
        "answered": 0 if outcome == "no_answer" else 12,
        "example": "GET /items (timeout): no complete answer within 5 s" if outcome == "no_answer" else "",
    }
    run.events.append(make(ev.AfterLoad, run.events[-1].at + seconds, seconds=seconds, **{**values, **fields}))
    return run


def wedged(share: float = 1.0) -> Run:
    """A service that never came back: `share` of the requests fail from the injection to the end."""
    return Scene(service=failing(INJECTED, 1e9, share), after_s=None).build()


def advice(run: Run, result: Result) -> str:
    found = [one for one in findings(run.plan, result) if one.key == "slow-recovery"]
    return " ".join(f"{one.title}. {one.seen} {one.advice}" for one in found)


def test_one_that_stays_dead_needs_a_restart_and_the_first_sentence_says_so() -> None:
    run = after_load(wedged(0.94), "no_answer", 60.3)
    result = run.judge()
    first = result.reasons[0]
    assert first.startswith("The service did not recover within 1m after the undo"), first
    assert "94% of the requests failed from the undo to the end of load" in first
    assert f"still no answer 1m later: {RESTART}" in first
    assert NOT_UNDER_LOAD not in first
    assert f"still no answer 1m after the load had ended: {RESTART}" in headline(run.plan, result)
    assert result.after_load is not None and result.after_load.outcome == "no_answer"
    assert result.after_load.seconds == 60.3
    assert BY_ITSELF in advice(run, result) and "If only a restart helps" in advice(run, result)


def test_one_that_answers_when_the_load_is_gone_needs_no_restart() -> None:
    run = after_load(wedged(), "as_in_baseline", 12.0)
    result = run.judge()
    first = result.reasons[0]
    assert f"it answered again 12s after the load had ended: it {NOT_UNDER_LOAD}" in first
    assert "restart" not in " ".join(result.reasons) and "restart" not in advice(run, result)
    assert BY_ITSELF not in advice(run, result) and "restart" not in headline(run.plan, result)
    assert result.after_load is not None and result.after_load.outcome == "as_in_baseline" and not result.after_load.why


def test_one_that_still_fails_without_load_does_not_come_back_by_itself() -> None:
    run = after_load(wedged(), "still_bad", 60.2, example="GET /items (status): 503")
    result = run.judge()
    first = result.reasons[0]
    assert (
        "still not as in baseline (12 of 12 requests failed or were too slow, such as GET /items (status): 503)"
        in first
    )
    assert "it did not come back by itself" in first and RESTART not in first and NOT_UNDER_LOAD not in first
    assert result.after_load is not None and result.after_load.outcome == "still_bad"


def test_what_was_not_looked_at_for_long_is_no_proof_that_a_restart_is_needed() -> None:
    result = after_load(wedged(), "no_answer", 6.0).judge()
    assert "still no answer 6s later" in result.reasons[0] and "restart" not in result.reasons[0]


def test_where_nobody_asked_nothing_is_said_about_the_time_after_the_load() -> None:
    run = wedged()
    result = run.judge()
    text = " ".join(result.reasons)
    assert result.after_load is None
    assert "of the requests failed from the undo to the end of load." in result.reasons[0]
    assert not [word for word in (RESTART, NOT_UNDER_LOAD, "by itself", "later") if word in text]
    assert BY_ITSELF not in advice(run, result) and "restart" not in advice(run, result)


def test_one_that_answers_everything_but_slowly_is_not_called_dead() -> None:
    def slow(at: float, draw: object) -> Reply:
        return Reply(kind="status") if INJECTED <= at < ZERO + 10.7 else Reply(800.0 if at >= INJECTED else 30.0)

    run = after_load(Scene(service=slow, after_s=None).build(), "as_in_baseline", 1.2)
    first = run.judge().reasons[0]
    assert "every request was answered from 10.7s after the undo on, but `after: p95 < 200ms` stayed broken" in first
    assert "it was as in baseline 1.2s after the load had ended" in first
    assert not [word for word in (RESTART, NOT_UNDER_LOAD, "from the undo to the end of load") if word in first]


def test_a_service_that_recovered_and_is_well_afterwards_has_no_such_sentence() -> None:
    run = after_load(Scene(service=failing(ZERO, ZERO + 2, 0.5), recovery_s=2.1).build(), "as_in_baseline", 1.1)
    judged = run.judge()
    assert judged.verdict == "pass" and judged.after_load is not None
    assert "after the load" not in headline(run.plan, judged)
    assert "after the load" not in " ".join((*judged.reasons, *judged.warnings))


@pytest.mark.parametrize("faults", [("redis-down",), ()])
@pytest.mark.parametrize("outcome", ["no_answer", "still_bad"])
def test_a_service_that_is_not_well_after_the_end_does_not_pass(outcome: str, faults: tuple[str, ...]) -> None:
    run = after_load(Scene(service=healthy, faults=faults).build(), outcome, 10.4)
    result = run.judge()
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)
    expected = "gave no answer for 10.4s" if outcome == "no_answer" else "still not as in baseline 10.4s after the load"
    assert expected in result.reasons[0]
    first = headline(run.plan, result)
    said = "gave no answer" if outcome == "no_answer" else "was not as in baseline"
    assert first.startswith(f"INCONCLUSIVE: the service {said} 10.4s after the load had ended; "), first
    assert "kept every target over each phase" in first
    undecided = after_load(Scene(rate=5.0, faults=faults).build(), outcome, 10.4)
    assert "kept every target" not in headline(undecided.plan, undecided.judge()), "only where it did"


DIES = failing(58.5, 1e9, 1.0, "refused")


def test_a_control_run_whose_service_dies_after_the_last_judged_phase_does_not_pass() -> None:
    run = Scene(service=DIES, faults=()).build()
    result = run.judge()
    assert (result.verdict, result.exit_code) == ("inconclusive", 3)
    assert result.reasons[0] == (
        "Targets were broken from 58.5s to 1m3s, between the last judged phase and the end of load."
    )
    assert result.reasons[0] in headline(run.plan, result)
    with_fault = Scene(service=DIES).build().judge()
    assert with_fault.verdict == "inconclusive" and "the last judged phase" not in " ".join(with_fault.reasons)


@pytest.mark.parametrize("service", [failing(58.5, 58.6, 0.5), failing(58.5, 1e9, 0.004), failing(30.0, 30.3, 0.5)])
def test_what_is_no_outage_in_the_tail_takes_no_pass_away(service: Callable[..., Reply]) -> None:
    result = Scene(service=service, faults=()).build().judge()
    assert result.verdict == "pass" and "the last judged phase" not in " ".join(result.reasons)


def test_what_a_starved_generator_saw_in_the_tail_is_no_outage() -> None:
    run = Scene(service=DIES, faults=()).build()
    run.rows = [
        msgspec.structs.replace(row, lateness_p99_ms=200.0, saturated=True)
        if isinstance(row, MarkRow) and row.at > 63
        else row
        for row in run.rows
    ]
    assert "the last judged phase" not in " ".join(run.judge().reasons)


@pytest.mark.parametrize("outcome", ["no_answer", "still_bad"])
def test_one_that_failed_otherwise_says_so_too(outcome: str) -> None:
    expected = "gave no answer for 10.4s" if outcome == "no_answer" else "still not as in baseline 10.4s after the load"
    failed = after_load(Scene(service=failing(INJECTED, ZERO, 0.5)).build(), outcome, 10.4).judge()
    assert failed.verdict == "fail" and expected in failed.reasons[-1]


def test_what_was_in_flight_when_a_run_was_interrupted_is_unfinished() -> None:
    """The service hangs from the injection on; three seconds later somebody presses Ctrl-C."""
    at = INJECTED + 3.0
    scene = Scene(service=lambda t, draw: Reply(kind="open") if t >= INJECTED else healthy(t, draw))
    whole = scene.build()
    run = whole.cut(at, stopped("interrupt", at, "SIGINT"))
    run.rows = [_with_names(row) if isinstance(row, MarkRow) else row for row in run.rows]
    result = run.judge()
    fault = next(phase for phase in result.phases if phase.name == "fault")
    assert fault.planned > 500 and fault.unfinished == fault.failures == fault.planned
    assert fault.requests == fault.planned, "every request that was sent is on record"
    assert fault.error_rate == 1.0
    baseline = next(phase for phase in result.phases if phase.name == "baseline")
    assert baseline.unfinished == 0 and baseline.end_s == GAP
    error = next(one for one in result.errors if one.kind == "unfinished")
    assert error.count == fault.unfinished and error.first_s >= INJECTED and "cut off" in error.example
    assert result.phases == run.judge().phases, "judged twice, it is the same"


@pytest.mark.parametrize("limit", ["95% of plan", "90% of baseline"])
def test_what_had_no_user_yet_when_a_run_was_interrupted_is_no_failure(limit: str) -> None:
    """Every user was busy in its last second, then somebody pressed Ctrl-C: nobody knows what they would have got."""
    at = INJECTED + 8.0
    waits = Scene(
        service=lambda t, draw: Reply(kind="open") if at - 0.9 <= t < at else healthy(t, draw),
        targets=(f"rps >= {limit}",),
    )
    run = waits.build().cut(at, stopped("interrupt", at, "SIGINT"), make(ev.UndoVerified, at, fault="redis-down"))
    result = run.judge()
    fault = next(phase for phase in result.phases if phase.name == "fault")
    assert fault.planned - fault.requests > 100
    assert fault.failures == fault.unsent == fault.unfinished == fault.failed_arrivals == 0 == fault.error_rate
    judged = target(result, f"fault: rps >= {limit}")
    assert judged.outcome == "held", judged
    assert limit == "90% of baseline" or "had made no request when the record ended" in judged.why
    assert not [reason for reason in result.reasons if "would have failed" in reason] and not result.errors
    run.rows = [_with_names(row) if isinstance(row, MarkRow) else row for row in run.rows]
    sent = run.judge()
    assert target(sent, f"fault: rps >= {limit}").outcome == "broken", "those that had been sent got no answer"


def test_in_a_run_that_ended_as_planned_nothing_is_made_unfinished() -> None:
    run = Scene(service=lambda t, draw: Reply(kind="open") if t >= INJECTED else healthy(t, draw)).build()
    run.rows = [_with_names(row) if isinstance(row, MarkRow) else row for row in run.rows]
    assert not any(phase.unfinished for phase in run.judge().phases)


def _with_names(mark: MarkRow) -> MarkRow:
    """Arrivals that are open have all sent their request."""
    return msgspec.structs.replace(mark, unasked=[], open_names={"GET /items": mark.open} if mark.open else {})
