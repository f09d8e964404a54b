"""Growing memory is found, noise and a one-off step are not accused, and a short run is never called stable."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from harness.analysis.rules.memory import memory
from harness.model.records.result import MemoryResult
from harness.model.records.samples import ProcessUse, Sample

MB = 1_000_000


def samples(rss: Callable[[float], float], until: int) -> list[Sample]:
    return [Sample(at=float(t), trees={"target": ProcessUse(cpu_s=float(t), rss=round(rss(t)))}) for t in range(until)]


def judge(rss: Callable[[float], float], before: tuple[int, int], after: tuple[int, int] | None) -> MemoryResult:
    until = max(before[1], after[1] if after else 0)
    return memory(samples(rss, until), before, after, seed=3)


def test_a_leak_is_growing() -> None:
    found = judge(lambda t: 200 * MB + t * 0.1 * MB, (0, 400), None)
    assert found.outcome == "growing"
    assert found.slope == pytest.approx(0.1 * 3600 / 203, rel=0.05)
    assert "grew by" in found.why


def test_a_leak_is_found_in_a_short_run_too() -> None:
    assert judge(lambda t: 200 * MB + t * 0.3 * MB, (0, 120), None).outcome == "growing"


def test_noise_is_stable() -> None:
    for seed in range(20):
        draw = random.Random(seed)
        level = {"v": 0.0}

        def noisy(t: float, draw: random.Random = draw, level: dict[str, float] = level) -> float:
            level["v"] = 0.9 * level["v"] + draw.gauss(0, 0.3 * MB)  # samples of a real process lean on each other
            return 200 * MB + level["v"]

        assert judge(noisy, (0, 400), None).outcome == "stable"


def test_slow_growth_below_the_limit_is_stable() -> None:
    assert judge(lambda t: 200 * MB + t * 0.002 * MB, (0, 600), None).outcome == "stable"


def test_steep_but_tiny_growth_is_not_growing() -> None:
    """A small process that takes 1 MB more: far above 10 %/h, below 4 MB."""
    assert judge(lambda t: 20 * MB + min(t, 400) * 0.0025 * MB, (0, 400), None).outcome == "stable"


def test_the_first_half_minute_of_baseline_is_dropped() -> None:
    assert judge(lambda t: 100 * MB + min(t, 30) * 3 * MB, (0, 400), None).outcome == "stable"


def test_under_five_minutes_nothing_is_called_stable() -> None:
    found = judge(lambda t: 200 * MB, (0, 200), (220, 300))
    assert found.outcome == "not_judged" and found.slope is None and "300 s" in found.why


def test_memory_kept_across_the_fault_is_reported_and_is_no_growth() -> None:
    found = judge(lambda t: 200 * MB + (60 * MB if t >= 380 else 0), (0, 360), (400, 800))
    assert found.outcome == "stable"
    assert found.retained == 60 * MB and "never given back" in found.why


def test_memory_that_is_given_back_was_not_retained() -> None:
    found = judge(lambda t: 200 * MB + (60 * MB if 380 <= t < 450 else 0), (0, 360), (400, 800))
    assert found.retained == 0


def test_growth_after_the_fault_counts() -> None:
    found = judge(lambda t: 200 * MB + max(0, t - 400) * 0.2 * MB, (0, 360), (400, 600))
    assert found.outcome == "growing"


def test_no_samples_are_not_judged() -> None:
    found = memory([], (0, 400), None, seed=1)
    assert found.outcome == "not_judged" and "no memory samples" in found.why
    assert memory([], None, None, seed=1).outcome == "not_judged"
