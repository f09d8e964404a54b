"""Shapes of services: what they do before, during and after a fault, given the instants of a run."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import simulated
from conducted import Instants, Shape
from simulated import Fate, Rate, Service, bursts, decaying, during, falling, pauses, spells, steady, together


def all_along(fail: Rate) -> Shape:
    return lambda at, draw, rps: Service(fail=fail)


def outage(failing: float, background: float = 0.0) -> Shape:
    return lambda at, draw, rps: Service(
        fail=together(during(at.injected_s, at.healthy_s, failing), steady(background))
    )


def bursty(true_rate: float, size: int = 20) -> Shape:
    """Bursts of `size` failures within 1 s, so that true_rate of the requests fail."""
    return lambda at, draw, rps: Service(burst=bursts(draw, true_rate * rps / size, size))


def ends(then: Callable[[Instants], Rate]) -> Shape:
    """Everything fails from the injection on, then what `then` says."""
    return lambda at, draw, rps: Service(fail=then(at))


def linear(length: float) -> Shape:
    def then(at: Instants) -> Rate:
        begin = at.healthy_s - 0.99 * length
        return together(during(at.injected_s, begin, 1.0), falling(begin, length))

    return ends(then)


def exponential(tau: float) -> Shape:
    def then(at: Instants) -> Rate:
        begin = at.healthy_s - tau * math.log(100)
        return together(during(at.injected_s, begin, 1.0), decaying(begin, tau))

    return ends(then)


def hard_then_tail(at: Instants) -> Rate:
    return together(during(at.injected_s, at.zero_s, 1.0), during(at.zero_s, at.healthy_s, 0.1))


def paused_before(length_s: float, slow: bool) -> Shape:
    """One pause in baseline in which every request is slow (or fails), and an outage of the same kind, of 20 %."""

    def shape(at: Instants, draw: random.Random, rps: float) -> Service:
        begin = at.baseline_s + draw.uniform(5.0, 55.0 - length_s)
        rate = together(during(begin, begin + length_s, 1.0), during(at.injected_s, at.healthy_s, 0.2))
        return Service(slow=rate) if slow else Service(fail=rate)

    return shape


def harmless_pauses(at: Instants, draw: random.Random, rps: float) -> Service:
    return Service(slow=spells(pauses(draw, 0.3, (5.0, 20.0))))


def outage_and_pauses(at: Instants, draw: random.Random, rps: float) -> Service:
    """Every 10 s all requests of 0.3 s are slow, 3 % of them. Besides, everything fails from the injection on."""
    first = draw.uniform(0.0, 9.0)
    slow = [(first + 10.0 * i, first + 10.0 * i + 0.3) for i in range(int(simulated.HORIZON_S / 10))]
    return Service(fail=during(at.injected_s, at.healthy_s, 1.0), slow=spells(slow))


def begun_early(by_s: float) -> Shape:
    """60 % fail from by_s before the injection on, each answered within 0.1 s."""

    def shape(at: Instants, draw: random.Random, rps: float) -> Service:
        begin = at.injected_s - by_s

        def fate(start: float, one: random.Random) -> Fate:
            if start >= begin and one.random() < 0.6:
                return Fate(True, 0.1 * one.random())
            return Fate(False, _natural(one))

        return Service(fail=during(begin, at.healthy_s, 0.6), singly=(at.injected_s - 5.0, at.injected_s + 5.0, fate))

    return shape


def sound(failing: float, hangs: bool, background: float = 0.0) -> Shape:
    """Nothing fails before the injection but what is in flight then: it ends soon after it, or times out."""

    def shape(at: Instants, draw: random.Random, rps: float) -> Service:
        def fate(start: float, one: random.Random) -> Fate:
            natural = _natural(one)
            hit = start + natural > at.injected_s and one.random() < failing
            if not hit:
                return Fate(one.random() < background, natural)
            if hangs:
                return Fate(True, 10.0)
            return Fate(True, max(0.0, at.injected_s - start) + 0.1 * one.random())

        return Service(
            fail=together(during(at.injected_s, at.healthy_s, failing), steady(background)),
            singly=(at.injected_s - 5.0, at.injected_s + 5.0, fate),
        )

    return shape


def _natural(draw: random.Random) -> float:
    """Seconds that a good request takes: 80 ms in the middle, 5 % over 0.4 s."""
    return min(3.0, draw.lognormvariate(math.log(0.08), 1.0))


def names(many: int) -> dict[str, float]:
    """The k-th name has 1/k of the first one's traffic."""
    weights = [1 / k for k in range(1, many + 1)]
    return {f"GET /items/{k}": weight / sum(weights) for k, weight in enumerate(weights, 1)}


def named(many: int) -> Shape:
    return lambda at, draw, rps: Service(fail=steady(0.001), names=names(many))


def named_bursts(many: int) -> Shape:
    return lambda at, draw, rps: Service(burst=bursts(draw, 0.001 * rps / 20, 20), names=names(many))


def bursts_of_one_name(many: int) -> Shape:
    """Every burst is one name's, as often as it is asked for."""

    def shape(at: Instants, draw: random.Random, rps: float) -> Service:
        found = {name: bursts(draw, part * 0.001 * rps / 20, 20) for name, part in names(many).items()}
        return Service(own_burst=found, names=names(many))

    return shape


RARE = "POST /rare"


def one_dead(many: int) -> Shape:
    shares = {name: 0.994 * part for name, part in names(many - 1).items()} | {RARE: 0.006}
    return lambda at, draw, rps: Service(
        fail=steady(0.001), names=shares, own={RARE: during(at.injected_s, at.healthy_s, 1.0)}
    )


def late_outage(at: Instants, draw: random.Random, rps: float) -> Service:
    return Service(fail=during(at.injected_s + draw.uniform(0.5, 3.0), at.healthy_s, 1.0))


def blips_in_tail(at: Instants, draw: random.Random, rps: float) -> Service:
    begins = [at.tail_s + at_s + draw.uniform(0.0, 2.0) for at_s in (1.0, 4.0, 7.0)]
    blips = [(begin, begin + draw.uniform(0.1, 0.2)) for begin in begins]
    return Service(fail=during(at.injected_s, at.healthy_s, 1.0), slow=spells(blips))
