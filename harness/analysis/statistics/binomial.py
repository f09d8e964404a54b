"""Exact binomial tails, and the three-valued judgement of a proportion.

A proportion target speaks of k bad requests among n: `error_rate < 1%`, or p95 < 200 ms as "at most 5 % of
requests take 200 ms or more". Every rule asks the same question of it: how likely are k or more bad requests
if the true proportion were exactly the limit p?
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import msgspec

from harness.model.records.result import Outcome
from harness.model.records.targets import Op

BROKEN_BELOW = 0.01
"""A target is broken only where chance alone would show as much in fewer than one run of a hundred."""

HELD_BELOW = 0.05
"""It is held only where a service exactly at the limit would look so good in fewer than one run of twenty. (Held where
met, with many requests: a service at its limit passed in 22 % of runs.)"""

TWO_LOOKS = 0.5
"""A phase that may be extended is looked at twice; at both looks half of either chance is allowed."""

_TINY = 1e-300
_PRECISE = 1e-15


def tail(k: float, n: float, p: float) -> float:
    """P(X >= k) for X binomial(n, p), exact to about ten digits for n up to ten million, in O(sqrt(n)).

    It is the regularised incomplete beta function I_p(k, n - k + 1) (NIST DLMF 8.17.5), here as the binomial
    mass at k times Gauss's continued fraction (DLMF 8.17.22), and so defined for real k and n as well: counts divided
    by a dispersion. The mass is Loader's saddle-point form ("Fast and Accurate Computation of Binomial Probabilities",
    2000): differences of lgamma lose eight digits at n = 10**7.
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
    if k < 1:
        # The other side of the symmetry needs a mass at k - 1, which is none.
        return max(0.0, 1.0 - _beta(n - k + 1, k, 1.0 - p))
    return max(0.0, 1.0 - _mass(k - 1, n, p) * p * _fraction(n - k + 1, k, 1.0 - p))


def lower_tail(k: float, n: float, p: float) -> float:
    """P(X <= k) for X binomial(n, p); real k and n as in `tail`."""
    if k >= n:
        return 1.0
    if k < 0:
        return 0.0
    if p <= 0.0:
        return 1.0
    if p >= 1.0:
        return 0.0
    # The roles of good and bad exchanged: P(X <= k) = P(n - X >= n - k), with no difference of nearly equal numbers.
    return tail(n - k, n, 1.0 - p)


def upper_bound(k: float, n: float, chance: float) -> float:
    """The proportion at which so few as k of n would be seen with probability `chance` (Clopper and Pearson, 1934)."""
    return root(lambda p: lower_tail(k, n, p) > chance) if k < n else 1.0


def lower_bound(k: float, n: float, chance: float) -> float:
    """The proportion at which so many as k of n would be seen with probability `chance`."""
    return root(lambda p: tail(k, n, p) < chance) if k > 0 else 0.0


def root(below: Callable[[float], bool]) -> float:
    """The p at which `below` turns false, to nine digits."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
        if high - low <= 1e-9 * high:
            break
    return (low + high) / 2


def needed(p: float, chance: float = HELD_BELOW) -> int:
    """Requests needed, not one of them bad, before a proportion of at most p can be called held:
    n >= ln chance / ln(1 - p). 59 for 5 %, 299 for 1 %; 72 and 368 with two looks.

    Raises ValueError unless 0 < p < 1.
    """
    if not 0.0 < p < 1.0:
        raise ValueError(f"a proportion must lie between 0 and 1: {p}")
    return math.ceil(math.log(chance) / math.log1p(-p) - 1e-9)


class Chances(msgspec.Struct, frozen=True):
    """What a judgement allows chance to do, and how much a count is worth.

    phi: the dispersion that "broken" divides k and n by, phi_held the one of "held" (dispersion.py).
    """

    broken: float = BROKEN_BELOW
    held: float = HELD_BELOW
    phi: float = 1.0
    phi_held: float = 1.0

    def two_looks(self) -> Chances:
        return msgspec.structs.replace(self, broken=self.broken * TWO_LOOKS, held=self.held * TWO_LOOKS)


def judge_proportion(k: float, n: float, p: float, op: Op = "<", chances: Chances = Chances()) -> Outcome:  # noqa: B008
    """Judge "k of n OP p": held, broken or undecided; not_judged when n is 0 (nothing was seen).

    held: met, and a proportion of exactly p would show as few bad requests with a probability of 0.05 at most. broken:
    not met, and p would show as many with a probability below 0.01. A percentile target is `<=` ("at most 5 %"). For
    `>` and `>=` the same with the roles of good and bad exchanged. At a limit of 0 or 1 there is nothing to estimate:
    the comparison decides.
    """
    if n <= 0:
        return "not_judged"
    if op in (">", ">="):
        return judge_proportion(n - k, n, 1.0 - p, "<" if op == ">" else "<=", chances)
    met = meets(k, n, p, op)
    if not 0.0 < p < 1.0:
        return "held" if met else "broken"
    if met:
        phi = chances.phi_held
        return "held" if lower_tail(k / phi, n / phi, p) <= chances.held * (1 + 1e-9) else "undecided"
    return "broken" if tail(k / chances.phi, n / chances.phi, p) < chances.broken else "undecided"


def judge_ratio(k: float, n: float, k0: int, n0: int, factor: float, chances: Chances = Chances()) -> Outcome:  # noqa: B008
    """Judge "k of n is below `factor` times the proportion of which k0 of n0 were seen": two samples.

    Given their sum, k is binomial(k + k0, factor n / (factor n + n0)) at the limit (Przyborowski and Wilenski, 1940,
    for small proportions). Without a bad request any such limit holds.
    """
    if n <= 0 or n0 <= 0:
        return "not_judged"
    if k == 0:
        return "held"
    share = factor * n / (factor * n + n0)
    if k * n0 > factor * k0 * n and tail(k / chances.phi, (k + k0) / chances.phi, share) < chances.broken:
        return "broken"
    if lower_tail(k / chances.phi_held, (k + k0) / chances.phi_held, share) <= chances.held:
        return "held"
    return "undecided"


def more_often(m: int, seconds: float, m0: int, seconds0: float, chance: float = BROKEN_BELOW) -> bool:
    """Whether m events in `seconds` are more than m0 in seconds0 can explain: P(X >= m | m + m0) < chance."""
    total = seconds + seconds0
    return m > 0 and total > 0 and tail(m, m + m0, seconds / total) < chance


def meets(k: float, n: float, p: float, op: Op = "<=") -> bool:
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


def exceeds(k: int, n: int, p: float, alpha: float, phi: float = 1.0) -> bool:
    """tail(k / phi, n / phi, p) < alpha, for many windows of about the same size.

    The smallest count that exceeds never falls with n, so the memoised counts of two round sizes around n
    settle nearly every window; only what lies between them costs a tail of its own.
    """
    if k <= p * n:
        return False  # at or below the mean the tail is near one half, far above any alpha in use
    if phi > 1.0:
        size = n / phi
        low = math.floor(size)
        grain = 1 << max(0, low.bit_length() - 7)
        low -= low % grain
        count = k / phi
        # `critical` is a whole number; a real count may exceed from just above the one before it.
        if count <= critical(low, p, alpha) - 1:
            return False
        return count >= critical(low + grain, p, alpha) or tail(count, size, p) < alpha
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


def _mass(k: float, n: float, p: float) -> float:
    """P(X = k), 0 <= k <= n (Loader 2000)."""
    q = 1.0 - p
    if k == 0:
        return math.exp(n * math.log1p(-p))
    if k == n:
        return math.pow(p, n)
    log = _stirling(n) - _stirling(k) - _stirling(n - k) - _deviance(k, n * p) - _deviance(n - k, n * q)
    return math.exp(log) * math.sqrt(n / (2.0 * math.pi * k * (n - k)))


def _stirling(n: float) -> float:
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


def _beta(a: float, b: float, x: float) -> float:
    """I_x(a, b) by the continued fraction alone, for b < 1, where the mass has no saddle point."""
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(a, b, x)
    back = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / b
    return 1.0 - back * _fraction(b, a, 1.0 - x)


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
