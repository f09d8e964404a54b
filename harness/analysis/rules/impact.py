"""What the fault did to one target: when it began to hurt, for how long, and whether the service coped meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.rules.recovery import CLEARLY_OVER, EDGE_LEAD_STEPS, held_from
from harness.analysis.statistics import changepoint
from harness.analysis.statistics.binomial import exceeds, meets
from harness.analysis.statistics.series import Series
from harness.analysis.statistics.stretches import Stretch, merged, violating_steps
from harness.analysis.statistics.violations import LENGTHS, Baseline, Violations, sums, violating
from harness.model.clock import next_step, step_of, step_start
from harness.model.records.targets import Op

LEAD_STEPS = 50
"""5 s before the injection tell the rate before the impact."""


def impact_start(series: Series, baseline: Baseline, first_injection_step: int, end_step: int) -> float | None:
    """When the target was first broken, in seconds since t0; None when it never was.

    The mirror of recovery: of the windows that *end* in [first_injection_step, end_step), the first that violates;
    then the most likely rise in the data around it, never before the injection. (Windows that begin there put the
    impact up to 3 s early; without the rise it is up to 2 s late where 5 % fail at 200 requests/s, with it 0.3 s.)
    """
    found = violating(series, baseline, first_injection_step - max(LENGTHS), end_step)
    step = found.first_ending(first_injection_step, end_step)
    if step is None:
        return None
    low = max(0, first_injection_step - LEAD_STEPS - series.start)
    high = min(step + 1 + EDGE_LEAD_STEPS, end_step) - series.start
    fit = changepoint.rising(series.n[low:high], series.bad[low:high], series.start + low, first_injection_step)
    return step_start(step if fit is None else fit.edge)


def violating_time(series: Series, baseline: Baseline, start_step: int, end_step: int) -> list[Stretch]:
    """Merged stretches (start_s, end_s) of [start_step, end_step) in which the target was broken.

    See violating_steps for what counts. The windows may reach beyond the asked-for range, so give a series that does,
    where there is one.
    """
    low = min(max(start_step - max(LENGTHS), series.start), series.end)
    high = max(low, min(end_step + max(LENGTHS), series.end))
    return merged(violating_steps(series, baseline, low, high), low, start_step, end_step)


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
    violations = _beginnings(found, active)
    if 1 not in violations:
        return None, False
    n, bad = [series.n[step - series.start] for step in active], [series.bad[step - series.start] for step in active]
    hold = max(1, next_step(hold_s))
    held = _first_hold(violations, n, bad, hold, series.limit)
    if held is None:
        return None, False
    at, end = held
    lead = max(0, violations.rfind(1, 0, at) - EDGE_LEAD_STEPS)
    fit = changepoint.falling(n[lead:end], bad[lead:end], lead)
    edge = held_from(at, fit)
    if not meets(sum(bad[edge:end]), sum(n[edge:end]), series.limit, op):
        return None, False
    edge = at if fit is None else fit.edge
    return step_start(active[edge]), end - at < hold


def _first_hold(violations: bytearray, n: list[int], bad: list[int], hold: int, limit: float) -> tuple[int, int] | None:
    """The first clean hold after a violation, as [start, end) positions; cut short by the end of the data."""
    total, total_bad = sums(n), sums(bad)
    at = violations.index(1) + 1
    while len(n) - at >= min(hold, max(LENGTHS)):
        end = min(at + hold, len(n))
        violation = violations.rfind(1, at, end)
        if violation >= 0:
            at = violation + 1
        elif total[end] == total[at] or exceeds(
            total_bad[end] - total_bad[at], total[end] - total[at], limit, CLEARLY_OVER
        ):
            at += 1
        else:
            return at, end
    return None


def budget_burnt(bad: int, planned: int, p: float) -> float | None:
    """Share of the error budget used: bad requests / (allowed proportion x requests planned), from baseline on.

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


def _beginnings(found: Violations, active: list[int]) -> bytearray:
    """For each active step: 1 where a violating window begins that lies wholly inside one activation."""
    flags = bytearray(len(active))
    for length, violates in found.flags.items():
        for i in range(len(active) - length + 1):
            step = active[i]
            if active[i + length - 1] == step + length - 1 and violates[step - found.start]:
                flags[i] = 1
    return flags
