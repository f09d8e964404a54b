"""Worse, not worse than the margin, or cannot tell: docs/measurement.md's rules of a comparison, on logs of harm."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import msgspec

from harness.analysis.comparison.power import LEAST_PAIRS, NOT_WORSE_BELOW, WORSE_BELOW, pairs_needed
from harness.analysis.statistics.rank_sum import rank_sum_p, shift, shift_upper
from harness.analysis.statistics.sign_flip import mean_upper, sign_flip_p
from harness.model.records.group import Answer

ADDED = 10.0
"""To each harm before its logarithm: from 0 to 3 bad requests is no tripling that anybody should hear of."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """log_change, log_upper: estimate of the log ratio and its one-sided 95 % bound, infinite where there is none.
    spread: standard deviation of the log ratios of pairs; for groups what it would be of pairs made of them at random.
    needed: pairs; null where it cannot be said, or more than the most."""

    answer: Answer
    p: float | None
    log_change: float
    log_upper: float
    spread: float | None
    needed: int | None


def log_harm(harm: float) -> float:
    return math.log(harm + ADDED)


def of_pairs(base: Sequence[float], new: Sequence[float], margin: float) -> Told:
    """Log harms of the same pairs in the same order, one at least."""
    ratios = [there - here for here, there in zip(base, new, strict=True)]
    spread = statistics.stdev(ratios) if len(ratios) > 1 else None
    p = sign_flip_p(ratios)
    return _told(p, statistics.fmean(ratios), mean_upper(ratios, NOT_WORSE_BELOW), spread, len(ratios), margin)


def of_groups(base: Sequence[float], new: Sequence[float], margin: float) -> Told:
    """Log harms of runs that are no pairs."""
    few = min(len(base), len(new))
    spread = math.sqrt(statistics.variance(base) + statistics.variance(new)) if few > 1 else None
    upper = shift_upper(base, new, NOT_WORSE_BELOW)
    return _told(rank_sum_p(base, new), shift(base, new), upper, spread, few, margin)


def _told(p: float, change: float, upper: float, spread: float | None, pairs: int, margin: float) -> Told:
    limit = math.log1p(margin)
    answer: Answer = "cannot_tell"
    if p <= WORSE_BELOW and change > limit:
        answer = "worse"
    elif upper < limit:
        answer = "not_worse"
    needed = None
    if answer == "cannot_tell" and spread is not None and pairs >= 3:
        needed = pairs_needed(change, spread, margin, more_than=pairs)
    elif answer == "cannot_tell" and pairs < LEAST_PAIRS:
        needed = LEAST_PAIRS
    return Told(answer=answer, p=p, log_change=change, log_upper=upper, spread=spread, needed=needed)
