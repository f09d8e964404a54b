"""What the fault did to one target: when it began to hurt, for how long, and whether the service coped meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.binomial import exceeds, meets
from harness.analysis.recovery import CLEARLY_OVER
from harness.analysis.series import Series
from harness.analysis.stretches import violating_stretches
from harness.analysis.violations import LENGTHS, Baseline, Violations, sums, violating
from harness.model.clock import next_step, step_of, step_start
from harness.model.targets import Op

Stretch = tuple[float, float]


def impact_start(series: Series, baseline: Baseline, first_injection_step: int, end_step: int) -> float | None:
    """When the target was first broken, in seconds since t0; None when it never was.

    The mirror of the recovered step: of the windows that end in [first_injection_step, end_step), the first that
    violates; the impact is the step in which it ends. (Windows that begin there put it up to 3 s too early.)
    """
    found = violating(series, baseline, first_injection_step - max(LENGTHS), end_step)
    step = found.first_ending(first_injection_step, end_step)
    return None if step is None else step_start(step)


def violating_time(series: Series, baseline: Baseline, start_step: int, end_step: int) -> list[Stretch]:
    """Merged stretches (start_s, end_s) of [start_step, end_step) in which the target was broken.

    A step counts when, at one length, both a window that begins and one that ends there violate. The windows may
    reach beyond the asked-for range, so give a series that does, where there is one.
    """
    longest = max(LENGTHS)
    found = violating(series, baseline, start_step - longest, end_step + longest)
    return violating_stretches(found, start_step, end_step)


def mitigated(
    series: Series,
    baseline: Baseline,
    faults: Sequence[Stretch],
    hold_s: float,
    phase_end_s: float,
    op: Op = "<=",
) -> tuple[float | None, bool]:
    """When the target held again while a fault was still on: (seconds since t0, at_least).

    faults: (injected_s, undone_s) of each activation. Only time inside them, up to phase_end_s, counts: the gaps of a
    flapping fault prove nothing, so they are cut out and the hold is made of the time that is left. at_least: the
    target held until the fault ended, for at least the longest window (5 s) but for less than hold_s.
    (None, False) when it was never broken while a fault was on, or did not hold again.
    """
    active = _active_steps(series, faults, phase_end_s)
    if not active:
        return None, False
    found = violating(series, baseline, active[0], active[-1] + 1)
    violations = _latest_by_position(found, active)
    last = max((i for i, flag in enumerate(violations) if flag), default=None)
    if last is None:
        return None, False
    hold = max(1, next_step(hold_s))
    n = sums([series.n[step - series.start] for step in active])
    bad = sums([series.bad[step - series.start] for step in active])
    at = violations.index(1) + 1
    while at < len(active):
        end = min(at + hold, len(active))
        if end - at < min(hold, max(LENGTHS)):
            return None, False
        violation = violations.rfind(1, at, end)
        if violation >= 0:
            at = violation + 1
            continue
        bad_n, all_n = bad[end] - bad[at], n[end] - n[at]
        if all_n == 0 or exceeds(bad_n, all_n, series.limit, CLEARLY_OVER):
            at += 1
            continue
        if not meets(bad_n, all_n, series.limit, op):
            return None, False
        return step_start(active[at]), end - at < hold
    return None, False


def budget_burnt(bad: int, planned: int, p: float) -> float | None:
    """Share of the error budget used: bad requests / (allowed proportion x requests planned in the run).

    1.0 is the whole budget. None where there is no budget to speak of (no requests, or a limit of 0).
    """
    return bad / (p * planned) if planned > 0 and p > 0 else None


def _active_steps(series: Series, faults: Sequence[Stretch], phase_end_s: float) -> list[int]:
    """The whole steps that lie inside an activation, in order."""
    steps: set[int] = set()
    for injected_s, undone_s in faults:
        low = max(series.start, next_step(injected_s))
        steps.update(range(low, min(series.end, step_of(min(undone_s, phase_end_s)))))
    return sorted(steps)


def _latest_by_position(found: Violations, active: list[int]) -> bytearray:
    """For each active step: 1 where a violating window begins that lies wholly inside one activation."""
    flags = bytearray(len(active))
    for length, violates in found.flags.items():
        for i in range(len(active) - length + 1):
            step = active[i]
            if active[i + length - 1] == step + length - 1 and violates[step - found.start]:
                flags[i] = 1
    return flags
