"""What so many requests can tell of a proportion: for the plan, before anything has run."""

from __future__ import annotations

import msgspec

from harness.analysis.statistics.binomial import Chances, critical, lower_tail, root, tail
from harness.model.records.metrics import ALLOWED_OVER
from harness.model.records.plan import Plan
from harness.model.records.targets import Target
from harness.plan.loadplan import share_of_name
from harness.plan.phases import MOST_EXTENDED

SURE = 0.95


class Tells(msgspec.Struct, frozen=True):
    """n planned requests of a phase. held: a true rate of at most this is held in 19 of 20 runs, None where none is.
    broken: one of at least this is broken in as many. held_later: the same as held where the phase goes on."""

    n: int
    held: float | None
    broken: float
    held_later: float | None


def tells(target: Target, plan: Plan) -> Tells | None:
    """Of a primary, absolute percentile or share of requests; None for others, and without a planned rate."""
    rate = plan.load.rate
    p = ALLOWED_OVER.get(target.metric, target.value if target.traits.share else 0.0)
    if rate is None or target.phase is None or target.of_baseline or not 0 < p < 1 or target.op not in ("<", "<="):
        return None
    share = 1.0 if target.name is None else share_of_name(plan.load, target.name)
    n = round(rate * plan.phases.judged[target.phase] * share)
    chances = Chances().two_looks() if target.phase in plan.phases.extend else Chances()
    later = round(n * MOST_EXTENDED) if target.phase in plan.phases.extend else 0
    return Tells(
        n=n,
        held=_held_up_to(n, p, chances.held),
        broken=root(lambda rate: tail(critical(n, p, chances.broken), n, rate) < SURE),
        held_later=_held_up_to(later, p, chances.held) if later else None,
    )


def _held_up_to(n: int, p: float, chance: float) -> float | None:
    if n <= 0 or lower_tail(0, n, p) > chance:
        return None
    low, high = 0, max(1, round(n * p))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if lower_tail(middle, n, p) <= chance else (low, middle)
    return root(lambda rate: lower_tail(low, n, rate) > SURE)
