"""What services of real life do that simple rules get wrong: bursts, hiccups, own outages, ends that fade, blips.

Each case is a whole run with known truth. docs/measurement.md has the rules, benchmarks/recovery_rules.py their rates
of error.
"""

from __future__ import annotations

import random

import msgspec
import pytest
from histories import (
    BASELINE,
    INJECTED,
    ZERO,
    Reply,
    Run,
    Scene,
    Service,
    failing,
    healthy,
    slow,
    target,
)

from harness.model.records.result import Result
from harness.model.records.windows import MarkRow
from harness.report.sentences.story import headline


def either(*services: Service) -> Service:
    """The first one that is not well decides."""

    def service(at: float, draw: random.Random) -> Reply:
        replies = [one(at, draw) for one in services]
        return next((r for r in replies if r.kind is not None or r.latency_ms > 150), replies[0])

    return service


def bursts(every_s: float, share: float = 1.0, length_s: float = 0.1) -> Service:
    """All at once: `share` of the requests of 0.1 s fail, every so many seconds, from the start to the end."""

    def service(at: float, draw: random.Random) -> Reply:
        if at % every_s < length_s and draw.random() < share:
            return Reply(5.0, "status")
        return healthy(at, draw)

    return service


def judged(service: Service, **more: object) -> Result:
    return Scene(service=service, **more).build().judge()  # type: ignore[arg-type]


# -- relative limits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "error_rate < 2x baseline",
        "error_rate < baseline + 0.5%",
        "error_rate < max(2x baseline, 0.5%)",
        "p95 < 1.3x baseline",
        "p95 < max(1.3x baseline, baseline + 50ms)",
        "rps >= 90% of baseline",
    ],
)
def test_a_perfect_service_keeps_every_relative_limit(text: str) -> None:
    result = judged(healthy, targets=(text,))
    assert result.verdict == "pass"
    assert target(result, f"fault: {text}").outcome == target(result, f"after: {text}").outcome == "held"


def test_twice_as_many_errors_as_in_baseline_are_told_from_chance() -> None:
    text = "error_rate < 2x baseline"
    same = judged(failing(0, 0, 0, background=0.01), targets=(text, "~baseline: error_rate < 2%"))
    assert target(same, f"fault: {text}").outcome in ("held", "undecided")
    worse = judged(failing(INJECTED, ZERO, 0.05, background=0.01), targets=(text,))
    found = target(worse, f"fault: {text}")
    assert found.outcome == "broken" and "in baseline" in found.why


def test_one_error_where_baseline_had_none_breaks_nothing() -> None:
    once = iter([True])

    def service(at: float, draw: random.Random) -> Reply:
        return Reply(5.0, "status") if at > INJECTED + 5 and next(once, False) else healthy(at, draw)

    result = judged(service, targets=("error_rate < 2x baseline",))
    assert target(result, "fault: error_rate < 2x baseline").outcome == "undecided"


def test_of_two_limits_either_is_enough() -> None:
    text = "p95 < max(1.3x baseline, 500ms)"
    doubled = judged(slow(INJECTED, ZERO, 120.0), targets=(text,))
    assert target(doubled, f"fault: {text}").outcome == "held"
    assert target(doubled, f"fault: {text}").limit == 500.0
    far = judged(slow(INJECTED, ZERO, 900.0), targets=(text,))
    assert target(far, f"fault: {text}").outcome == "broken"


# -- clustered failures ------------------------------------------------------------------------------------------------


def test_failures_in_bursts_tell_less_than_single_ones() -> None:
    """20 at once every 15 s are 0.67 % of all, far too few bursts to say anything about 1 %."""
    result = judged(bursts(5.0, share=0.8, length_s=0.1), fault_s=20.0)
    found = target(result, "fault: error_rate < 1%")
    assert result.verdict == "inconclusive" and found.outcome == "undecided"
    assert found.dispersion is not None and found.dispersion > 5
    assert "come in bursts of about" in found.why
    single = judged(failing(0, 0, 0, background=0.016))
    assert target(single, "fault: error_rate < 1%").outcome == "broken"
    assert "bursts" not in target(single, "fault: error_rate < 1%").why


def test_a_pause_in_baseline_does_not_hide_an_outage_of_the_fault() -> None:
    pause = slow(BASELINE + 8, BASELINE + 9.5, 900.0)
    result = judged(either(pause, failing(INJECTED, ZERO, 0.2)))
    assert result.impact is not None and result.impact.start_s == pytest.approx(INJECTED, abs=0.3)
    assert target(result, "fault: error_rate < 1%").outcome == "broken"


def test_hiccups_as_in_baseline_are_no_late_recovery() -> None:
    """A harmless burst every 7 s, before and after: recovery is where the outage ends, not behind the last burst."""
    result = judged(either(bursts(7.0), failing(INJECTED, ZERO + 1.5, 0.5)), recovery_s=1.5)
    assert result.recovery is not None and result.recovery.outcome == "recovered"
    assert result.recovery.seconds == pytest.approx(1.5, abs=0.3)
    assert result.impact is not None and result.impact.as_in_baseline >= 1
    assert not judged(healthy).impact.as_in_baseline  # type: ignore[union-attr]


# -- failures as slow --------------------------------------------------------------------------------------------------


def test_a_lone_latency_target_does_not_pass_a_total_outage() -> None:
    scene = Scene(
        service=failing(INJECTED + 1, ZERO, 1.0), plan_targets=Scene(targets=("p95 < 200ms",)).plan().targets[:0]
    )
    only = tuple(t for t in Scene().plan().targets if t.metric == "p95")
    result = msgspec.structs.replace(Scene(service=scene.service, plan_targets=only).build().judge())
    found = target(result, "fault: p95 < 200ms")
    assert result.verdict == "fail" and found.outcome == "broken" and "failed or took" in found.why


# -- whose outage ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("early_s", [0.3, 0.9, 2.0])
def test_an_outage_that_began_before_the_injection_is_not_the_faults(early_s: float) -> None:
    result = judged(failing(INJECTED - early_s, ZERO, 0.6, latency_ms=20.0), ends=True)
    assert result.verdict == "inconclusive"
    assert any("before the injection" in reason for reason in result.reasons)
    assert result.impact is not None and result.impact.before_s == pytest.approx(early_s, abs=0.4)


def test_requests_in_flight_at_the_injection_excuse_nothing() -> None:
    """They were sent up to 0.9 s before it and fail by it."""

    def service(at: float, draw: random.Random) -> Reply:
        if INJECTED - 0.9 <= at < INJECTED:
            wait = (INJECTED + 0.05 - at) * 1000
            return Reply(wait, "reset") if draw.random() < 0.5 else healthy(at, draw)
        return Reply(5.0, "refused") if INJECTED <= at < ZERO else healthy(at, draw)

    result = judged(service, ends=True)
    assert result.verdict == "fail"
    assert result.impact is not None and result.impact.before_s is None
    assert not any("before the injection" in reason for reason in result.reasons)


# -- ends that fade, relapses ------------------------------------------------------------------------------------------


def test_an_end_that_fades_has_an_interval_that_holds_it() -> None:
    def service(at: float, draw: random.Random) -> Reply:
        failing_share = 1.0 if at < ZERO + 1 else max(0.0, 1 - (at - ZERO - 1) / 2.0)
        return Reply(5.0, "status") if at >= INJECTED and draw.random() < failing_share else healthy(at, draw)

    result = judged(service, recovery_s=3.0, after_s=20.0)
    recovery = result.recovery
    assert recovery is not None and recovery.outcome == "recovered" and recovery.graded
    assert recovery.lower_s is not None and recovery.upper_s is not None
    assert recovery.lower_s <= 2.98 <= recovery.upper_s, "1 % is crossed 0.02 s before the end"
    hard = judged(failing(INJECTED, ZERO + 2.5, 1.0), recovery_s=2.5)
    assert hard.recovery is not None and not hard.recovery.graded
    assert hard.recovery.upper_s is not None and hard.recovery.lower_s is not None
    assert hard.recovery.upper_s - hard.recovery.lower_s <= 0.4


def test_an_outage_that_comes_and_goes_does_not_end_by_degrees() -> None:
    again = failing(ZERO + 0.5, ZERO + 1.6, 1.0)
    result = judged(either(failing(INJECTED, ZERO - 0.4, 1.0), again), recovery_s=1.6)
    assert result.recovery is not None and result.recovery.outcome == "recovered" and not result.recovery.graded
    assert result.recovery.seconds == pytest.approx(1.6, abs=0.15)


def test_blips_after_a_whole_hold_are_told_and_undo_nothing() -> None:
    blips = [slow(ZERO + 17.3 + 1.1 * i, ZERO + 17.45 + 1.1 * i, 900.0) for i in range(3)]
    result = judged(either(failing(INJECTED, ZERO + 1.2, 1.0), *blips), recovery_s=1.2)
    assert result.recovery is not None and result.recovery.outcome == "recovered"
    assert result.recovery.seconds == pytest.approx(1.2, abs=0.2)
    assert 1 <= len(result.recovery.relapses) == len(result.recovery.relapsed)
    assert not any("did not recover" in reason for reason in result.reasons)


def test_an_outage_after_a_whole_hold_is_one() -> None:
    again = failing(ZERO + 17, ZERO + 20, 1.0)
    result = judged(either(failing(INJECTED, ZERO + 1.2, 1.0), again), recovery_s=1.2)
    assert result.recovery is not None and result.recovery.outcome != "recovered"


# -- what was not seen -------------------------------------------------------------------------------------------------


def starved(run: Run, start: float, end: float) -> Run:
    rows = [
        msgspec.structs.replace(row, saturated=True, lateness_p99_ms=400.0, lateness_max_ms=600.0)
        if isinstance(row, MarkRow) and start <= row.at <= end
        else row
        for row in run.rows
    ]
    return Run(run.plan, run.events, rows, run.samples)


def test_no_recovery_is_stated_where_the_generator_could_not_see() -> None:
    run = Scene(service=failing(INJECTED, ZERO + 1.5, 1.0), recovery_s=1.5).build()
    result = starved(run, ZERO + 1, ZERO + 3).judge()
    assert result.recovery is not None and result.recovery.outcome == "undecided"
    assert "did not see" in result.recovery.why
    assert result.reasons and not run.judge().recovery.why.startswith("the load generator")  # type: ignore[union-attr]


def test_slow_replies_that_a_starved_generator_saw_make_nobody_late_to_recover() -> None:
    """The fault's failures are the service's own; that it answers slowly ever after may be the generator's doing."""
    service = either(failing(INJECTED, ZERO, 1.0), slow(ZERO, 1e9, 900.0, 0.5))
    run = Scene(service=service, after_s=None).build()
    sure = run.judge()
    assert sure.recovery is not None and sure.recovery.outcome == "not_recovered"
    assert "did not recover" in headline(run.plan, sure)
    result = starved(run, ZERO - 1, 1e9).judge()
    assert result.verdict == "fail" and "failed during the fault" in headline(run.plan, result)
    assert result.recovery is not None and result.recovery.outcome == "undecided"
    assert "did not recover" not in headline(run.plan, result)
    (told,) = [one for one in result.targets if one.metric == "recovery"]
    assert told.outcome == "undecided" and "could not keep up meanwhile" in told.why
    assert any(reason.startswith("It would have failed") for reason in result.reasons)


def test_an_inconclusive_run_names_the_generator_first_where_it_starved() -> None:
    run = starved(Scene().build(), INJECTED + 5, INJECTED + 8)
    result = run.judge()
    assert result.verdict == "inconclusive" and "load generator" in result.reasons[0]


def test_a_hiccup_of_the_generator_in_baseline_is_cut_out() -> None:
    dead = failing(INJECTED, 1e9, 1.0, "refused")
    run = starved(Scene(service=dead, after_s=None).build(), BASELINE + 2, BASELINE + 3)
    result = run.judge()
    assert result.verdict == "fail", result.reasons
    assert any("left out" in warning for warning in result.warnings)
    assert not any("nothing can be compared" in reason for reason in result.reasons)
    assert not any("left out" in warning for warning in Scene().build().judge().warnings)


def test_a_generator_that_starved_for_half_of_baseline_is_not_trusted() -> None:
    result = starved(Scene().build(), BASELINE + 4, BASELINE + 14).judge()
    assert result.verdict == "inconclusive"
    assert result.reasons[0].startswith("The load generator could not keep up")


def test_replies_that_were_read_late_widen_the_interval() -> None:
    run = Scene(service=failing(INJECTED, ZERO + 2.0, 1.0), recovery_s=2.0).build()
    rows = [
        msgspec.structs.replace(row, lateness_max_ms=130.0)
        if isinstance(row, MarkRow) and ZERO + 1.5 <= row.at <= ZERO + 3
        else row
        for row in run.rows
    ]
    before, after = run.judge().recovery, Run(run.plan, run.events, rows).judge().recovery
    assert before is not None and after is not None and before.lower_s is not None and after.lower_s is not None
    assert after.lower_s == pytest.approx(before.lower_s - 0.13, abs=0.01)
    assert after.upper_s == before.upper_s


def test_a_stall_of_the_generator_in_the_tail_is_no_relapse() -> None:
    again = slow(ZERO + 18, ZERO + 21, 3000.0)
    run = Scene(service=either(failing(INJECTED, ZERO + 1.2, 1.0), again), recovery_s=1.2, after_s=20.0).build()
    assert run.judge().recovery.outcome != "recovered"  # type: ignore[union-attr]
    seen = starved(run, ZERO + 21.4, ZERO + 22).judge().recovery
    stood = Run(
        run.plan,
        run.events,
        [row for row in run.rows if not (isinstance(row, MarkRow) and ZERO + 18 < row.at < ZERO + 21)],
        run.samples,
    )
    for recovery in (seen, stood.judge().recovery):
        assert recovery is not None and recovery.outcome == "recovered"
        assert recovery.seconds == pytest.approx(1.2, abs=0.2) and not recovery.relapses


def test_rates_are_of_the_seconds_that_count() -> None:
    """Where a hiccup of the generator is left out of baseline, so is its time."""
    run = starved(Scene(targets=("baseline: rps >= 190",)).build(), BASELINE + 2, BASELINE + 3)
    result = run.judge()
    assert target(result, "baseline: rps >= 190").outcome == "held"
    baseline = next(phase for phase in result.phases if phase.name == "baseline")
    assert baseline.rps == pytest.approx(200, rel=0.05)
    closed = starved(Scene(rate=None, targets=("rps >= 90% of baseline",)).build(), BASELINE + 2, BASELINE + 3)
    assert target(closed.judge(), "fault: rps >= 90% of baseline").limit == pytest.approx(180, rel=0.05)


def test_the_percentile_of_a_phase_whose_failures_count_as_slow_is_that_of_all_its_requests() -> None:
    only = tuple(t for t in Scene().plan().targets if t.metric == "p95")
    half = judged(failing(INJECTED + 1, ZERO, 0.5), plan_targets=only)
    found = target(half, "fault: p95 < 200ms")
    assert found.outcome == "broken" and found.observed is None, "it falls on a request that failed"
    assert not any("successful" in reason for reason in half.reasons)
    few = judged(failing(INJECTED + 1, ZERO, 0.02), plan_targets=only)
    seen = target(few, "fault: p95 < 200ms").observed
    assert seen is not None and 20 < seen < 60


def test_one_error_in_baseline_excuses_no_outage_of_four_seconds() -> None:
    """As rare as in baseline, and not of its kind."""
    once = iter([True])

    def service(at: float, draw: random.Random) -> Reply:
        if BASELINE + 5 < at < BASELINE + 15 and next(once, False):
            return Reply(5.0, "status")
        return failing(ZERO + 25, ZERO + 29, 1.0)(at, draw)

    result = judged(service, after_s=40.0)
    assert target(result, "after: violating < 2s").observed == pytest.approx(4.0, abs=0.3)
    assert result.impact is not None and result.impact.as_in_baseline == 0
    assert result.recovery is not None and result.recovery.outcome != "no_impact"


def test_few_failures_in_a_hold_over_the_limit_are_no_recovery_where_baseline_had_none() -> None:
    """Two requests of 160 fail every 8 s from the injection on, 1.25 %: too few episodes to be more than none."""

    def service(at: float, draw: random.Random) -> Reply:
        return Reply(5.0, "status") if at >= INJECTED and at % 8 < 0.1 else healthy(at, draw)

    result = Scene(service=service, rate=20.0, after_s=50.0, targets=("error_rate < 1%",)).build().judge()
    assert result.recovery is not None
    assert result.recovery.outcome == "undecided" and "too close to call" in result.recovery.why
