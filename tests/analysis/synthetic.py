"""Histories with known truth: Poisson arrivals whose chance of being bad changes at known instants."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from harness.analysis.series import Series

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
        for a, b in zip(cuts, cuts[1:], strict=False):
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
