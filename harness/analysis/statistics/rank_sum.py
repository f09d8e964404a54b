"""The rank-sum test of two groups, exact with ties (Mann and Whitney, 1947), and the shift between them.

Where the groups do not differ, every choice of which values are the second group's is equally likely. The choices are
counted by the sum of their midranks, so ties need no correction. The shift is Hodges and Lehmann's (1963), the median
of all differences between a value of one group and one of the other; its bound is one of those differences. With ties
the bound is a little wide and never too narrow (Noether, "Wilcoxon Confidence Intervals for Location Parameters in the
Discrete Case", 1967).
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

MOST_VALUES = 30
"""In a group: then no count of choices is beyond 64 bits."""
_DIGITS = 9
_BITS = 64


def rank_sum_p(base: Sequence[float], new: Sequence[float]) -> float:
    """P(ranks of `new` as high or higher | no difference), one-sided. Raises ValueError for an empty or large group."""
    for group in (base, new):
        if not 0 < len(group) <= MOST_VALUES:
            raise ValueError(f"{len(group)} values")
    everything = sorted(round(one, _DIGITS) for one in (*base, *new))

    def rank(value: float) -> int:  # twice the midrank, a whole number
        return bisect_left(everything, round(value, _DIGITS)) + bisect_right(everything, round(value, _DIGITS)) + 1

    counts = _choices([rank(one) for one in everything], len(new))
    return sum(counts[sum(rank(one) for one in new) :]) / math.comb(len(everything), len(new))


def shift(base: Sequence[float], new: Sequence[float]) -> float:
    """By how much `new` is higher."""
    return statistics.median(there - here for here in base for there in new)


def shift_upper(base: Sequence[float], new: Sequence[float], alpha: float = 0.05) -> float:
    """One-sided bound of the shift, of confidence 1 - alpha at least. Infinite where there are too few for any."""
    sizes = len(base) + len(new)
    counts = _choices(range(1, sizes + 1), len(new))[len(new) * (len(new) + 1) // 2 :]
    allowed = alpha * math.comb(sizes, len(new))
    # Of the differences above the true shift: the fewest that are not too few.
    larger = next(number for number, ways in enumerate(accumulate(counts)) if ways > allowed)
    differences = sorted((there - here for here in base for there in new), reverse=True)
    return differences[larger - 1] if larger else math.inf


def _choices(ranks: Sequence[int], size: int) -> list[int]:
    """sum -> how many choices of `size` of the ranks have it. A list of counts is one long integer, whose digits they
    are: adding and shifting such numbers adds lists and moves them on."""
    ways = [1, *([0] * size)]
    for rank in ranks:
        for chosen in range(size, 0, -1):
            ways[chosen] += ways[chosen - 1] << (_BITS * rank)
    digits = ways[size].to_bytes(_BITS // 8 * (sum(ranks) + 1), "little")
    return [int.from_bytes(digits[at : at + _BITS // 8], "little") for at in range(0, len(digits), _BITS // 8)]
