"""The schedule: reproducible, complete, and of the rate that was asked for."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import pairwise

import msgspec
import pytest

from harness.model.records.load import STEP_S, Arrivals, LoadPlan, UserClass
from harness.plan import schedule


def plan(
    rate: float | None = 200.0,
    *,
    arrivals: Arrivals = "poisson",
    ramp_s: float = 0.0,
    seed: int = 7,
    weights: tuple[float, ...] = (1.0, 1.0),
    workers: int = 1,
) -> LoadPlan:
    classes = tuple(UserClass(name="ABCDEF"[i], weight=w) for i, w in enumerate(weights))
    return LoadPlan(
        model="open",
        host="http://127.0.0.1:1",
        locustfile="x.py",
        classes=classes,
        seed=seed,
        users=10,
        spawn_rate=1,
        ramp_s=ramp_s,
        rate=rate,
        arrivals=arrivals,
        workers=workers,
    )


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_every_arrival_belongs_to_exactly_one_worker(arrivals: Arrivals, workers: int) -> None:
    p = plan(333.0, arrivals=arrivals, workers=workers, weights=(1, 2.5))
    shares = [0] * workers
    for step in range(200):
        for name in "AB":
            parts = [schedule.owned(p, name, step, w) for w in range(workers)]
            assert {n for n, _ in parts} == {schedule.count(p, name, step)}
            assert sorted(o for _, mine in parts for o in mine) == schedule.arrivals(p, name, step)
            for w, (_, mine) in enumerate(parts):
                shares[w] += len(mine)
    assert max(shares) < 1.1 * min(shares), "workers carry about the same load"


def test_the_counts_of_an_analysis_are_the_arrivals_that_were_sent() -> None:
    for arrivals in ("poisson", "constant"):
        p = plan(57.0, arrivals=arrivals, ramp_s=3.3, weights=(1, 3, 0.2))
        counts = schedule.planned_counts(p, 0, 300)
        assert counts == {n: [len(schedule.arrivals(p, n, s)) for s in range(300)] for n in "ABC"}


def test_the_same_seed_draws_the_same_arrivals_in_another_process_with_another_hash_seed() -> None:
    p = plan(450.0, ramp_s=2.0)
    here = [schedule.arrivals(p, n, s) for s in range(50) for n in "AB"]
    program = (
        "import sys, json, msgspec; from harness.plan import schedule; from harness.model.records.load import LoadPlan;"
        "p = msgspec.json.decode(sys.stdin.buffer.read(), type=LoadPlan);"
        "print(json.dumps([schedule.arrivals(p, n, s) for s in range(50) for n in 'AB']))"
    )
    there = subprocess.run(
        [sys.executable, "-c", program],
        input=msgspec.json.encode(p),
        stdout=subprocess.PIPE,
        check=True,
        env={"PYTHONHASHSEED": "99"},
    )
    assert json.loads(there.stdout) == here
    assert [schedule.arrivals(plan(450.0, ramp_s=2.0, seed=8), "A", s) for s in range(50)] != here[::2]


def test_a_drawn_schedule_never_changes_between_versions() -> None:
    """A recorded run must be redrawn years later exactly: these values are part of the file format."""
    p = plan(100.0)
    assert [schedule.count(p, "A", s) for s in range(20)] == COUNTS_AT_100
    assert [schedule.count(plan(1000.0), "A", s) for s in range(10)] == COUNTS_AT_1000


COUNTS_AT_100 = [3, 5, 3, 8, 4, 8, 4, 14, 3, 5, 4, 3, 4, 6, 7, 4, 5, 3, 6, 2]
COUNTS_AT_1000 = [42, 51, 43, 60, 47, 61, 48, 56, 47, 52]


@pytest.mark.parametrize("mean", [0.02, 0.7, 3.0, 9.9, 10.1, 30.0, 500.0])
def test_counts_are_poisson(mean: float) -> None:
    p = plan(mean / STEP_S, weights=(1.0,))
    n = 20_000
    counts = [schedule.count(p, "A", s) for s in range(n)]
    average = sum(counts) / n
    variance = sum((c - average) ** 2 for c in counts) / (n - 1)
    assert abs(average - mean) < 4 * math.sqrt(mean / n)
    assert abs(variance / mean - 1) < 5 * math.sqrt(2 / n + 1 / (mean * n))
    # Chi-square over cells with an expectation of at least 20.
    cells: dict[int, int] = {}
    for c in counts:
        cells[c] = cells.get(c, 0) + 1
    chi2, k_cells, rest_seen, rest_expected = 0.0, 0, n, float(n)
    for k in range(max(0, int(mean - 6 * math.sqrt(mean))), int(mean + 6 * math.sqrt(mean)) + 2):
        expected = n * math.exp(k * math.log(mean) - mean - math.lgamma(k + 1))
        if expected >= 20:
            chi2 += (cells.get(k, 0) - expected) ** 2 / expected
            k_cells += 1
            rest_seen -= cells.get(k, 0)
            rest_expected -= expected
    if rest_expected >= 20:
        chi2 += (rest_seen - rest_expected) ** 2 / rest_expected
        k_cells += 1
    assert chi2 < (k_cells - 1) + 5 * math.sqrt(2 * max(1, k_cells - 1))


def test_offsets_are_uniform_in_the_step_and_ascending() -> None:
    p = plan(2000.0, weights=(1.0,))
    offsets: list[float] = []
    for step in range(300):
        mine = schedule.arrivals(p, "A", step)
        assert mine == sorted(mine)
        assert all(0 <= o < STEP_S for o in mine)
        offsets += mine
    tenths = [0] * 10
    for o in offsets:
        tenths[int(o / STEP_S * 10)] += 1
    expected = len(offsets) / 10
    assert sum((t - expected) ** 2 / expected for t in tenths) < 35  # chi-square, 9 degrees, p < 1e-4


def test_the_ramp_rises_linearly_and_ends_at_the_rate() -> None:
    p = plan(1000.0, ramp_s=10.0, weights=(1.0,))
    first_half = sum(schedule.planned_counts(p, 0, 50)["A"])
    second_half = sum(schedule.planned_counts(p, 50, 100)["A"])
    after = sum(schedule.planned_counts(p, 100, 200)["A"])
    assert abs(first_half - 1250) < 4 * math.sqrt(1250)
    assert abs(second_half - 3750) < 4 * math.sqrt(3750)
    assert abs(after - 10_000) < 4 * math.sqrt(10_000)


def test_weights_are_shares_of_arrivals() -> None:
    p = plan(1000.0, weights=(1.0, 3.0))
    counts = schedule.planned_counts(p, 0, 1000)
    a, b = sum(counts["A"]), sum(counts["B"])
    assert abs(a / (a + b) - 0.25) < 0.01


def test_classes_and_steps_are_independent() -> None:
    counts = schedule.planned_counts(plan(400.0), 0, 4000)
    a, b = counts["A"], counts["B"]
    mean = 20.0

    def correlation(x: list[int], y: list[int]) -> float:
        return sum((i - mean) * (j - mean) for i, j in zip(x, y, strict=True)) / len(x) / mean

    assert abs(correlation(a, b)) < 5 / math.sqrt(4000)
    assert abs(correlation(a[1:], a[:-1])) < 5 / math.sqrt(4000)


def test_constant_arrivals_are_evenly_spaced_over_step_edges_and_classes() -> None:
    p = plan(37.0, arrivals="constant")
    times = sorted(
        step * STEP_S + offset for step in range(400) for name in "AB" for offset in schedule.arrivals(p, name, step)
    )
    assert len(times) == 40 * 37
    gaps = [b - a for a, b in pairwise(times)]
    assert all(abs(g - 1 / 37.0) < 1e-9 for g in gaps)


def test_constant_arrivals_follow_the_ramp_and_keep_the_long_run_rate() -> None:
    p = plan(12.3, arrivals="constant", ramp_s=7.77, weights=(1.0,))
    counts = schedule.planned_counts(p, 0, 36_000)["A"]
    assert abs(sum(counts) - 12.3 * (3600 - 7.77 / 2)) <= 1
    assert abs(sum(counts[:77]) - 12.3 * 7.7**2 / (2 * 7.77)) <= 1


def test_nothing_arrives_before_t0_and_an_odd_step_far_away_costs_the_same() -> None:
    p = plan(1e4)
    assert schedule.planned_counts(p, -5, 0) == {"A": [0] * 5, "B": [0] * 5}
    assert schedule.count(p, "A", 10**9) > 0


def test_the_closed_model_has_no_schedule() -> None:
    with pytest.raises(ValueError, match="no schedule"):
        schedule.count(plan(None), "A", 0)
    with pytest.raises(KeyError):
        schedule.count(plan(), "Z", 0)
