"""Where a proportion falls from one value to another: the two-rate binomial change-point.

The likelihood is maximised over the place of the change with both rates set to the observed proportions of their
sides (Hinkley and Hinkley, "Inference about the change-point in a sequence of binomial variables", 1970).
"""

from __future__ import annotations

import math

import msgspec

from harness.analysis.violations import sums

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


def falling(n: list[int], bad: list[int], start: int) -> Fit | None:
    """The best place for a fall in bad/n; n[i] and bad[i] belong to step start + i. None when it falls nowhere.

    Where several neighbouring places explain the data equally well (steps without requests), the middle one.
    """
    total, total_bad = sums(n), sums(bad)
    all_n, all_bad = total[-1], total_bad[-1]
    places: list[tuple[int, float]] = []
    for at in range(1, len(n)):
        n1, b1 = total[at], total_bad[at]
        n2, b2 = all_n - n1, all_bad - b1
        if n1 and n2 and b1 * n2 > b2 * n1:
            places.append((at, _likelihood(b1, n1) + _likelihood(b2, n2)))
    if not places:
        return None
    best = max(likelihood for _, likelihood in places)
    ties = [at for at, likelihood in places if likelihood >= best - _TIE]
    run = 1
    while run < len(ties) and ties[run] == ties[0] + run:
        run += 1
    credible = [at for at, likelihood in places if likelihood >= best - LIKELY_WITHIN]
    return Fit(
        start + ties[(run - 1) // 2],
        start + credible[0],
        start + credible[-1],
        best - _likelihood(all_bad, all_n),
    )


def _likelihood(bad: int, n: int) -> float:
    """Maximised log-likelihood of `bad` of `n`, without the binomial coefficient."""
    good = n - bad
    return (bad * math.log(bad / n) if bad else 0.0) + (good * math.log(good / n) if good else 0.0)
