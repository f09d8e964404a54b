"""Answers on log harms, and what N pairs can show."""

from __future__ import annotations

import math
import random

import pytest

from harness.analysis.comparison import power
from harness.analysis.comparison.answer import needed, of_groups, of_pairs
from harness.analysis.statistics.sign_flip import sign_flip_p


def test_six_pairs_are_never_worse_and_seven_can_be() -> None:
    assert of_pairs([0.0] * 6, [1.0] * 6, 0.5).answer == "cannot_tell"
    assert of_pairs([0.0] * 7, [1.0] * 7, 0.5).answer == "worse"


def test_a_sure_change_within_the_margin_is_not_worse() -> None:
    told = of_pairs([0.0] * 8, [0.3] * 8, 0.5)  # +35 %
    assert (told.answer, told.p) == ("not_worse", 1 / 256)
    assert of_pairs([0.0] * 8, [0.3] * 8, 0.25).answer == "worse"
    assert of_pairs([0.0] * 4, [0.0] * 4, 0.5).answer == "cannot_tell"
    assert of_pairs([0.0] * 5, [0.0] * 5, 0.5).answer == "not_worse"


def test_an_estimate_beyond_the_margin_may_be_chance() -> None:
    new = [2.0, -1.0, 2.0, -1.0, 2.0, 1.0, 0.2, -0.2]
    told = of_pairs([0.0] * 8, new, 0.5)
    assert told.log_change > math.log(1.5) and told.answer == "cannot_tell"


def test_groups() -> None:
    base = [0.01 * one for one in range(5)]
    assert of_groups(base, [1 + one for one in base], 0.5).answer == "worse"
    assert of_groups(base[:4], [1 + one for one in base[:4]], 0.5).answer == "cannot_tell"
    assert of_groups(base, base[::-1], 0.5).answer == "not_worse"
    assert of_groups([0.0], [1.0], 0.5).answer == "cannot_tell"


def test_pairs_that_would_tell() -> None:
    worse = of_pairs([0.0] * 4, [0.3, 1.0, 0.5, 1.1], 0.5)
    more = needed(worse, 4, 0.5)
    assert more is not None and 7 <= more <= 20
    assert needed(of_pairs([0.0], [1.0], 0.5), 1, 0.5) == 7
    at_the_margin = [math.log(1.5) + one for one in (-0.5, 0.5, -0.3, 0.3)]
    assert needed(of_pairs([0.0] * 4, at_the_margin, 0.5), 4, 0.5) is None


def test_what_is_promised() -> None:
    assert power.smallest_change(10, 0.45, 0.5) <= 1.0
    assert power.smallest_change(10, 0.27, 0.25) <= 0.5
    assert power.smallest_change(10, 0.0, 0.5) == 0.5
    changes = [power.smallest_change(pairs, 0.45, 0.5) for pairs in (7, 8, 10, 14, 20, 30)]
    assert changes == sorted(changes, reverse=True)
    assert power.smallest_change(9, 0.45, 0.5) == power.smallest_change(9, 0.45, 0.5)


def test_groups_of_as_many_find_about_as_much() -> None:
    """What is said of N runs against N is computed as of N pairs."""
    for runs in (7, 10):
        spread, change = 0.45, math.log1p(power.smallest_change(runs, 0.45, 0.5))
        draw, own = random.Random(f"{runs} runs"), spread / math.sqrt(2)
        found = 0
        for _ in range(100):
            base, new = ([draw.gauss(moved, own) for _ in range(runs)] for moved in (0.0, change))
            found += of_groups(base, new, 0.5).answer == "worse"
        assert 80 <= found <= 100


def test_the_expansion_is_the_exact_test() -> None:
    draw = random.Random(3)
    differ = 0
    for _ in range(400):
        values = [draw.gauss(0.65, 1.0) for _ in range(13)]
        differ += (sign_flip_p(values) <= 0.01) != power._rejected(values, 0.01)
    assert differ <= 8


def test_few_known_pairs_make_a_range() -> None:
    well, few, hardly = (power.what_pairs_show(10, 0.45, known, 0.5) for known in (30, 8, 2))
    assert well is not None and few is not None and hardly is not None
    assert well.low == well.change == well.high
    assert few.low is not None and few.high is not None and few.low < few.change < few.high
    assert hardly.low is None and hardly.high is None
    assert power.what_pairs_show(6, 0.45, 30, 0.5) is None


def test_the_range_of_a_spread_is_that_of_chi_square() -> None:
    # 5 % and 95 % points of chi-square with 9 degrees of freedom: 3.325 and 16.919.
    low, high = power.spread_range(1.0, 10)
    assert low == pytest.approx(math.sqrt(9 / 16.919), rel=0.005)
    assert high == pytest.approx(math.sqrt(9 / 3.325), rel=0.005)
