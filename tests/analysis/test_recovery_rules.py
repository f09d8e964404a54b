"""What `recovery` says of one run: every outcome, its reason, and what happens at the edges of time and data.

Arrivals come evenly here (n a step), so that each expected number can be worked out by hand.
"""

from __future__ import annotations

import time

import pytest
import synthetic

from harness.analysis.rules.recovery import Zero, combine, recovered_step, recovery, relapses, search
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.violations import Baseline, violating, worst_baseline
from harness.model.records.result import TargetRecovery

CLEAN = Baseline({1: 0.0, 10: 0.0, 50: 0.0})
N = 20  # requests a step: 200 a second
HOLD = 15.0
LIMIT = 60.0


def steady(length_s: float, *outages: tuple[float, float, float], limit: float = 0.01, n: int = N) -> Series:
    """n requests a step, of which `share` are bad where (begin_s, end_s, share); ends may lie inside a step."""
    bad = []
    for step in range(round(length_s * 10)):
        low, high = step / 10, (step + 1) / 10
        overlap = sum(max(0.0, min(high, b) - max(low, a)) * share for a, b, share in outages)
        bad.append(min(n, round(overlap * 10 * n)))
    return Series(start=0, n=[n] * len(bad), bad=bad, limit=limit)


def judge(series: Series, zero_s: float = 20.0, load_end_s: float | None = None, **more: float) -> TargetRecovery:
    zero = Zero(zero_s, more.get("lower", zero_s), more.get("upper", zero_s))
    end = series.end / 10 if load_end_s is None else load_end_s
    return recovery(series, CLEAN, zero, more.get("hold", HOLD), more.get("limit", LIMIT), end, "error_rate < 1%", "<")


def test_an_outage_that_ends_on_the_grid_is_placed_there() -> None:
    found = judge(steady(60, (10, 22.5, 1.0)))
    assert found.outcome == "recovered"
    assert found.seconds == pytest.approx(2.5)
    assert found.lower_s == pytest.approx(2.4)
    assert found.upper_s == pytest.approx(2.6)


@pytest.mark.parametrize("end_s", [22.51, 22.54, 22.55, 22.58, 22.59])
def test_an_outage_that_ends_off_the_grid_is_held_by_the_interval(end_s: float) -> None:
    found = judge(steady(60, (10, end_s, 1.0)))
    assert found.seconds == pytest.approx(end_s - 20, abs=0.1)
    assert found.lower_s is not None and found.upper_s is not None
    assert found.lower_s <= end_s - 20 <= found.upper_s


def test_zero_between_two_steps_begins_the_search_at_the_next_one() -> None:
    found = judge(steady(60, (10, 20.0, 1.0)), zero_s=20.04)
    assert (found.outcome, found.seconds, found.lower_s) == ("recovered", 0.0, 0.0)
    assert found.upper_s is not None and found.upper_s <= 0.2


def test_an_outage_that_ended_just_before_zero_took_no_time_and_the_interval_never_begins_before_zero() -> None:
    found = judge(steady(60, (10, 18.0, 1.0)))
    assert (found.outcome, found.seconds, found.lower_s) == ("recovered", 0.0, 0.0)


def test_an_outage_long_over_is_no_impact() -> None:
    found = judge(steady(60, (5, 12.0, 1.0)))
    assert (found.outcome, found.seconds, found.lower_s) == ("no_impact", 0.0, 0.0)
    assert found.upper_s == pytest.approx(0.1)


def test_doubt_about_zero_widens_the_interval_to_the_side_it_lies_on() -> None:
    exact = judge(steady(60, (10, 22.5, 1.0)))
    doubtful = judge(steady(60, (10, 22.5, 1.0)), lower=19.7, upper=20.2)
    assert doubtful.seconds == exact.seconds
    assert exact.lower_s is not None and exact.upper_s is not None
    # Zero may have been up to 0.3 s earlier, so recovery may have taken up to 0.3 s longer; and the other way round.
    assert doubtful.upper_s == pytest.approx(exact.upper_s + 0.3)
    assert doubtful.lower_s == pytest.approx(exact.lower_s - 0.2)
    quiet = judge(steady(60), lower=19.7, upper=20.2)
    assert (quiet.outcome, quiet.upper_s) == ("no_impact", pytest.approx(0.6))


def test_a_service_that_stays_down_did_not_recover_within_the_limit() -> None:
    found = judge(steady(105, (10, 105, 1.0)))
    assert (found.outcome, found.seconds, found.lower_s, found.upper_s) == ("not_recovered", None, 60.0, None)
    assert "60 s" in found.why


@pytest.mark.parametrize(("end_s", "outcome"), [(79.9, "recovered"), (80.0, "recovered"), (80.2, "not_recovered")])
def test_the_limit_bounds_the_recovered_step(end_s: float, outcome: str) -> None:
    assert judge(steady(120, (10, end_s, 1.0))).outcome == outcome


def test_a_run_that_ends_before_the_hold_is_complete_decides_nothing_but_says_what_is_excluded() -> None:
    found = judge(steady(60, (10, 30.0, 1.0)), load_end_s=44.9)
    assert found.outcome == "undecided"
    assert "load ended before the hold was complete; it was last broken 10.0 s after the undo" in found.why
    assert "broken" not in judge(steady(60), load_end_s=30.0).why
    assert found.seconds is None and found.upper_s is None
    assert found.lower_s == pytest.approx(9.9)
    assert judge(steady(60, (10, 30.0, 1.0)), load_end_s=45.0).outcome == "recovered"


def test_load_that_ended_while_the_service_was_down_decides_nothing() -> None:
    found = judge(steady(30, (10, 30.0, 1.0)))
    assert found.outcome == "undecided"
    assert found.lower_s is not None and found.lower_s > 9


@pytest.mark.parametrize("load_end_s", [0.0, 10.0, 19.0, 20.0, 20.1])
def test_load_that_ended_before_or_at_zero_decides_nothing(load_end_s: float) -> None:
    found = judge(steady(60, (10, 15.0, 1.0)), load_end_s=load_end_s)
    assert (found.outcome, found.lower_s) == ("undecided", 0.0)


def test_a_hold_without_requests_is_no_recovery() -> None:
    silent = Series(start=0, n=[N] * 200 + [0] * 400, bad=[0] * 100 + [N] * 100 + [0] * 400, limit=0.01)
    found = judge(silent)
    assert (found.outcome, found.why) == ("undecided", "no requests in the hold")


def test_a_hold_slightly_over_the_limit_is_too_close_to_call() -> None:
    # One request of 90 fails, evenly: 1.1 %, tail 0.3; no window violates.
    series = Series(start=0, n=[9] * 800, bad=[1 if i % 10 == 0 else 0 for i in range(800)], limit=0.01)
    found = judge(series)
    assert found.outcome == "undecided"
    assert "too close to call: 15 of 1350 requests in the hold were bad" in found.why


def test_exactly_at_the_limit_the_operator_decides() -> None:
    series = Series(start=0, n=[10] * 800, bad=[1 if i % 10 == 0 else 0 for i in range(800)], limit=0.01)
    assert recovery(series, CLEAN, Zero(20, 20, 20), HOLD, LIMIT, 80, "p99", "<=").outcome == "no_impact"
    assert recovery(series, CLEAN, Zero(20, 20, 20), HOLD, LIMIT, 80, "error_rate", "<").outcome == "undecided"


def test_a_relapse_moves_recovery_to_the_last_and_is_listed() -> None:
    series = steady(90, (10, 22.5, 1.0), (45, 47.3, 1.0))
    found = judge(series)
    assert found.outcome == "recovered"
    assert found.seconds == pytest.approx(27.3)
    assert found.lower_s is not None and found.upper_s is not None and found.lower_s <= 27.3 <= found.upper_s
    assert "it had held from 2.5 s on, then was broken again" in found.why
    step = recovered_step(series, CLEAN, 200, 150, 800)
    assert step == 225
    assert relapses(series, CLEAN, step, 900) == [(45.0, 47.3)]


def test_every_relapse_is_listed_and_the_last_counts() -> None:
    series = steady(120, (10, 22.5, 1.0), (45, 45.4, 1.0), (70, 71, 0.5))
    assert judge(series, limit=80).seconds == pytest.approx(51.0, abs=0.1)
    assert relapses(series, CLEAN, 225, 1200) == [(45.0, 45.4), (70.0, 71.0)]


def test_a_relapse_after_the_limit_is_not_recovered() -> None:
    found = judge(steady(150, (10, 22.5, 1.0), (100, 101, 1.0)))
    assert found.outcome == "not_recovered"
    assert "held from 2.5 s on" in found.why


def test_a_relapse_with_no_hold_after_it_decides_nothing() -> None:
    found = judge(steady(60, (10, 22.5, 1.0), (50, 51, 1.0)))
    assert found.outcome == "undecided"
    assert "load ended before the hold was complete" in found.why and "held from 2.5 s" in found.why
    assert found.lower_s == pytest.approx(30.9, abs=0.11)


def test_a_service_without_a_first_impact_that_breaks_later_is_a_relapse() -> None:
    series = steady(90, (50, 52, 1.0))
    assert judge(series).seconds == pytest.approx(32.0)
    assert relapses(series, CLEAN, 200, 900) == [(50.0, 52.0)]


def test_a_violation_too_thin_for_violating_time_is_listed_all_the_same() -> None:
    # 2 requests a step; 4 failures spread over a second make one 1 s window violate, and no step both ways.
    bad = [0] * 900
    for step in (500, 503, 506, 509):
        bad[step] = 1
    series = Series(start=0, n=[2] * 900, bad=bad, limit=0.01)
    assert sum(violating(series, CLEAN).flags[10]) == 1
    assert relapses(series, CLEAN, 200, 900) == [(50.0, 51.0)]
    # Four of 500 in a whole hold around it are no outage by themselves, so it undoes nothing.
    assert judge(series, hold=25.0).outcome == "no_impact"


def test_flapping_before_zero_counts_from_its_last_outage() -> None:
    flaps = [(10 + 4 * i, 12 + 4 * i, 1.0) for i in range(4)]  # the last one ends at 24 s
    assert judge(steady(80, *flaps), zero_s=22.2).seconds == pytest.approx(1.8)


def test_a_total_outage_is_seen_under_a_target_of_p95_alone() -> None:
    """Failed requests count as over every latency limit, so the series of a p95 target shows them as bad."""
    run = synthetic.simulate(
        synthetic.Case(lambda undo, healthy: synthetic.outage(60.0, healthy, 1.0), limit=0.05, background=0.01),
        200,
        "p95",
    )
    assert run.recovery.outcome == "recovered" and run.holds_truth


def test_few_bad_requests_come_with_a_hint_that_the_load_was_too_low() -> None:
    run = synthetic.simulate(synthetic.failing(0.2), 20, "hint")
    assert "the load was too low to place the instant" in run.recovery.why
    assert judge(steady(60, (10, 22.5, 1.0))).why == ""


def test_the_search_says_when_recovery_is_ruled_out_before_the_limit_has_passed() -> None:
    down = steady(90, (10, 90, 1.0))
    pending = search(down, CLEAN, 200, 150, 800, end_step=700)
    assert pending.step is None and pending.candidate <= 800
    ruled_out = search(down, CLEAN, 200, 150, 800, end_step=802)
    assert ruled_out.step is None and ruled_out.candidate > 800


def test_a_growing_series_finds_the_step_once_its_hold_is_there_and_keeps_it() -> None:
    series = steady(60, (10, 22.5, 1.0))
    found = [recovered_step(series, CLEAN, 200, 150, 800, end_step=end) for end in range(200, 600)]
    assert found[: 375 - 200] == [None] * 175
    assert set(found[375 - 200 :]) == {225}


def test_a_series_that_begins_late_is_judged_where_it_begins() -> None:
    whole = steady(60, (10, 22.5, 1.0))
    late = Series(start=140, n=whole.n[140:], bad=whole.bad[140:], limit=whole.limit)
    assert judge(late) == judge(whole)
    assert worst_baseline(late, 0, 100) == CLEAN
    assert worst_baseline(late, 0, 200).worst == {1: 1.0, 10: 1.0, 50: 1.0}


def test_an_empty_series_decides_nothing() -> None:
    empty = Series(start=0, n=[], bad=[], limit=0.01)
    assert judge(empty).outcome == "undecided"
    assert relapses(empty, CLEAN, 0, 100) == []
    assert worst_baseline(empty, 0, 100) == CLEAN


def test_worst_baseline_takes_only_whole_windows_inside_it() -> None:
    series = steady(60, (9.8, 10.3, 1.0))
    assert worst_baseline(series, 0, 100).worst == {1: 1.0, 10: 0.2, 50: 0.04}
    assert worst_baseline(series, 103, 600).worst == {1: 0.0, 10: 0.0, 50: 0.0}


def test_a_window_must_be_rare_and_worse_than_baseline_to_violate() -> None:
    series = steady(30, (10, 12, 0.2))  # 4 of 20 bad: tail 4e-5
    assert sum(violating(series, CLEAN).flags[1]) == 20
    assert sum(violating(series, Baseline({1: 0.15, 10: 0.0, 50: 0.0})).flags[1]) == 20
    assert sum(violating(series, Baseline({1: 0.16, 10: 0.0, 50: 0.0})).flags[1]) == 0
    assert sum(violating(steady(30, (10, 12, 0.15)), CLEAN).flags[1]) == 0  # 3 of 20: tail 1e-3


def test_ten_minutes_are_judged_in_well_under_a_second_at_any_rate() -> None:
    for n in (2, 1_000, 10_000):
        draw = synthetic.series(synthetic.outage(60, 600, 0.0115), n * 10, 600, 0.01, n, [60])
        baseline = worst_baseline(draw, 0, 600)
        began = time.process_time()
        violating(draw, baseline)
        assert time.process_time() - began < 1.0  # about 0.05 s; a tail for each window would take 3 s


def one(
    outcome: str, seconds: float | None = None, lower: float | None = None, upper: float | None = None
) -> TargetRecovery:
    return TargetRecovery(target=f"t {outcome}", outcome=outcome, seconds=seconds, lower_s=lower, upper_s=upper)  # type: ignore[arg-type]


def test_a_run_recovers_with_the_latest_of_its_targets() -> None:
    first, last, quiet = (
        one("recovered", 1.3, 1.2, 1.9),
        one("recovered", 1.6, 1.0, 1.7),
        one("no_impact", 0.0, 0.0, 0.1),
    )
    whole = combine([first, quiet, last])
    assert (whole.target, whole.outcome, whole.seconds) == (last.target, "recovered", 1.6)
    assert (whole.lower_s, whole.upper_s) == (1.2, 1.9)
    assert combine([quiet, quiet]).outcome == "no_impact"


def test_the_worst_outcome_decides() -> None:
    recovered, undecided, lost = (
        one("recovered", 70.0, 69.0, 71.0),
        one("undecided", None, 3.0),
        one("not_recovered", None, 60.0),
    )
    assert combine([recovered, undecided]).outcome == "undecided"
    # One target is known to have taken 69 s or more, so the run has, whatever the other one did.
    assert combine([recovered, undecided]).lower_s == 69.0
    assert combine([recovered, undecided, lost]).outcome == "not_recovered"
    assert combine([]).outcome == "not_judged"
    assert combine([one("not_judged"), recovered]).outcome == "recovered"


@pytest.mark.parametrize(("bad", "outcome"), [(8, "recovered"), (9, "undecided")])
def test_a_hold_that_begins_at_an_edge_counts_the_bad_request_before_it(bad: int, outcome: str) -> None:
    """1,000 requests at 20 a second: with nine bad ones, and the one that the edge was put behind, it is 1 %."""
    series = steady(90, (10, 22.5, 1.0), n=2)
    for number in range(bad):
        series.bad[228 + number * 55] = 1
    assert judge(series, hold=50.0).outcome == outcome
