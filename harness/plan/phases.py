"""Phase lengths, and the few numbers that say whether they can decide anything."""

from __future__ import annotations

import math

import msgspec

from harness.model.errors import UsageError
from harness.model.records.load import STEP_S
from harness.model.records.plan import MAX_PHASE_S, PhasePlan
from harness.model.records.targets import JudgedPhase
from harness.model.units import format_duration

MIN_BASELINE_S = 15.0
MIN_FAULT_S = 10.0
MIN_HOLD_S = 15.0
HOLD_ARRIVALS = 1_000
"""Over which recovery must hold where nobody says (50 s at 20 RPS)."""
MIN_RECOVERY_LIMIT_S = 60.0
DECIDING_ARRIVALS = 430
"""`error_rate < 1%` is held by 368 good requests at either of two looks; so many planned are seldom fewer than that
(Poisson). A phase that is planned for fewer decides nothing."""
MOST_EXTENDED = 3.0
"""A phase that goes on once lasts at most so many times as long."""
SETTLE_S = 120.0
"""How long an experiment on a shared load waits for a target at rest."""
ONE_SHOT_S = 1.0
ONE_SHOT_ARRIVALS = 1_000
"""Of a fault phase of one-shots alone, from the last of them on. The event itself is over in milliseconds, and a phase
that ends with it has too few requests to decide its targets: nothing could ever pass."""


def on_grid(seconds: float) -> float:
    """The next multiple of the 100 ms grid: phase edges lie on it so that no window row is split."""
    return round(math.ceil(seconds / STEP_S - 1e-9) * STEP_S, 1)


def shortest(least_s: float, rate: float | None, arrivals: int | None = None) -> float:
    """The shortest length of a phase that can decide anything: at least least_s and so many planned arrivals, which
    are DECIDING_ARRIVALS where nothing is said."""
    wanted = DECIDING_ARRIVALS if arrivals is None else arrivals
    return least_s if not rate else on_grid(max(least_s, wanted / rate))


def lengths(
    *,
    ramp_s: float,
    warmup_s: float,
    baseline_s: float,
    fault_s: float,
    one_shot_only: bool,
    run_time_s: float,
    rate: float | None,
    request_timeout_s: float,
    recovery_limit_s: float | None = None,
    hold_s: float | None = None,
    soak_s: float = 0.0,
    extend: tuple[JudgedPhase, ...] = (),
) -> PhasePlan:
    """Phase lengths in seconds, on the grid. Raises UsageError for a length below what a verdict needs."""
    _at_least("baseline_s", baseline_s, MIN_BASELINE_S, rate)
    if not one_shot_only:
        _at_least("fault_s", fault_s, MIN_FAULT_S, rate)
    if hold_s is not None:
        _at_least("hold_s", hold_s, MIN_HOLD_S, rate)
    hold = on_grid(hold_s if hold_s is not None else shortest(MIN_HOLD_S, rate, HOLD_ARRIVALS))
    before = on_grid(ramp_s + warmup_s) + on_grid(baseline_s) + on_grid(fault_s)
    limit = recovery_limit_s if recovery_limit_s is not None else max(MIN_RECOVERY_LIMIT_S, run_time_s - before)
    if limit < 1:
        raise UsageError(f"{format_duration(limit)} is too short", hint="at least 1s", field="recovery_limit_s")
    for field, value in (
        ("warmup_s", warmup_s),
        ("baseline_s", baseline_s),
        ("fault_s", fault_s),
        ("recovery_limit_s", limit),
        ("soak_s", soak_s),
    ):
        if value > MAX_PHASE_S:
            raise UsageError(f"{format_duration(value)} is over 24 hours", field=field)
    return PhasePlan(
        warmup_s=on_grid(ramp_s + warmup_s),
        baseline_s=on_grid(baseline_s),
        gap_s=on_grid(request_timeout_s + 2.0),
        fault_s=on_grid(fault_s),
        recovery_limit_s=on_grid(limit),
        hold_s=hold,
        after_s=on_grid(hold + soak_s),
        # Load goes on for so much longer after the hold, so that final windows cover it.
        tail_s=on_grid(min(10.0, max(5.0, request_timeout_s))),
        extend=extend,
    )


def sharing(phases: PhasePlan, settle_s: float = SETTLE_S) -> PhasePlan:
    """The same phases on a load that was there before and goes on afterwards."""
    return msgspec.structs.replace(phases, warmup_s=0.0, tail_s=0.0, settle_s=settle_s)


def _at_least(field: str, value: float, least_s: float, rate: float | None) -> None:
    least = shortest(least_s, rate)
    if value < least:
        why = f" ({DECIDING_ARRIVALS} arrivals at {rate:g} RPS)" if rate and least > least_s else ""
        raise UsageError(
            f"{format_duration(value)} is too short to judge anything",
            hint=f"at least {format_duration(least)}{why}",
            field=field,
        )


def shortest_run(phases: PhasePlan) -> float:
    """Seconds the plan needs when recovery is immediate and the gap is empty."""
    return phases.warmup_s + phases.baseline_s + phases.fault_s + phases.after_s + phases.tail_s


def longest_run(phases: PhasePlan) -> float:
    """Seconds after which a run is over that recovers in the last moment allowed, with every phase extended that may
    be."""
    more = phases.settle_s or 0.0
    more += sum((MOST_EXTENDED - 1) * phases.judged[name] for name in phases.extend)
    return shortest_run(phases) + more + phases.gap_s + phases.recovery_limit_s
