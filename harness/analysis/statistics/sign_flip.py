"""The sign-flip test on pairs, exact (Fisher, "The Design of Experiments", 1935, section 21), and its bound of a mean.

Where A and B do not differ, each pair's difference is as likely to have the other sign. So the observed sum is one of
2**n equally likely ones, and p is the share of those that are as large or larger. Flipping the signs of a subset J
lowers the sum by twice the sum over J: what is counted are the subsets, the empty one included, whose sum is not
positive. They are the sums of two halves (Horowitz and Sahni, "Computing Partitions with Applications to the Knapsack
Problem", 1974), so that 30 pairs take two lists of 32,768 and not 2**30 sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_PAIRS = 30
_GRID = 1e9
"""Differences are rounded to this part of 1 and added as whole numbers: a tie is a tie."""
_PRECISE = 1e-6


def sign_flip_p(differences: Sequence[float]) -> float:
    """P(a sum as large or larger | no difference), one-sided. Raises ValueError for none, or more than MOST_PAIRS."""
    if not 0 < len(differences) <= MOST_PAIRS:
        raise ValueError(f"{len(differences)} pairs")
    whole = [round(one * _GRID) for one in differences]
    first, second = _sums(whole[::2]), _sums(whole[1::2])
    found, at = 0, len(second)
    for one in first:
        while at and one + second[at - 1] > 0:
            at -= 1
        if not at:
            break
        found += at
    return math.ldexp(found, -len(whole))


def mean_upper(differences: Sequence[float], alpha: float = 0.05) -> float:
    """The largest mean that the test does not reject: a one-sided bound of confidence 1 - alpha where differences are
    symmetric about their mean (Hartigan, "Using Subsample Values as Typical Values", 1969). Infinite where there are
    too few for any."""
    if math.ldexp(1, -len(differences)) > alpha:
        return math.inf
    low, high = min(differences), max(differences) + 2 / _GRID
    while high - low > _PRECISE:
        middle = (low + high) / 2
        if sign_flip_p([middle - one for one in differences]) > alpha:
            low = middle
        else:
            high = middle
    return high


def _sums(values: Sequence[int]) -> list[int]:
    """The sums of all subsets, sorted."""
    found = [0]
    for value in values:
        found = sorted(found + [one + value for one in found])  # two sorted runs, which Python's sort merges
    return found
