"""Which windows violate a proportion target: the one notion that recovery, impact and relapses rest on.

Windows of 0.1 s, 1 s and 5 s begin at every 0.1 s step. The short one places an edge under high load, the long
ones collect enough requests under low load.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import msgspec

from harness.analysis.statistics.binomial import exceeds
from harness.analysis.statistics.series import Series

LENGTHS = (1, 10, 50)
"""Window lengths in steps: 0.1 s, 1 s, 5 s."""

RARE = 1e-4
"""Chance of a window this bad at the limit itself. A few hundred windows are looked at in a hold, so 1e-4 leaves a
healthy service alone; "ratio above the limit" never called one recovered in 30 % of runs at 50 requests/s."""

WORSE_THAN_BASELINE = 1.25
"""A window must also be worse than the worst of its length in baseline by this factor: what the service did before
the fault is no sign of it. Without it, a harmless 0.3 s pause every 10 s never counts as recovered."""


SECOND_WORST_FROM = 600
"""Steps of baseline (60 s), in a session of its clean ones together, from which the yardstick is the second-worst
window. With the worst, one pause of a second or two hid later outages in 22 of 30 runs; the second-worst of only 15 s
showed harmless pauses as an impact in 65 %."""

APART_STEPS = 50
"""The second-worst window lies at least 5 s away from the worst."""


class Baseline(msgspec.Struct, frozen=True):
    """worst: the yardstick, a proportion of bad requests, by window length in steps. phi: what the counts of a window
    are divided by (Dispersion.phi_held); phi_broken: what those of an outage by itself are."""

    worst: dict[int, float]
    phi: float = 1.0
    phi_broken: float = 1.0


def worst_baseline(
    series: Series,
    start_step: int,
    end_step: int,
    phi: float = 1.0,
    phi_broken: float = 1.0,
    earlier: Sequence[Series] = (),
) -> Baseline:
    """The yardstick of the windows lying wholly inside [start_step, end_step), or inside one earlier baseline; 0 for a
    length of which none had a request."""
    low, high = max(start_step, series.start) - series.start, max(0, min(end_step, series.end) - series.start)
    parts = [*((one.n, one.bad) for one in earlier), (series.n[low:high], series.bad[low:high])]
    second = sum(len(n) for n, _ in parts) >= SECOND_WORST_FROM
    worst = {}
    for length in LENGTHS:
        shares = [_shares(n, bad, length) for n, bad in parts]
        most = max(chain(*shares), default=0.0)
        if second and most > 0:
            own = next(one for one in shares if most in one)
            at, apart = own.index(most), length + APART_STEPS
            del own[max(0, at - apart + 1) : at + apart]
            most = max(chain(*shares), default=0.0)
        worst[length] = most
    return Baseline(worst, phi, phi_broken)


def _shares(n: list[int], bad: list[int], length: int) -> list[float]:
    """The proportion of bad requests of every window of one length."""
    total, total_bad = sums(n), sums(bad)
    ends = zip(total, total[length:], total_bad, total_bad[length:], strict=False)
    return [(b1 - b0) / (n1 - n0) if n1 > n0 else 0.0 for n0, n1, b0, b1 in ends]


class Violations(msgspec.Struct, frozen=True):
    """flags[length][i] is 1 when the window of `length` steps beginning at step start + i violates.

    Only windows lying wholly inside [start, end) are there, so flags[length] has end - start - length + 1 entries.
    """

    start: int
    end: int
    flags: dict[int, bytes]

    @property
    def any(self) -> bool:
        return any(1 in flags for flags in self.flags.values())

    def last_inside(self, start: int, end: int) -> int | None:
        """The latest beginning of a violating window that lies wholly inside [start, end)."""
        found = -1
        low = max(0, start - self.start)
        for length, flags in self.flags.items():
            found = max(found, flags.rfind(1, low, max(low, end - self.start - length + 1)))
        return None if found < 0 else self.start + found

    def last_beginning(self, start: int, end: int) -> int | None:
        """The latest beginning in [start, end) of a violating window, wherever it ends."""
        found = -1
        low, high = max(0, start - self.start), max(0, end - self.start)
        for flags in self.flags.values():
            found = max(found, flags.rfind(1, low, max(low, high)))
        return None if found < 0 else self.start + found

    def first_ending(self, start: int, end: int) -> int | None:
        """The earliest last step, in [start, end), of a violating window, wherever it begins."""
        found: int | None = None
        for length, flags in self.flags.items():
            low = max(0, start - self.start - length + 1)
            at = flags.find(1, low, max(low, end - self.start - length + 1))
            if at >= 0 and (found is None or at + length - 1 < found):
                found = at + length - 1
        return None if found is None else self.start + found


def violating(
    series: Series, baseline: Baseline, start_step: int | None = None, end_step: int | None = None
) -> Violations:
    """Judge every window of the series, or of its steps in [start_step, end_step). Linear in the number of steps."""
    low = series.start if start_step is None else min(max(start_step, series.start), series.end)
    high = series.end if end_step is None else max(low, min(end_step, series.end))
    n, bad = series.n[low - series.start : high - series.start], series.bad[low - series.start : high - series.start]
    return Violations(low, high, {length: flags(n, bad, length, series.limit, baseline) for length in LENGTHS})


def flags(n: list[int], bad: list[int], length: int, limit: float, baseline: Baseline, rare: float = RARE) -> bytes:
    """For each window of one length, by the step it begins at: 1 where it violates."""
    total, total_bad = sums(n), sums(bad)
    found = bytearray(max(0, len(n) - length + 1))
    floor = max(limit, WORSE_THAN_BASELINE * baseline.worst.get(length, 0.0))
    ends = zip(total, total[length:], total_bad, total_bad[length:], strict=False)
    for i, (n0, n1, b0, b1) in enumerate(ends):
        if b1 - b0 > floor * (n1 - n0) and exceeds(b1 - b0, n1 - n0, limit, rare, baseline.phi):
            found[i] = 1
    return bytes(found)


def sums(values: list[int]) -> list[int]:
    """Running sums with a leading 0: the sum of values[a:b] is sums[b] - sums[a]."""
    return list(accumulate(values, initial=0))
