"""A verdict rests on these tails: they are compared with exact fractions and with one another."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.statistics.binomial import critical, exceeds, judge_proportion, meets, needed, tail

PROPORTIONS = st.one_of(st.sampled_from([0.001, 0.01, 0.05, 0.5, 0.95]), st.floats(1e-4, 0.9999))


def exact(k: int, n: int, p: float) -> Fraction:
    f = Fraction(p)
    return sum((math.comb(n, i) * f**i * (1 - f) ** (n - i) for i in range(max(k, 0), n + 1)), Fraction(0))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 90).flatmap(lambda n: st.tuples(st.integers(-1, n + 1), st.just(n))), PROPORTIONS)
def test_the_tail_is_the_sum_of_the_exact_probabilities(kn: tuple[int, int], p: float) -> None:
    k, n = kn
    assert tail(k, n, p) == pytest.approx(float(exact(k, n, p)), rel=1e-11, abs=1e-300)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 10_000_000), st.floats(-6, 9), PROPORTIONS)
def test_more_bad_requests_are_never_more_likely_and_a_higher_limit_never_less(n: int, z: float, p: float) -> None:
    k = min(n, max(0, round(n * p + z * math.sqrt(n * p * (1 - p)))))
    here = tail(k, n, p)
    assert 0.0 <= here <= 1.0
    assert tail(k + 1, n, p) <= here * (1 + 1e-9)
    assert tail(k, n + 1, p) >= here * (1 - 1e-9)
    assert tail(k, n, min(1.0, p * 1.01)) >= here * (1 - 1e-9)


@pytest.mark.parametrize(
    ("k", "n", "p"), [(100_500, 10_000_000, 0.01), (50, 1000, 0.05), (1, 7, 0.3), (9_999, 10_000, 0.999)]
)
def test_the_tails_of_good_and_bad_add_up(k: int, n: int, p: float) -> None:
    assert tail(k, n, p) + tail(n - k + 1, n, 1 - p) == pytest.approx(1.0, abs=1e-9)


def test_ten_million_requests_agree_with_a_direct_sum() -> None:
    n, p, k = 10_000_000, 0.01, 101_200
    # The mass by lgamma is good to five digits here, the ratios of neighbouring masses are exact.
    term = total = 1.0
    i = k
    while term > 1e-18 * total:
        term *= (n - i) / (i + 1) * p / (1 - p)
        total += term
        i += 1
    log_mass = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(p) + (n - k) * math.log1p(-p)
    )
    assert tail(k, n, p) == pytest.approx(total * math.exp(log_mass), rel=1e-5)


def test_two_of_two_at_one_percent_is_not_below_one_in_ten_thousand() -> None:
    assert not tail(2, 2, 0.01) < 1e-4
    assert not exceeds(2, 2, 0.01, 1e-4)
    assert exceeds(3, 3, 0.01, 1e-4)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 60_000), st.floats(0, 8), st.sampled_from([0.001, 0.01, 0.05, 0.5]), st.sampled_from([1e-4, 0.01])
)
def test_the_fast_comparison_agrees_with_the_tail(n: int, z: float, p: float, alpha: float) -> None:
    k = min(n, math.ceil(n * p + z * math.sqrt(n * p * (1 - p))))
    assert exceeds(k, n, p, alpha) == (tail(k, n, p) < alpha)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60_000), st.sampled_from([0.001, 0.01, 0.05, 0.5]), st.sampled_from([1e-4, 0.01]))
def test_the_critical_count_is_the_first_rare_one(n: int, p: float, alpha: float) -> None:
    k = critical(n, p, alpha)
    assert k == n + 1 or tail(k, n, p) < alpha
    assert tail(k - 1, n, p) >= alpha


def test_a_tail_near_the_mean_of_ten_million_does_not_take_seconds() -> None:
    began = time.process_time()
    for k in range(100_000, 100_010):
        tail(k, 10_000_000, 0.01)
    assert time.process_time() - began < 1.0  # about 4 ms


def test_nonsense_is_refused_and_limits_of_nothing_and_everything_are_literal() -> None:
    with pytest.raises(ValueError, match="negative"):
        tail(0, -1, 0.5)
    for p in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 1"):
            needed(p)
    assert tail(1, 5, 0.0) == 0.0
    assert tail(5, 5, 1.0) == 1.0
    assert tail(6, 5, 1.0) == 0.0


def test_requests_needed_are_the_published_ones() -> None:
    assert (needed(0.05), needed(0.01)) == (59, 299)
    assert (needed(1 - 0.95), needed(1 - 0.99)) == (59, 299)
    assert needed(0.5) == 5


@pytest.mark.parametrize(
    ("k", "n", "p", "op", "outcome"),
    [
        (0, 298, 0.01, "<", "undecided"),  # too few to say held
        (0, 299, 0.01, "<", "held"),
        (0, 58, 0.05, "<=", "undecided"),
        (0, 59, 0.05, "<=", "held"),
        (10, 1000, 0.01, "<", "undecided"),  # exactly 1 % is not below 1 %, and not clearly above
        (10, 1000, 0.01, "<=", "undecided"),
        (50, 1000, 1 - 0.95, "<=", "undecided"),  # the limit as float arithmetic gives it
        (39, 1000, 1 - 0.95, "<=", "undecided"),
        (38, 1000, 1 - 0.95, "<=", "held"),  # so few come at 5 % in 4 runs of 100
        (70, 1000, 0.07, "<=", "undecided"),  # 0.07 * 1000 is 70.00000000000001
        (17, 1000, 0.01, "<", "undecided"),  # tail 0.027
        (19, 1000, 0.01, "<", "broken"),  # tail 0.007
        (3, 3, 0.01, "<", "broken"),
        (1, 3, 0.01, "<", "undecided"),
        (0, 0, 0.01, "<", "not_judged"),
        (0, 5, 0.0, "<=", "held"),
        (1, 5, 0.0, "<=", "broken"),
        (0, 5, 0.0, "<", "broken"),
        (997, 1000, 0.99, ">", "held"),
        (995, 1000, 0.99, ">", "undecided"),
        (985, 1000, 0.99, ">", "undecided"),
        (900, 1000, 0.99, ">=", "broken"),
        (100, 100, 0.99, ">=", "undecided"),
    ],
)
def test_a_proportion_is_held_broken_or_undecided(k: int, n: int, p: float, op: str, outcome: str) -> None:
    assert judge_proportion(k, n, p, op) == outcome  # type: ignore[arg-type]


def test_nothing_seen_meets_nothing() -> None:
    assert not any(meets(0, 0, 0.5, op) for op in ("<", "<=", ">", ">="))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.01, 0.05]))
def test_held_and_broken_never_contradict_the_comparison(n: int, share: float, p: float) -> None:
    k = round(n * share)
    outcome = judge_proportion(k, n, p, "<")
    if outcome == "held":
        assert Fraction(k, n) < Fraction(str(p))
    if outcome == "broken":
        assert Fraction(k, n) >= Fraction(str(p))
