"""Exact binomial tails, and the three-valued judgement of a proportion.

A proportion target speaks of k bad requests among n: `error_rate < 1%`, or p95 < 200 ms as "at most 5 % of
requests take 200 ms or more". Every rule asks the same question of it: how likely are k or more bad requests
if the true proportion were exactly the limit p?
"""

from __future__ import annotations

import math
from functools import lru_cache

from harness.model.result import Outcome
from harness.model.targets import Op

BROKEN_BELOW = 0.01
"""A target is broken only where chance alone would show as much in fewer than one run of a hundred."""

UNSEEN = 0.05
"""`held` needs so many requests that not one bad request in them would have had less than this chance at the limit."""

_TINY = 1e-300
_PRECISE = 1e-15


def tail(k: int, n: int, p: float) -> float:
    """P(X >= k) for X binomial(n, p), exact to about ten digits for n up to ten million, in O(sqrt(n)).

    It is the regularised incomplete beta function I_p(k, n - k + 1) (NIST DLMF 8.17.5), here as the binomial
    mass at k times Gauss's continued fraction (DLMF 8.17.22). The mass is Loader's saddle-point form ("Fast and
    Accurate Computation of Binomial Probabilities", 2000): differences of lgamma lose eight digits at n = 10**7.
    p outside 0..1 counts as 0 or 1. Raises ValueError for n < 0.
    """
    if n < 0:
        raise ValueError(f"n must not be negative: {n}")
    if k <= 0:
        return 1.0
    if k > n or p <= 0.0:
        return 0.0
    if p >= 1.0:
        return 1.0
    if k == n:
        # Not only faster: two of two at 1 % is 1e-4 to the last bit, and rules compare with 1e-4.
        return math.pow(p, n)
    if k == 1:
        return -math.expm1(n * math.log1p(-p))
    if k > (n + 1) * p:
        return min(1.0, _mass(k, n, p) * (1.0 - p) * _fraction(k, n - k + 1, p))
    return max(0.0, 1.0 - _mass(k - 1, n, p) * p * _fraction(n - k + 1, k, 1.0 - p))


def needed(p: float) -> int:
    """Requests needed before a proportion of at most p can be called held: n >= ln 0.05 / ln(1 - p).

    59 for 5 %, 299 for 1 %. Raises ValueError unless 0 < p < 1.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"a proportion must lie between 0 and 1: {p}")
    return math.ceil(math.log(UNSEEN) / math.log1p(-p) - 1e-9)


def judge_proportion(k: int, n: int, p: float, op: Op = "<") -> Outcome:
    """Judge "k of n OP p": held, broken or undecided; not_judged when n is 0 (nothing was seen).

    held: met, and n >= needed(p). broken: not met, and as many bad requests would come by chance with a
    probability below 0.01. A percentile target is `<=` ("at most 5 %"). For `>` and `>=` the same with the
    roles of good and bad exchanged. At a limit of 0 or 1 there is nothing to estimate: the comparison decides.
    """
    if n <= 0:
        return "not_judged"
    if op in (">", ">="):
        return judge_proportion(n - k, n, 1.0 - p, "<" if op == ">" else "<=")
    met = meets(k, n, p, op)
    if not 0.0 < p < 1.0:
        return "held" if met else "broken"
    if met:
        return "held" if n >= needed(p) else "undecided"
    return "broken" if tail(k, n, p) < BROKEN_BELOW else "undecided"


def meets(k: int, n: int, p: float, op: Op = "<=") -> bool:
    """k/n OP p as decimals: `1 - 0.95` and `0.05` mean the same limit. False when n is 0."""
    if n <= 0:
        return False
    over = k - p * n
    equal = abs(over) <= 1e-12 * n + 1e-9
    match op:
        case "<":
            return over < 0 and not equal
        case "<=":
            return over < 0 or equal
        case ">":
            return over > 0 and not equal
        case ">=":
            return over > 0 or equal


def exceeds(k: int, n: int, p: float, alpha: float) -> bool:
    """tail(k, n, p) < alpha, for many windows of about the same size.

    The smallest count that exceeds never falls with n, so the memoised counts of two round sizes around n
    settle nearly every window; only what lies between them costs a tail of its own.
    """
    if k <= p * n:
        return False  # at or below the mean the tail is near one half, far above any alpha in use
    grain = 1 << max(0, n.bit_length() - 7)
    below = n - n % grain
    if k < critical(below, p, alpha):
        return False
    if grain == 1:
        return True
    if k >= critical(below + grain, p, alpha):
        return True
    return tail(k, n, p) < alpha


@lru_cache(maxsize=16384)
def critical(n: int, p: float, alpha: float) -> int:
    """The smallest k with tail(k, n, p) < alpha; n + 1 where even n of n is not that rare."""
    low = min(n, math.floor(n * p))  # never rare enough
    step = max(1, math.ceil(math.sqrt(n * p * (1.0 - p))))
    high = low + 1
    while high <= n and tail(high, n, p) >= alpha:
        low, high = high, high + step
    high = min(high, n + 1)
    while high - low > 1:
        middle = (low + high) // 2
        if tail(middle, n, p) < alpha:
            high = middle
        else:
            low = middle
    return high


def _mass(k: int, n: int, p: float) -> float:
    """P(X = k), 0 <= k <= n (Loader 2000)."""
    q = 1.0 - p
    if k == 0:
        return math.exp(n * math.log1p(-p))
    if k == n:
        return math.pow(p, n)
    log = _stirling(n) - _stirling(k) - _stirling(n - k) - _deviance(k, n * p) - _deviance(n - k, n * q)
    return math.exp(log) * math.sqrt(n / (2.0 * math.pi * k * (n - k)))


def _stirling(n: int) -> float:
    """ln n! less Stirling's approximation of it."""
    if n < 16:
        return math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2.0 * math.pi)
    nn = float(n) * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - (1 / 1680 - 1 / 1188 / nn) / nn) / nn) / nn) / n


def _deviance(x: float, mean: float) -> float:
    """x ln(x / mean) + mean - x without cancellation where x is near mean."""
    if abs(x - mean) >= 0.1 * (x + mean):
        return x * math.log(x / mean) + mean - x
    v = (x - mean) / (x + mean)
    total = (x - mean) * v
    term = 2.0 * x * v
    odd = 1
    while True:
        term *= v * v
        odd += 2
        more = total + term / odd
        if more == total:
            return total
        total = more


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of I_x(a, b), by Lentz's method; x < (a + 1) / (a + b + 2) makes it converge fast."""
    c = 1.0
    d = 1.0 - (a + b) * x / (a + 1.0)
    d = 1.0 / (d if abs(d) > _TINY else _TINY)
    result = d
    for m in range(1, 1000 + 20 * math.isqrt(int(a + b))):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        d = 1.0 + even * d
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = 1.0 + even / c
        c = c if abs(c) > _TINY else _TINY
        result *= d * c
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        d = 1.0 + odd * d
        d = 1.0 / (d if abs(d) > _TINY else _TINY)
        c = 1.0 + odd / c
        c = c if abs(c) > _TINY else _TINY
        change = d * c
        result *= change
        if abs(change - 1.0) < _PRECISE:
            return result
    raise ArithmeticError(f"incomplete beta did not converge: a={a}, b={b}, x={x}")
