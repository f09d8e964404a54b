"""When the fault began to hurt, for how long, and whether the service coped while the fault was still on."""

from __future__ import annotations

import random

import pytest
import synthetic

from harness.analysis.rules.impact import budget_burnt, impact_start, mitigated, violating_time
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.violations import Baseline, worst_baseline
from harness.model.clock import step_of

CLEAN = Baseline({1: 0.0, 10: 0.0, 50: 0.0})
N = 20


def steady(length_s: float, *outages: tuple[float, float, float], n: int = N) -> Series:
    bad = []
    for step in range(round(length_s * 10)):
        low, high = step / 10, (step + 1) / 10
        overlap = sum(max(0.0, min(high, b) - max(low, a)) * share for a, b, share in outages)
        bad.append(min(n, round(overlap * 10 * n)))
    return Series(start=0, n=[n] * len(bad), bad=bad, limit=0.01)


@pytest.mark.parametrize(
    ("rps", "share", "within_s"),
    [
        (20, 1.0, 0.25),
        (50, 0.6, 0.35),
        (50, 0.2, 1.0),
        (200, 0.2, 0.15),
        (200, 0.05, 0.7),
        (1_000, 0.05, 0.15),
        (10_000, 0.05, 0.12),
        (10_000, 1.0, 0.12),
    ],
)
def test_the_impact_is_placed_where_requests_began_to_fail(rps: int, share: float, within_s: float) -> None:
    for seed in range(12):
        draw = random.Random(seed)
        injected = 65 + draw.random()
        begin = injected + 2 * draw.random()
        end = begin + 10
        series = synthetic.series(
            synthetic.outage(begin, end, share), rps, end + 10, 0.01, f"{rps}{seed}", [begin, end], 0.002
        )
        found = impact_start(series, worst_baseline(series, 0, 600), step_of(injected), step_of(end))
        assert found is not None
        assert found == pytest.approx(begin, abs=within_s)


def test_an_impact_on_the_grid_is_placed_on_it_and_never_before_the_injection() -> None:
    assert impact_start(steady(60, (20, 30, 1.0)), CLEAN, 200, 300) == 20.0
    assert impact_start(steady(60, (19, 30, 1.0)), CLEAN, 200, 300) == 20.0
    assert impact_start(steady(60, (20, 30, 1.0)), CLEAN, 150, 300) == 20.0


def test_no_violation_is_no_impact() -> None:
    assert impact_start(steady(60), CLEAN, 200, 600) is None
    assert impact_start(steady(60, (40, 50, 1.0)), CLEAN, 200, 400) is None  # it broke after the asked-for time
    assert impact_start(steady(60, (10, 19.9, 1.0)), CLEAN, 260, 600) is None  # and before it
    assert impact_start(Series(start=0, n=[], bad=[], limit=0.01), CLEAN, 0, 10) is None


def test_a_pause_just_before_the_injection_is_not_the_impact() -> None:
    series = steady(60, (18.0, 18.3, 1.0), (23, 33, 0.2))
    assert impact_start(series, Baseline({1: 1.0, 10: 0.3, 50: 0.06}), 200, 330) == pytest.approx(23.0, abs=0.2)


@pytest.mark.parametrize("length_s", [0.1, 0.3, 1.0, 7.0])
def test_an_outage_violates_for_as_long_as_it_lasts(length_s: float) -> None:
    found = violating_time(steady(60, (20, 20 + length_s, 1.0)), CLEAN, 0, 600)
    assert found == [(20.0, pytest.approx(20 + length_s))]


@pytest.mark.parametrize("second_s", [21.5, 23.0, 26.0, 29.0, 40.0])
def test_separate_outages_are_separate_stretches_however_near(second_s: float) -> None:
    series = steady(60, (20, 20.3, 1.0), (second_s, second_s + 1, 1.0))
    assert violating_time(series, CLEAN, 0, 600) == [(20.0, 20.3), (second_s, second_s + 1)]
    assert violating_time(series, CLEAN, 202, round(second_s * 10) + 5) == [(20.2, 20.3), (second_s, second_s + 0.5)]
    assert violating_time(series, CLEAN, 500, 600) == []


def test_a_flapping_service_violates_only_while_it_is_down() -> None:
    """2 s down in every 6 s, five times, under Poisson arrivals."""
    edges = [60.0 + 6 * i + at for i in range(5) for at in (0, 2)]
    rate = synthetic.worst_of(*(synthetic.outage(a, b, 1.0) for a, b in zip(edges[::2], edges[1::2], strict=True)))
    for rps, doubt in ((50, 1.0), (200, 0.5), (1_000, 0.5)):
        series = synthetic.series(rate, rps, 110, 0.01, rps, edges, 0.001)
        found = violating_time(series, worst_baseline(series, 0, 600), 600, 1100)
        assert sum(b - a for a, b in found) == pytest.approx(10.0, abs=doubt)


@pytest.mark.parametrize(
    ("rps", "share", "shortest"), [(20, 1.0, 9.0), (200, 0.2, 9.0), (200, 1.0, 9.8), (10_000, 0.05, 9.8)]
)
def test_violating_time_is_neither_stretched_nor_much_shortened_by_chance(
    rps: int, share: float, shortest: float
) -> None:
    for seed in range(8):
        series = synthetic.series(
            synthetic.outage(65.03, 75.03, share), rps, 95, 0.01, f"v{seed}", [65.03, 75.03], 0.001
        )
        found = violating_time(series, worst_baseline(series, 0, 600), 600, 950)
        assert shortest <= sum(b - a for a, b in found) <= 10.3


def test_a_healthy_minute_has_no_violating_time() -> None:
    for rps in (20, 200, 1_000):
        series = synthetic.series(synthetic.outage(0, 0, 0), rps, 120, 0.01, f"h{rps}", [], 0.004)
        assert violating_time(series, worst_baseline(series, 0, 600), 600, 1200) == []


def test_a_service_that_copes_while_the_fault_is_on_is_mitigated_then() -> None:
    """A breaker opens 4 s after the injection; the fault lasts 60 s."""
    series = steady(100, (20, 24, 1.0))
    assert mitigated(series, CLEAN, [(20.0, 80.0)], 15.0, 80.0) == (24.0, False)


def test_a_service_that_copes_shortly_before_the_end_did_so_for_at_least_the_rest() -> None:
    series = steady(100, (20, 70, 1.0))
    assert mitigated(series, CLEAN, [(20.0, 80.0)], 15.0, 80.0) == (70.0, True)
    # The last 5 s window must be whole to mean anything.
    assert mitigated(steady(100, (20, 76, 1.0)), CLEAN, [(20.0, 80.0)], 15.0, 80.0) == (None, False)


def test_a_service_that_does_not_cope_or_was_never_hurt_is_not_mitigated() -> None:
    assert mitigated(steady(100, (20, 80, 1.0)), CLEAN, [(20.0, 80.0)], 15.0, 80.0) == (None, False)
    assert mitigated(steady(100), CLEAN, [(20.0, 80.0)], 15.0, 80.0) == (None, False)
    assert mitigated(steady(100, (20, 24, 1.0)), CLEAN, [], 15.0, 80.0) == (None, False)


def test_recovery_after_the_undo_is_no_mitigation() -> None:
    series = steady(120, (20, 50, 1.0))
    assert mitigated(series, CLEAN, [(20.0, 50.0)], 15.0, 80.0) == (None, False)


def test_the_gaps_of_a_flapping_fault_prove_nothing() -> None:
    """10 s on, 10 s off, four times: broken in every activation, well in every gap."""
    faults = [(20.0 + 20 * i, 30.0 + 20 * i) for i in range(4)]
    series = steady(120, *((a, b, 1.0) for a, b in faults))
    assert mitigated(series, CLEAN, faults, 15.0, 90.0) == (None, False)


def test_a_hold_is_made_of_the_time_in_which_a_flapping_fault_is_on() -> None:
    """Broken in the first two activations, well from 3 s into the third: 7 s there and 8 s of the fourth."""
    faults = [(20.0 + 20 * i, 30.0 + 20 * i) for i in range(4)]
    series = steady(120, (20, 30, 1.0), (40, 50, 1.0), (60, 63, 1.0))
    assert mitigated(series, CLEAN, faults, 15.0, 90.0) == (63.0, False)
    assert mitigated(series, CLEAN, faults[:3], 15.0, 90.0) == (63.0, True)


def test_what_happens_in_a_gap_does_not_spoil_a_hold() -> None:
    faults = [(20.0, 30.0), (40.0, 60.0)]
    assert mitigated(steady(90, (20, 22, 1.0), (31, 33, 1.0)), CLEAN, faults, 15.0, 60.0) == (22.0, False)


def test_a_service_that_stays_over_its_target_is_not_mitigated() -> None:
    for seed in range(10):
        series = synthetic.series(
            synthetic.worst_of(synthetic.outage(60, 63, 1.0), synthetic.outage(60, 120, 0.02)),
            1_000,
            130,
            0.01,
            seed,
            [60, 63, 120],
        )
        assert mitigated(series, worst_baseline(series, 0, 600), [(60.0, 120.0)], 15.0, 120.0) == (None, False)


@pytest.mark.parametrize(("rps", "share"), [(50, 1.0), (200, 0.2), (1_000, 0.05)])
def test_mitigation_is_placed_where_requests_stopped_failing(rps: int, share: float) -> None:
    for seed in range(8):
        mended = 66 + random.Random(seed).random()
        series = synthetic.series(synthetic.outage(60, mended, share), rps, 130, 0.01, f"m{seed}", [60, mended], 0.001)
        found, at_least = mitigated(series, worst_baseline(series, 0, 600), [(60.0, 120.0)], 20.0, 120.0)
        assert found == pytest.approx(mended, abs=0.25)
        assert not at_least


def test_the_error_budget_counts_bad_requests_against_those_allowed() -> None:
    assert budget_burnt(50, 10_000, 0.01) == pytest.approx(0.5)
    assert budget_burnt(0, 10_000, 0.01) == 0.0
    assert budget_burnt(5, 0, 0.01) is None
    assert budget_burnt(5, 100, 0.0) is None
