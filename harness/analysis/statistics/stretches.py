"""From violating windows to stretches of time."""

from __future__ import annotations

from harness.analysis.statistics.binomial import tail
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.violations import LENGTHS, Baseline, Violations, flags, sums
from harness.model.clock import step_start

Stretch = tuple[float, float]
"""(start, end) in seconds since t0."""

GAP_STEPS = 10
"""A gap between outages must meet the target for 1 s at least."""

CLEARLY_MET = 0.01
"""And so few bad requests must come by chance with less than this probability at the rate of the whole stretch: under a
low load a steady 20 % of failures leaves many a second without one."""


def violating_steps(series: Series, baseline: Baseline, start: int, end: int) -> bytearray:
    """One flag a step of [start, end), which must lie inside the series: 1 is violating time.

    A step is violating time when, at one length, both a window that begins there and one that ends there violate.
    Either alone would stretch a 0.3 s outage by a window's length to 3.4 s. Of two short outages up to 10 s apart,
    though, the one lies in the window that ends and the other in the window that begins, so the time between them
    would count as well: gaps in which the target was clearly met are taken out.
    """
    n, bad = series.n[start - series.start : end - series.start], series.bad[start - series.start : end - series.start]
    steps = bytearray(end - start)
    for length in LENGTHS:
        begins = flags(n, bad, length, series.limit, baseline)
        # The window that ends with step `at` begins at at - length + 1.
        at = begins.find(1, length - 1)
        while at >= 0:
            steps[at] |= begins[at - length + 1]
            at = begins.find(1, at + 1)
    total, total_bad = sums(n), sums(bad)
    for low, high in runs(steps):
        if total_bad[high] - total_bad[low] <= series.limit * (total[high] - total[low]):
            # All its evidence lies in other stretches.
            steps[low:high] = bytes(high - low)
            continue
        rate = (total_bad[high] - total_bad[low]) / (total[high] - total[low])
        met = bytearray(high - low)
        for at in range(low, high - GAP_STEPS + 1):
            requests = total[at + GAP_STEPS] - total[at]
            if requests and total_bad[at + GAP_STEPS] - total_bad[at] <= series.limit * requests:
                met[at - low : at - low + GAP_STEPS] = b"\x01" * GAP_STEPS
        for a, b in runs(met):
            k, requests = total_bad[low + b] - total_bad[low + a], total[low + b] - total[low + a]
            if 1.0 - tail(k + 1, requests, rate) < CLEARLY_MET:
                steps[low + a : low + b] = bytes(b - a)
    return steps


def merged(steps: bytearray, origin: int, start: int, end: int) -> list[Stretch]:
    """The runs of flagged steps inside [start, end); steps[i] belongs to step origin + i."""
    inside = [(max(a + origin, start), min(b + origin, end)) for a, b in runs(steps)]
    return [(step_start(a), step_start(b)) for a, b in inside if a < b]


def add_lone_windows(steps: bytearray, found: Violations) -> None:
    """Where windows violate, but no step of theirs is violating time (too little was seen for that), let the shortest
    of them stand for itself, so that no violation goes unlisted. steps begins where found does."""
    for length, begins in sorted(found.flags.items()):
        at = begins.find(1)
        while at >= 0:
            if 1 not in steps[at : at + length]:
                steps[at : at + length] = b"\x01" * length
            at = begins.find(1, at + 1)


def runs(steps: bytearray, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The maximal runs [a, b) of ones in steps[start:end]."""
    if start > 0 or end is not None:
        inside = steps[max(0, start) : end]
        return [(a + max(0, start), b + max(0, start)) for a, b in runs(inside)]
    found = []
    at = steps.find(1)
    while at >= 0:
        over = steps.find(0, at)
        over = len(steps) if over < 0 else over
        found.append((at, over))
        at = steps.find(1, over)
    return found
