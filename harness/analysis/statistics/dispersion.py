"""How much clustered failures tell: real ones come in bursts, and a binomial takes each burst for many proofs.

Bursts of 20 at a true 0.5 % under a limit of 1 % read as broken in 10 % of runs, and showed an impact in half of them.
So counts are divided by a dispersion, taken from the 1 s counts of baseline alone, in a session those of its earlier
clean baselines with them: an outage in the fault phase must not excuse itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from harness.analysis.statistics.binomial import BROKEN_BELOW, Chances, exceeds, more_often
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.violations import sums

SECOND = 10
"""Steps."""

APART_SECONDS = 5
"""What lies so close to the worst second of baseline is left out of phi_held with it; bad seconds closer than this are
one episode; an episode longer than this is no hiccup."""


MUCH_LARGER = 4
"""An episode with more than so many times as many bad requests as the largest of baseline is none of its kind: a single
error in baseline would else excuse a total outage of almost five seconds."""


class Dispersion(msgspec.Struct, frozen=True):
    """phi: how many bad requests of a cluster tell as much as one (1.0: they come singly). phi_held: the same without
    baseline's worst second and 5 s on both sides of it: one pause of a second or two makes phi over 100, with which
    later outages were not seen at all and nothing was ever held. own_held: the same of its own baseline alone, without
    the earlier ones of its session. With theirs a service that pauses harmlessly was never held, whatever it did.
    episodes: runs of seconds of baseline with a bad request; seconds: with any request. Of all baselines together."""

    phi: float = 1.0
    phi_held: float = 1.0
    own_held: float = 1.0
    episodes: int = 0
    seconds: int = 0
    largest: int = 0
    """Bad requests in the largest of the episodes."""

    @property
    def chances(self) -> Chances:
        """With what a proportion is judged."""
        return Chances(phi=self.phi, phi_held=self.own_held)


def dispersion(series: Series, start_step: int, end_step: int, earlier: Sequence[Series] = ()) -> Dispersion:
    """Of the whole seconds of [start_step, end_step), and of those of each earlier baseline.

    Pearson's statistic of the 1 s counts over its degrees of freedom, sum((k - n r)^2 / (n r (1 - r))) / (seconds - 1)
    (McCullagh and Nelder, "Generalized Linear Models", 1989, 4.5), never below 1.
    """
    counts: list[tuple[int, int]] = []
    for one in earlier:
        # Seconds without a request count for nothing, and keep those of two baselines apart.
        counts += [*_seconds(one, one.start, one.end), *[(0, 0)] * APART_SECONDS]
    own = _seconds(series, start_step, end_step)
    counts += own
    if not any(bad for _, bad in counts):
        return Dispersion(seconds=sum(1 for n, _ in counts if n))
    by_second = [bad for _, bad in counts]
    found = episodes(by_second)
    return Dispersion(
        phi=_phi(counts),
        phi_held=_phi(_without_worst(counts)),
        own_held=_phi(_without_worst(own)),
        episodes=len(found),
        seconds=sum(1 for n, _ in counts if n),
        largest=max(sum(by_second[first : last + 1]) for first, last in found),
    )


def episodes(bad: list[int]) -> list[tuple[int, int]]:
    """[first, last] of the runs of seconds with a bad request that lie less than 5 s apart."""
    found: list[tuple[int, int]] = []
    for second, count in enumerate(bad):
        if count and found and second - found[-1][1] < APART_SECONDS:
            found[-1] = (found[-1][0], second)
        elif count:
            found.append((second, second))
    return found


def excused(
    series: Series, baseline: Dispersion, start_step: int, end_step: int, hold_steps: int
) -> list[tuple[int, int]]:
    """The episodes of [start_step, end_step), as steps [start, end), that say nothing against the service: they are no
    more frequent than in baseline, none is longer than 5 s or much larger than baseline's, and none is an outage by
    itself (the limit is not broken over a hold's length around it). An episode that is already on at start_step is the
    outage's own and is never among them."""
    counts = [bad for _, bad in _seconds(series, start_step, end_step)]
    found = episodes(counts)
    before = [bad for _, bad in _seconds(series, start_step - APART_SECONDS * SECOND, start_step)]
    if found and found[0][0] + 1 < APART_SECONDS and (found[0][0] == 0 or any(before)):
        found = found[1:]
    if more_often(len(found), len(counts), baseline.episodes, baseline.seconds):
        return []
    most = MUCH_LARGER * baseline.largest if baseline.episodes else math.inf
    short = [(a, b) for a, b in found if b - a < APART_SECONDS and sum(counts[a : b + 1]) <= most]
    steps = [(start_step + first * SECOND, start_step + (last + 1) * SECOND) for first, last in short]
    return [(a, b) for a, b in steps if not _is_outage(series, baseline, a, b, end_step, hold_steps)]


def _is_outage(series: Series, baseline: Dispersion, a: int, b: int, end_step: int, hold_steps: int) -> bool:
    low = max(series.start, min((a + b - hold_steps) // 2, end_step - hold_steps)) - series.start
    high = low + max(hold_steps, b - a)
    return exceeds(sum(series.bad[low:high]), sum(series.n[low:high]), series.limit, BROKEN_BELOW, baseline.phi)


def without(series: Series, stretches: list[tuple[int, int]]) -> Series:
    """The series with no bad request in these steps."""
    if not stretches:
        return series
    bad = list(series.bad)
    for start, end in stretches:
        low, high = max(0, start - series.start), max(0, min(end - series.start, len(bad)))
        bad[low:high] = [0] * (high - low)
    return msgspec.structs.replace(series, bad=bad)


def _seconds(series: Series, start_step: int, end_step: int) -> list[tuple[int, int]]:
    """(requests, bad ones) of each whole second."""
    low, high = max(start_step, series.start), min(end_step, series.end)
    n, bad = sums(series.n), sums(series.bad)
    at = range(low - series.start, high - series.start - SECOND + 1, SECOND)
    return [(n[i + SECOND] - n[i], bad[i + SECOND] - bad[i]) for i in at]


def _without_worst(counts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Without the second with the most bad requests beyond the mean share, and what lies APART_SECONDS around it."""
    if not any(bad for _, bad in counts):
        return counts
    share = sum(bad for _, bad in counts) / sum(n for n, _ in counts)
    worst = max(range(len(counts)), key=lambda i: counts[i][1] - counts[i][0] * share)
    return [count for i, count in enumerate(counts) if abs(i - worst) > APART_SECONDS]


def _phi(counts: list[tuple[int, int]]) -> float:
    asked = [(n, bad) for n, bad in counts if n]
    total, total_bad = sum(n for n, _ in asked), sum(bad for _, bad in asked)
    if len(asked) < 2 or not 0 < total_bad < total:
        return 1.0
    share = total_bad / total
    pearson = sum((bad - n * share) ** 2 / n for n, bad in asked) / (share * (1 - share))
    return max(1.0, pearson / (len(asked) - 1))
