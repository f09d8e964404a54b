"""The generator of simulated runs (benchmarks/simulated.py) draws what it says: else its benchmark proves nothing."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness.model.records.windows import DeltaRow
from harness.model.target_grammar import parse_targets
from harness.plan.schedule import planned_counts

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def simulated() -> Iterator[ModuleType]:
    """benchmarks/ is no package."""
    spec = importlib.util.spec_from_file_location("simulated", BENCHMARKS / "simulated.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["simulated"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["simulated"]


def test_the_generator_knows_no_rule(simulated: ModuleType) -> None:
    source = (BENCHMARKS / "simulated.py").read_text(encoding="utf-8")
    assert "harness.analysis" not in source


@pytest.mark.parametrize(("n", "p"), [(20, 0.005), (20, 0.6), (2_000, 0.01), (2_000, 0.6), (1, 0.5), (5_000, 0.99)])
def test_binomial_counts_have_their_mean_and_variance(simulated: ModuleType, n: int, p: float) -> None:
    draw = random.Random(f"{n} {p}")
    counts = [simulated.binomial(draw, n, p) for _ in range(4_000)]
    mean = sum(counts) / len(counts)
    variance = sum((k - mean) ** 2 for k in counts) / len(counts)
    assert all(0 <= k <= n for k in counts)
    assert mean == pytest.approx(n * p, abs=4 * math.sqrt(n * p * (1 - p) / len(counts)))
    assert variance == pytest.approx(n * p * (1 - p), rel=0.15)


@pytest.mark.parametrize(
    "rate",
    [
        lambda s: (s.during(1.23, 2.56, 0.4), lambda t: 0.4 if 1.23 <= t < 2.56 else 0.0),
        lambda s: (s.falling(1.23, 1.5), lambda t: max(0.0, 1 - (t - 1.23) / 1.5) if t >= 1.23 else 0.0),
        lambda s: (s.decaying(1.23, 0.5), lambda t: math.exp(-(t - 1.23) / 0.5) if t >= 1.23 else 0.0),
        lambda s: (s.spells([(0.33, 0.36), (0.38, 2.01)]), lambda t: float(0.33 <= t < 0.36 or 0.38 <= t < 2.01)),
    ],
)
def test_a_rate_is_the_mean_over_the_step(simulated: ModuleType, rate: object) -> None:
    mean, at = rate(simulated)  # type: ignore[operator]
    for step in range(40):
        a, b = step / 10, (step + 1) / 10
        points = [a + (b - a) * (i + 0.5) / 1000 for i in range(1000)]
        assert mean(a, b) == pytest.approx(sum(map(at, points)) / 1000, abs=2e-3)


def rows(simulated: ModuleType, service: object, seconds: float = 400.0) -> list[DeltaRow]:
    targets = parse_targets("error_rate < 1%") + parse_targets("p95 < 200ms")
    plan = simulated.plan(targets, 200.0, 7, simulated.Lengths())
    recording = simulated.Recording(plan, random.Random(1), 0)
    found = [row for row in recording.advance(service, round(seconds * 10)) if isinstance(row, DeltaRow)]
    planned = planned_counts(plan.load, 0, round(seconds * 10))[simulated.USER]
    by_step = [0] * len(planned)
    for row in found:
        arrivals = row.classes[simulated.USER]
        requests = sum(counts.ok + sum(counts.fail.values()) for counts in row.requests.values())
        assert arrivals.ended == requests
        by_step[row.step] += arrivals.ended
    assert by_step == planned, "every arrival of the schedule ends, and no other"
    return found


def failures(found: list[DeltaRow], name: str | None = None) -> int:
    return sum(sum(c.fail.values()) for row in found for n, c in row.requests.items() if name in (None, n))


def test_bursts_fail_as_many_as_asked_for(simulated: ModuleType) -> None:
    burst = simulated.bursts(random.Random(2), 0.05, 20)
    asked = sum(count for step, count in burst.items() if step < 4_000)
    assert failures(rows(simulated, simulated.Service(burst=burst))) == pytest.approx(asked, abs=20)
    assert sum(burst.values()) == pytest.approx(20 * 0.05 * simulated.HORIZON_S, rel=0.5)


def test_names_share_the_failures_of_a_burst_and_may_have_their_own(simulated: ModuleType) -> None:
    names = {"a": 0.9, "b": 0.1}
    burst = simulated.bursts(random.Random(3), 0.5, 20)
    shared = rows(simulated, simulated.Service(burst=burst, names=names), 200.0)
    assert failures(shared, "b") / failures(shared) == pytest.approx(0.1, abs=0.03)
    dead = rows(simulated, simulated.Service(names=names, own={"b": simulated.during(50.0, 150.0, 1.0)}), 200.0)
    assert failures(dead, "a") == 0
    assert failures(dead, "b") == pytest.approx(2_000, rel=0.1)


def test_requests_drawn_singly_carry_the_step_of_their_end(simulated: ModuleType) -> None:
    service = simulated.Service(singly=(10.0, 12.0, lambda start, draw: simulated.Fate(start >= 11.0, 0.25)))
    found = rows(simulated, service, 20.0)
    singly = [row for row in found if 100 <= row.step < 120]
    assert {row.ended - row.step for row in singly if row.ended is not None} == {2, 3}
    assert failures(found) == sum(row.classes[simulated.USER].ended for row in singly if row.step >= 110)


def test_slow_requests_are_counted_over_the_limit(simulated: ModuleType) -> None:
    found = rows(simulated, simulated.Service(slow=simulated.steady(0.1)))
    over = sum(counts.over["200"] for row in found for counts in row.requests.values())
    assert over / sum(counts.ok for row in found for counts in row.requests.values()) == pytest.approx(0.1, abs=0.005)
