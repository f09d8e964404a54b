"""The arrivals of an experiment, drawn from its plan alone.

Every 100 ms step of every user class is drawn by a counter-based generator keyed (seed, class, step): no step
depends on another, so any process can draw any of them, workers own disjoint arrivals, and an analysis can
redraw the counts years later. The bits come from BLAKE2b, never from `hash()`; the floating-point functions
used (exp, log, lgamma) differ between C libraries by an ulp at most, which flips a count about once in 1e12 steps.

    rate of a class at t     rate * share of its weight * min(1, t / ramp_s)
    poisson                  a Poisson count at the step's mean rate, then uniform offsets in the step
    constant                 the k-th arrival is where the expected count reaches k + phase; the phases of the
                             classes interleave them (two classes 1:1 alternate)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import blake2b
from itertools import chain, islice, pairwise, repeat
from itertools import count as _count
from struct import Struct

from harness.model.clock import step_start
from harness.model.records.load import STEP_S, LoadPlan

_UNIT = 2.0**-53
_NUMBER, _EIGHT = Struct("<Q"), Struct("<8Q")
"""Number of a block; the 64-bit words of one BLAKE2b digest."""


def arrivals(plan: LoadPlan, class_name: str, step: int) -> list[float]:
    """Offsets in seconds from the step's start, ascending, 0 <= offset < STEP_S.

    Raises KeyError when the plan has no such class, ValueError in the closed model (it has no schedule).
    """
    return _draw(plan, class_name, step)[1]


def owned(plan: LoadPlan, class_name: str, step: int, worker: int) -> tuple[int, list[float]]:
    """(arrivals of the step, offsets that worker number `worker` of `plan.workers` owns).

    The workers' lists are disjoint and together are exactly `arrivals`; who is first turns from step to step.
    """
    first, offsets = _draw(plan, class_name, step)
    return len(offsets), offsets[(worker - first) % plan.workers :: plan.workers]


def count(plan: LoadPlan, class_name: str, step: int) -> int:
    """How many arrivals the step has; O(1) in the rate."""
    return _counted(plan, class_name, step, _expected(plan, class_name, step), _expected(plan, class_name, step + 1))


def _counted(plan: LoadPlan, class_name: str, step: int, low: float, high: float) -> int:
    """low, high: expected arrivals before the step, and before the next one."""
    if plan.arrivals == "constant":
        phase = _phase(plan, class_name)
        return max(0, math.ceil(high - phase) - math.ceil(low - phase))
    return _poisson(high - low, _uniforms(plan.seed, class_name, step, b"count"))


def planned_counts(plan: LoadPlan, start_step: int, end_step: int) -> dict[str, list[int]]:
    """Arrivals of every class for each step in [start_step, end_step)."""
    steps = range(start_step, end_step)
    found = {}
    for name in (c.name for c in plan.classes):
        expected = pairwise(_expected(plan, name, step) for step in range(start_step, end_step + 1))
        found[name] = [_counted(plan, name, step, *both) for step, both in zip(steps, expected, strict=True)]
    return found


def share(plan: LoadPlan, class_name: str) -> float:
    """The class's part of all arrivals, 0..1."""
    weights = {c.name: c.weight for c in plan.classes}
    return weights[class_name] / sum(weights.values())


def _draw(plan: LoadPlan, class_name: str, step: int) -> tuple[int, list[float]]:
    """(rotation that decides whose the first arrival is, offsets)."""
    if plan.arrivals == "constant":
        return _evenly(plan, class_name, step)
    n = count(plan, class_name, step)
    if n == 0:
        return 0, []
    rotation, *words = islice(_words(plan.seed, class_name, step, b"offset"), n + 1)
    return rotation, sorted([min((word >> 11) * _UNIT * STEP_S, _LAST) for word in words])


_LAST = math.nextafter(STEP_S, 0.0)


def _evenly(plan: LoadPlan, class_name: str, step: int) -> tuple[int, list[float]]:
    phase = _phase(plan, class_name)
    first = math.ceil(_expected(plan, class_name, step) - phase)
    last = math.ceil(_expected(plan, class_name, step + 1) - phase)
    start = step_start(step)
    rate = _rate(plan) * share(plan, class_name)
    offsets = [_instant(rate, plan.ramp_s, k + phase) - start for k in range(first, last)]
    return first, [min(max(0.0, offset), _LAST) for offset in offsets]


def _rate(plan: LoadPlan) -> float:
    if plan.rate is None:
        raise ValueError("the closed model has no schedule of arrivals")
    return plan.rate


def _expected(plan: LoadPlan, class_name: str, step: int) -> float:
    """Expected arrivals of the class in [0, start of step): the integral of its rate."""
    rate, t, ramp = _rate(plan) * share(plan, class_name), max(0.0, step_start(step)), plan.ramp_s
    if t < ramp:
        return rate * t * t / (2.0 * ramp)
    return rate * (t - ramp / 2.0)


def _instant(rate: float, ramp: float, expected: float) -> float:
    """The inverse of `_expected`: when that many arrivals are expected to have come."""
    if expected < rate * ramp / 2.0:
        return math.sqrt(2.0 * ramp * expected / rate)
    return expected / rate + ramp / 2.0


def _phase(plan: LoadPlan, class_name: str) -> float:
    before = 0.0
    for c in plan.classes:
        part = share(plan, c.name)
        if c.name == class_name:
            return before + part / 2.0
        before += part
    raise KeyError(class_name)


def _words(seed: int, class_name: str, step: int, purpose: bytes) -> Iterator[int]:
    """64-bit words of one step: BLAKE2b in counter mode."""
    base = blake2b(b"%d\0%s\0%d\0%s\0" % (seed, class_name.encode(), step, purpose))
    return chain.from_iterable(map(_block, repeat(base), _count()))


def _block(base: blake2b, number: int) -> tuple[int, ...]:
    counted = base.copy()
    counted.update(_NUMBER.pack(number))
    return _EIGHT.unpack(counted.digest())


def _uniforms(seed: int, class_name: str, step: int, purpose: bytes) -> Iterator[float]:
    """Uniform in [0, 1), 53 bits."""
    return ((word >> 11) * _UNIT for word in _words(seed, class_name, step, purpose))


def _poisson(mean: float, uniforms: Iterator[float]) -> int:
    """One exact Poisson count; expected cost O(1).

    Below a mean of 10 by sequential inversion (Devroye, Non-Uniform Random Variate Generation, 1986, X.3.3),
    above by PTRS, transformed rejection with squeeze (Hormann, Insurance: Mathematics and Economics 12, 1993).
    """
    if mean <= 0.0:
        return 0
    if mean < 10.0:
        return _poisson_inversion(mean, next(uniforms))
    root, log_mean = math.sqrt(mean), math.log(mean)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2.0)
    while True:
        u, v = next(uniforms) - 0.5, next(uniforms)
        us = 0.5 - abs(u)
        if us <= 0.0:
            continue
        k = math.floor((2.0 * a / us + b) * u + mean + 0.43)
        if us >= 0.07 and v <= v_r:
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        if v <= 0.0:
            continue
        if math.log(v * inverse_alpha / (a / (us * us) + b)) <= k * log_mean - mean - math.lgamma(k + 1.0):
            return k


def _poisson_inversion(mean: float, u: float) -> int:
    k, p = 0, math.exp(-mean)
    cumulative = p
    # Beyond 200 the probabilities of a mean below 10 are under 1e-150: the bound only guards against rounding.
    while u > cumulative and k < 200:
        k += 1
        p *= mean / k
        cumulative += p
    return k
