"""The exact tests of pairs and groups, beside the counting of every case."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from harness.analysis.statistics.rank_sum import rank_sum_p, shift, shift_upper
from harness.analysis.statistics.sign_flip import mean_upper, sign_flip_p


def drawn(n: int, seed: int, digits: int = 1) -> list[float]:
    draw = random.Random(seed)
    return [round(draw.gauss(0.3, 1.0), digits) for _ in range(n)]


@pytest.mark.parametrize("n", [1, 2, 5, 8, 11])
@pytest.mark.parametrize("seed", range(5))
def test_the_sign_flip_test_counts_every_flip_ties_included(n: int, seed: int) -> None:
    values = drawn(n, seed)  # one digit: there are ties
    tenths = [round(10 * one) for one in values]
    flips = itertools.product((1, -1), repeat=n)
    as_large = sum(sum(s * one for s, one in zip(signs, tenths, strict=True)) >= sum(tenths) for signs in flips)
    assert sign_flip_p(values) == as_large / 2**n


def test_known_values() -> None:
    assert sign_flip_p([1.0] * 7) == 1 / 128
    assert sign_flip_p([0.0] * 9) == 1.0
    assert sign_flip_p([-1.0] * 7) == 1.0
    assert sign_flip_p([1.0] * 30) == 2**-30
    # Darwin's maize, eighths of an inch, as Fisher counted it: 863 of 32,768 flips are as far out on one side.
    maize = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip_p(maize) * 2**15 == 863
    with pytest.raises(ValueError, match="31 pairs"):
        sign_flip_p([1.0] * 31)


@pytest.mark.parametrize("n", [5, 7, 10])
def test_the_bound_of_the_mean_is_a_mean_of_a_subset(n: int) -> None:
    values = drawn(n, n, digits=6)
    means = sorted(sum(part) / len(part) for size in range(1, n + 1) for part in itertools.combinations(values, size))
    assert mean_upper(values) == pytest.approx(means[-math.floor(0.05 * 2**n)], abs=3e-6)


def test_four_pairs_have_no_bound() -> None:
    assert mean_upper([1.0, 1.1, 0.9, 1.0]) == math.inf
    assert mean_upper([1.0] * 5) == pytest.approx(1.0, abs=3e-6)


@pytest.mark.parametrize("sizes", [(1, 4), (4, 4), (5, 6)])
@pytest.mark.parametrize("seed", range(5))
def test_the_rank_sum_test_counts_every_choice_ties_included(sizes: tuple[int, int], seed: int) -> None:
    values = [round(one) for one in drawn(sum(sizes), seed)]
    base, new = values[: sizes[0]], values[sizes[0] :]
    ranks = [sum(other < one for other in values) + (sum(other == one for other in values) + 1) / 2 for one in values]
    seen = sum(ranks[sizes[0] :])
    choices = itertools.combinations(ranks, sizes[1])
    as_high = sum(sum(chosen) >= seen for chosen in choices)
    assert rank_sum_p(base, new) == pytest.approx(as_high / math.comb(sum(sizes), sizes[1]))


def test_groups_without_an_overlap() -> None:
    low, high = [float(one) for one in range(10)], [float(one) for one in range(20, 30)]
    assert rank_sum_p(low, high) == pytest.approx(1 / math.comb(20, 10))
    assert rank_sum_p(high, low) == 1.0
    assert rank_sum_p([1.0] * 30, [1.0] * 30) == 1.0
    assert shift(low, high) == 20.0
    # Of 10 + 10 the tables have 27 as the largest U with a one-sided P of at most 0.05: the 28th largest difference.
    differences = sorted((there - here for here in low for there in high), reverse=True)
    assert shift_upper(low, high) == differences[27]
    assert shift_upper([1.0, 2.0], [3.0, 4.0]) == math.inf


def test_the_bound_of_the_shift_misses_it_in_one_case_of_twenty_at_most() -> None:
    draw = random.Random(5)
    missed = 0
    for _ in range(1000):
        base = [draw.gauss(0, 1) for _ in range(6)]
        missed += shift_upper(base, [draw.gauss(0.7, 1) for _ in range(7)]) < 0.7
    assert 20 <= missed <= 65
