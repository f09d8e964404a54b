"""Which acknowledged writes are read back after a run, and what the result says of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from harness.analysis.record.spans import fault_intervals
from harness.model.records import events as ev
from harness.model.records.acknowledged import Noted
from harness.model.records.plan import Plan
from harness.model.records.result import AcknowledgedResult

BEFORE_S = 5.0
"""What was acknowledged so long before a fault may not have been safe yet when it came."""
AFTERWARDS_S = 5.0
MOST_AROUND = 2_000
"""Read back of what was acknowledged around the faults; at one loss in 200 the chance to see none is under 1e-4."""
MOST_ELSEWHERE = 500
MOST_AROUND_SHARED = 1_000
"""Between two experiments everybody waits for it: at one loss in 200 the chance to see none is under 1 in 100."""
LEAST_RATE, MOST_RATE = 50.0, 500.0
UNPLANNED_RATE = 200.0

Ask = tuple[str, str]


def choose(plan: Plan, history: Sequence[ev.Event], noted: Sequence[Noted]) -> tuple[tuple[Ask, ...], int]:
    """((name, id) to ask for, how many were noted in all). Drawn evenly from the plan's seed, in random order.

    Everything around the faults comes first: what was acknowledged from BEFORE_S before an injection to AFTERWARDS_S
    after its undo. Without a fault every write is elsewhere.
    """
    end_s = max((row.at for row in noted), default=0.0) + 1.0
    faults = [(a - BEFORE_S, b + AFTERWARDS_S) for a, b in fault_intervals(plan, history, end_s)]
    around: dict[Ask, None] = {}
    elsewhere: dict[Ask, None] = {}
    for row in noted:
        near = any(row.at < b and a < row.at + 1.0 for a, b in faults)
        (around if near else elsewhere).update(dict.fromkeys((row.name, id_) for id_ in row.ids))
    for ask in around:
        elsewhere.pop(ask, None)
    draw = random.Random(plan.seed)
    shared = plan.phases.settle_s is not None
    most = (MOST_AROUND_SHARED, 0) if shared and faults else (MOST_AROUND, MOST_ELSEWHERE)
    asks = [*_some(draw, around, most[0]), *_some(draw, elsewhere, most[1])]
    draw.shuffle(asks)
    return tuple(asks), len(around) + len(elsewhere) + sum(row.left_out for row in noted)


def rate(plan: Plan) -> float:
    """Looks per second: what the load itself asked of the target, within bounds. Between two experiments everybody
    waits for it."""
    if plan.phases.settle_s is not None:
        return MOST_RATE
    return min(MOST_RATE, max(LEAST_RATE, plan.load.rate or UNPLANNED_RATE))


def acknowledged_result(history: Sequence[ev.Event]) -> AcknowledgedResult | None:
    """None when the locustfile noted nothing."""
    told = next((event for event in reversed(history) if isinstance(event, ev.ReadBack)), None)
    if told is None:
        return None
    lost = next((event for event in reversed(history) if isinstance(event, ev.DataLost)), None)
    result = msgspec.convert(told, AcknowledgedResult, from_attributes=True)
    return msgspec.structs.replace(result, examples=lost.examples if lost is not None else ())


def _some(draw: random.Random, asks: dict[Ask, None], most: int) -> list[Ask]:
    every = list(asks)
    return every if len(every) <= most else draw.sample(every, most)
