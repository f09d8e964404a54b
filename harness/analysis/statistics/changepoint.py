"""Where a proportion falls or rises from one value to another: the two-rate binomial change-point.

The likelihood is maximised over the place of the change with both rates set to the observed proportions of their
sides (Hinkley and Hinkley, "Inference about the change-point in a sequence of binomial variables", 1970).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from harness.analysis.statistics.violations import sums

LIKELY_WITHIN = 3.0
"""Log-likelihood below the best at which a place is still credible. The usual 1.92 (95 % by Wilks) does not apply to
a change-point, whose likelihood is not smooth; 3.0 is what holds the true edge in 95 % of simulated runs."""

_TIE = 1e-9


class Fit(msgspec.Struct, frozen=True):
    """edge: the first step at the new rate. lower, upper: the first and last credible place of it.

    gain: log-likelihood above that of no change at all.
    """

    edge: int
    lower: int
    upper: int
    gain: float


def falling(n: list[int], bad: list[int], start: int, places: int | None = None) -> Fit | None:
    """The best place for a fall in bad/n; n[i] and bad[i] belong to step start + i. None when it falls nowhere.

    places: only falls up to step start + places are looked at (default: all).

    Where several neighbouring places explain the data equally well (steps without requests), the middle one.
    """
    total, total_bad = sums(n), sums(bad)
    all_n, all_bad = total[-1], total_bad[-1]
    seen: list[tuple[int, float]] = []
    for at in range(1, len(n) if places is None else min(len(n), places + 1)):
        n1, b1 = total[at], total_bad[at]
        n2, b2 = all_n - n1, all_bad - b1
        if n1 and n2 and b1 * n2 > b2 * n1:
            seen.append((at, _likelihood(b1, n1) + _likelihood(b2, n2)))
    if not seen:
        return None
    best = max(likelihood for _, likelihood in seen)
    ties = [at for at, likelihood in seen if likelihood >= best - _TIE]
    run = 1
    while run < len(ties) and ties[run] == ties[0] + run:
        run += 1
    credible = [at for at, likelihood in seen if likelihood >= best - LIKELY_WITHIN]
    return Fit(
        start + ties[(run - 1) // 2],
        start + credible[0],
        start + credible[-1],
        best - _likelihood(all_bad, all_n),
    )


def rising(n: list[int], bad: list[int], start: int, earliest: int) -> Fit | None:
    """The best place for a rise in bad/n, at step `earliest` or later: `falling` seen in a mirror.

    What lies before `earliest` only tells the rate before the rise.
    """
    places = start + len(n) - earliest
    mirrored = falling(n[::-1], bad[::-1], 0, places)
    if mirrored is None:
        return None
    end = start + len(n)
    return Fit(end - mirrored.edge, end - mirrored.upper, end - mirrored.lower, mirrored.gain)


GRADED = 8.0
"""Log-likelihood by which three rates must be better than two before an end is called graded: hard edges are in at most
1 % of runs, fades of 2 s are found from 50 requests/s on."""

MIDDLE_STEPS = 5
"""Shortest stretch at the middle rate."""


class Fade(msgspec.Struct, frozen=True):
    """start: first step below the first rate; end: first step at the last one. gain: over two rates."""

    start: int
    end: int
    gain: float


def fading(n: list[int], bad: list[int], start: int, floors: Mapping[int, float], phi: float = 1.0) -> Fade | None:
    """Three falling rates, where they explain the data better than two; None otherwise.

    floors: length in steps -> the rate that a middle stretch of that length or longer must be above: what is no worse
    than baseline was is no outage's end. phi: the dispersion of single counts; a likelihood of clusters is so many
    times too sure.

    Both fits have one free step behind the first rate: an edge lies inside a step, and without that step half of all
    hard edges at 200 requests/s look graded. Quadratic in the number of steps.
    """
    total, total_bad = sums(n), sums(bad)
    steps = len(n)
    memo: dict[tuple[int, int], float] = {}

    def of(low: int, high: int) -> float:
        key = (low, high)
        found = memo.get(key)
        if found is None:
            found = memo[key] = _likelihood(total_bad[high] - total_bad[low], total[high] - total[low])
        return found

    def rate(low: int, high: int) -> float:
        requests = total[high] - total[low]
        return (total_bad[high] - total_bad[low]) / requests if requests else -1.0

    two = max(
        (
            of(0, i) + of(i, i + 1) + of(i + 1, steps)
            for i in range(1, steps - 1)
            if rate(0, i) > rate(i + 1, steps) >= 0.0
        ),
        default=-math.inf,
    )
    best: tuple[float, int, int] = (-math.inf, 0, 0)
    for i in range(1, steps - MIDDLE_STEPS - 1):
        first = rate(0, i)
        if first <= 0.0:
            continue
        before = of(0, i) + of(i, i + 1)
        for j in range(i + 1 + MIDDLE_STEPS, steps):
            likelihood = before + of(i + 1, j) + of(j, steps)
            if likelihood <= best[0]:
                continue
            middle = rate(i + 1, j)
            floor = floors[max(length for length in floors if length <= j - i - 1)]
            if first > middle > floor and middle > rate(j, steps) >= 0.0:
                best = (likelihood, i, j)
    if best[0] - two <= GRADED * phi or math.isinf(best[0]):
        return None
    # A service that fails, works and fails again does not come back by degrees.
    low, high = best[1] + 1, best[2]
    again = rising(n[low:high], bad[low:high], low, low)
    if again is not None and again.gain > GRADED * phi:
        return None
    return Fade(start + best[1], start + best[2], best[0] - two)


def _likelihood(bad: int, n: int) -> float:
    """Maximised log-likelihood of `bad` of `n`, without the binomial coefficient."""
    if not n:
        return 0.0
    good = n - bad
    return (bad * math.log(bad / n) if bad else 0.0) + (good * math.log(good / n) if good else 0.0)
