"""Worse, not worse than the margin, or cannot tell: the rules of docs/compare.md, on logs of harm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from harness.analysis.comparison.power import LEAST_PAIRS, NOT_WORSE_BELOW, WORSE_BELOW, pairs_needed
from harness.analysis.statistics.rank_sum import rank_sum_p, shift, shift_upper
from harness.analysis.statistics.sign_flip import mean_upper, sign_flip_p
from harness.model.records.many_runs.group import Answer

ADDED = 10.0
"""To each harm before its logarithm: from 0 to 3 bad requests is no tripling that anybody should hear of."""

LEAST_KNOWN = 3
"""Pairs from which their spread is taken, to say how many it needs."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """log_change, log_upper: estimate of the log ratio and its one-sided 95 % bound, infinite where there is none.
    spread: standard deviation of the log ratios of pairs; for groups that of pairs made of them at random."""

    answer: Answer
    p: float
    log_change: float
    log_upper: float
    spread: float | None


def log_harm(harm: float) -> float:
    return math.log(harm + ADDED)


def of_pairs(base: Sequence[float], new: Sequence[float], margin: float) -> Told:
    """Log harms of the same pairs in the same order, one at least."""
    ratios = [there - here for here, there in zip(base, new, strict=True)]
    spread = statistics.stdev(ratios) if len(ratios) > 1 else None
    p = sign_flip_p(ratios)
    return _told(p, statistics.fmean(ratios), mean_upper(ratios, NOT_WORSE_BELOW), spread, margin)


def of_groups(base: Sequence[float], new: Sequence[float], margin: float) -> Told:
    """Log harms of runs that are no pairs."""
    few = min(len(base), len(new))
    spread = math.sqrt(statistics.variance(base) + statistics.variance(new)) if few > 1 else None
    upper = shift_upper(base, new, NOT_WORSE_BELOW)
    return _told(rank_sum_p(base, new), shift(base, new), upper, spread, margin)


def called(p: float, change: float, upper: float, margin: float) -> Answer:
    """change, upper: of the log ratio."""
    if p <= WORSE_BELOW and change > math.log1p(margin):
        return "worse"
    return "not_worse" if upper < math.log1p(margin) else "cannot_tell"


def needed(told: Told, pairs: int, margin: float) -> int | None:
    """Pairs that would tell, were the true change the one that `pairs` have shown; None where nobody can say, or where
    the most are not enough."""
    if told.spread is None or pairs < LEAST_KNOWN:
        return LEAST_PAIRS
    return pairs_needed(told.log_change, told.spread, margin, more_than=pairs)


def _told(p: float, change: float, upper: float, spread: float | None, margin: float) -> Told:
    return Told(answer=called(p, change, upper, margin), p=p, log_change=change, log_upper=upper, spread=spread)
