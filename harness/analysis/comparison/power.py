"""What N pairs can show, before they are made and after they could not tell.

A pair's log ratio is taken to be normal about the true change with the spread's standard deviation. Of DRAWS seeded
sets of N pairs the share is counted in which the tests of answer.py find the change; so a share has a standard error
of 1 %, and the same question has the same answer. Up to EXACT pairs the test is carried out as it is; beyond that by
its Edgeworth expansion (the flipped sum has the variance and the fourth cumulant of its terms), which is much faster.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from statistics import NormalDist

import msgspec

from harness.analysis.statistics.sign_flip import MOST_PAIRS, sign_flip_p

WORSE_BELOW = 0.01
NOT_WORSE_BELOW = 0.05
LEAST_PAIRS = 7
"""With fewer no p reaches WORSE_BELOW."""
FOUND = 0.9
KNOWN_WELL = 30
"""From so many known pairs on their spread is taken as it is."""
DRAWS = 1000
EXACT = 11
_FURTHEST = 12.0
"""In standard deviations: seven pairs show a shift of under three in nine cases of ten."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest change for the worse that so many pairs find in nine cases of ten: 1.0 is a doubling. low, high: its
    range, because the spread is known from few pairs only; null where from too few for a range."""

    pairs: int
    margin: float
    change: float
    low: float | None
    high: float | None


def what_pairs_show(pairs: int, spread: float, known: int, margin: float) -> Shown | None:
    """spread: standard deviation of the log ratios of `known` pairs. None where so few pairs can show nothing."""
    if not LEAST_PAIRS <= pairs <= MOST_PAIRS:
        return None
    change = smallest_change(pairs, spread, margin)
    low: float | None = change
    high: float | None = change
    if known < KNOWN_WELL:
        at_least, at_most = spread_range(spread, known)
        low = None if at_least is None else smallest_change(pairs, at_least, margin)
        high = None if at_most is None else smallest_change(pairs, at_most, margin)
    return Shown(pairs=pairs, margin=margin, change=change, low=low, high=high)


def spread_range(spread: float, known: int) -> tuple[float | None, float | None]:
    """90 % interval of a standard deviation that so many normal values showed; Nones for fewer than three. Quantiles of
    chi-square by Wilson and Hilferty (1931): for three values 12 % wide, from five on within 3 %."""
    if known < 3:
        return None, None
    free = known - 1

    def quantile(z: float) -> float:
        return float(free * (1 - 2 / (9 * free) + z * math.sqrt(2 / (9 * free))) ** 3)

    z = NormalDist().inv_cdf(0.95)
    return spread * math.sqrt(free / quantile(z)), spread * math.sqrt(free / quantile(-z))


def smallest_change(pairs: int, spread: float, margin: float) -> float:
    """The smallest change that is called worse in FOUND of the sets, as a proportion."""
    least = math.log1p(margin)
    if spread <= 0:
        return margin
    low, high = least / spread, least / spread + _FURTHEST
    while high - low > 0.01:
        middle = (low + high) / 2
        if _found(pairs, middle, least / spread, WORSE_BELOW) < FOUND:
            low = middle
        else:
            high = middle
    return math.expm1(high * spread)


def largest_spread(pairs: int, change: float, margin: float) -> float | None:
    """With which so many pairs still find this change, of more than the margin, in FOUND of the sets; None where so few
    can show nothing."""
    if not LEAST_PAIRS <= pairs <= MOST_PAIRS:
        return None
    low, high = 0.0, math.log1p(change)
    while high - low > 0.01:
        middle = (low + high) / 2
        if _found(pairs, math.log1p(change) / middle, math.log1p(margin) / middle, WORSE_BELOW) < FOUND:
            high = middle
        else:
            low = middle
    return low


def pairs_needed(log_change: float, spread: float, margin: float, *, more_than: int) -> int | None:
    """The fewest pairs, beyond `more_than`, that tell in FOUND of the cases, were the true change the one seen: that it
    is worse where it lies beyond the margin, else that it is not. None where MOST_PAIRS do not."""
    least = math.log1p(margin)
    if spread <= 0:
        return max(LEAST_PAIRS, more_than + 1) if more_than < MOST_PAIRS else None
    shift = abs(log_change - least)
    floor, alpha, toward = (least, WORSE_BELOW, log_change) if log_change > least else (0.0, NOT_WORSE_BELOW, shift)
    if math.isclose(toward, floor):
        return None
    choices = range(max(LEAST_PAIRS, more_than + 1), MOST_PAIRS + 1)
    at = bisect_left(choices, FOUND, key=lambda pairs: _found(pairs, toward / spread, floor / spread, alpha))
    return choices[at] if at < len(choices) else None


def _found(pairs: int, shift: float, floor: float, alpha: float) -> float:
    """The share of sets, in standard deviations and moved by `shift`, whose test is at most `alpha` and whose mean is
    beyond `floor`."""
    found = 0
    for draw in _draws(pairs):
        moved = [one + shift for one in draw]
        if sum(moved) > floor * pairs and _rejected(moved, alpha):
            found += 1
    return found / DRAWS


def _rejected(differences: Sequence[float], alpha: float) -> bool:
    if len(differences) <= EXACT:
        return sign_flip_p(differences) <= alpha
    squares = [one * one for one in differences]
    variance = sum(squares)
    z = NormalDist().inv_cdf(1 - alpha)
    fourth = -2 * sum(one * one for one in squares) / variance**2
    return sum(differences) >= math.sqrt(variance) * (z + fourth * (z**3 - 3 * z) / 24)


@cache
def _draws(pairs: int) -> list[list[float]]:
    draw = random.Random(f"{pairs} pairs")
    return [[draw.gauss(0.0, 1.0) for _ in range(pairs)] for _ in range(DRAWS)]
