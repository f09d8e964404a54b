"""Histories with known truth: Poisson arrivals whose chance of being bad changes at known instants."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.analysis.rules.recovery import Zero, recovered_step, recovery
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.violations import worst_baseline
from harness.model.clock import next_step, step_of
from harness.model.records.result import TargetRecovery

Rate = Callable[[float], float]
"""Chance of a request being bad, by its intended start in seconds since t0."""


def outage(begin_s: float, end_s: float, failing: float, background: float = 0.0) -> Rate:
    """`failing` of all requests fail in [begin_s, end_s), `background` of them at any other time."""
    return lambda at: failing if begin_s <= at < end_s else background


def worst_of(*rates: Rate) -> Rate:
    return lambda at: max(rate(at) for rate in rates)


def periodic(period_s: float, length_s: float, failing: float, offset_s: float = 0.0) -> Rate:
    """A pause of length_s every period_s: `failing` of the requests in it are bad."""
    return lambda at: failing if (at - offset_s) % period_s < length_s else 0.0


BASELINE_S = 60.0
FAULT_S = 60.0
LIMIT_S = 60.0
TAIL_S = 10.0
RATES = (20, 50, 200, 1_000, 10_000)

Shape = Callable[[float, float], Rate]
"""(undo_s, healthy_s) -> the rate; the fault begins at BASELINE_S."""


@dataclass(frozen=True)
class Case:
    """A kind of outage. limit: the target's proportion. recovers: whether there is an edge at healthy_s to find.

    early_s: healthy_s lies so long before the undo instead of 1 to 5 s after it.
    """

    shape: Shape
    limit: float = 0.01
    background: float = 0.0
    recovers: bool = True
    pauses: bool = False
    early_s: float | None = None


def failing(share: float, background: float = 0.0, **more: bool | float) -> Case:
    return Case(lambda undo, healthy: outage(BASELINE_S, healthy, share), background=background, **more)  # type: ignore[arg-type]


HARD_THEN_TAIL = Case(
    lambda undo, healthy: worst_of(outage(BASELINE_S, undo, 1.0), outage(undo, healthy, 0.1)),
)
"""Everything fails until the undo; 10 % go on failing until the service is healthy."""

NO_IMPACT = failing(0.0, recovers=False)


def never(share: float) -> Case:
    """It breaks with the fault and stays at `share`."""
    return Case(lambda undo, healthy: outage(BASELINE_S, math.inf, share), recovers=False)


def partly(share: float, left: float) -> Case:
    """`share` fail during the outage, `left` for ever after it."""
    return Case(
        lambda undo, healthy: worst_of(outage(BASELINE_S, healthy, share), outage(BASELINE_S, math.inf, left)),
        recovers=False,
    )


PAUSES = Case(lambda undo, healthy: outage(BASELINE_S, healthy, 1.0), limit=0.05, pauses=True)
"""Every 10 s all requests of 0.3 s are slow: 3 % of them, where 5 % may be. Before, during and after the fault."""


@dataclass(frozen=True)
class Run:
    """truth_s: the true recovery in seconds after zero (0 where the fault did no harm)."""

    truth_s: float
    recovery: TargetRecovery
    series: Series

    @property
    def error_s(self) -> float:
        assert self.recovery.seconds is not None
        return abs(self.recovery.seconds - self.truth_s)

    @property
    def holds_truth(self) -> bool:
        lower, upper = self.recovery.lower_s, self.recovery.upper_s
        return lower is not None and upper is not None and lower - 1e-9 <= self.truth_s <= upper + 1e-9

    @property
    def called_healthy(self) -> bool:
        return self.recovery.outcome in ("recovered", "no_impact")


def hold_s(rps: float) -> float:
    """15 s and 1,000 planned arrivals at least."""
    return max(15.0, 1000 / rps)


def simulate(case: Case, rps: float, seed: int | str) -> Run:
    """One experiment as the conductor would run it: load ends 10 s after the hold, or when the limit has passed."""
    draw = random.Random(f"truth {seed}")
    undo = BASELINE_S + FAULT_S + draw.random()
    delay = 1 + 4 * draw.random() if case.early_s is None else -case.early_s
    healthy = undo + delay
    rate, changes = case.shape(undo, healthy), [BASELINE_S, undo, healthy]
    hold = hold_s(rps)
    length = undo + LIMIT_S + hold + TAIL_S
    if case.pauses:
        offset = 10 * draw.random()
        rate = worst_of(rate, periodic(10, 0.3, 1.0, offset))
        changes += [offset + 10 * i + at for i in range(-1, round(length / 10) + 1) for at in (0.0, 0.3)]
    counts = series(rate, rps, length, case.limit, seed, changes, case.background)
    baseline = worst_baseline(counts, 0, step_of(BASELINE_S))
    step = recovered_step(counts, baseline, next_step(undo), next_step(hold), step_of(undo + LIMIT_S))
    end = length if step is None else min(length, step / 10 + hold + TAIL_S)
    result = recovery(counts, baseline, Zero(undo, undo, undo), hold, LIMIT_S, end, "error_rate < 1%", "<")
    return Run(max(0.0, delay) if case.recovers else 0.0, result, counts)


def series(
    rate: Rate,
    rps: float,
    length_s: float,
    limit: float,
    seed: int | str,
    changes: Sequence[float] = (),
    background: float = 0.0,
) -> Series:
    """Poisson arrivals at `rps` over [0, length_s), each bad with chance rate(its start).

    changes: every instant at which `rate` changes; between them it is constant, so the counts of the pieces of a
    step are drawn as such and no request is simulated one by one. background: added where the rate is lower.
    """
    draw = random.Random(f"{seed}")
    n, bad = [], []
    edges = sorted(changes)
    for step in range(round(length_s * 10)):
        low, high = step / 10, (step + 1) / 10
        cuts = [low, *(c for c in edges if low < c < high), high]
        total = failed = 0
        for a, b in itertools.pairwise(cuts):
            arrived = poisson(draw, rps * (b - a))
            total += arrived
            failed += binomial(draw, arrived, max(background, rate((a + b) / 2)))
        n.append(total)
        bad.append(failed)
    return Series(start=0, n=n, bad=bad, limit=limit)


def poisson(draw: random.Random, mean: float) -> int:
    """Exact: unit-rate exponential gaps in pieces of at most 500, whose sum is gamma distributed (Devroye 1986)."""
    count = 0
    while mean > 30:
        # The m-th arrival of a unit-rate process comes at a gamma(m) time.
        m = int(mean * 7 / 8)
        at = draw.gammavariate(m, 1.0)
        if at > mean:
            return count + binomial(draw, m - 1, mean / at)
        mean -= at
        count += m
    total = draw.expovariate(1.0)
    while total <= mean:
        count += 1
        total += draw.expovariate(1.0)
    return count


def binomial(draw: random.Random, n: int, p: float) -> int:
    """Exact: halve n by the median's beta distribution while it is large (Relles 1972), then count."""
    if p <= 0 or n <= 0:
        return 0
    if p >= 1:
        return n
    count = 0
    while n > 40:
        middle = 1 + n // 2
        at = draw.betavariate(middle, n + 1 - middle)
        if at <= p:
            count += middle
            n -= middle
            p = (p - at) / (1 - at)
        else:
            n = middle - 1
            p = p / at
    return count + sum(draw.random() < p for _ in range(n))
