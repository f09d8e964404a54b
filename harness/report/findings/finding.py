"""A piece of advice with its evidence, and what its rules ask of a result."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from harness.model.records.plan import Plan
from harness.model.records.result import ErrorResult, PhaseResult, Result
from harness.report.sentences import text


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """key: anchor in docs/interpreting.md. seen: the evidence. advice: what usually mends it."""

    key: str
    title: str
    seen: str
    advice: str


Rule = Callable[[Plan, Result], Iterator[Finding]]


def of_target(plan: Plan) -> bool:
    """Every fault ends or stops the service itself: nothing that was seen tells of how it copes with a dependency."""
    return bool(plan.faults) and all(fault.change.dependency.target for fault in plan.faults)


def dependencies(plan: Plan) -> str:
    names = dict.fromkeys(fault.spec.dependency for fault in plan.faults)
    return " and ".join(text.visible(name, 40) for name in names) or "the dependency"


def errors_in(result: Result, phase: PhaseResult, kinds: tuple[str, ...]) -> tuple[ErrorResult, ...]:
    """Errors of these kinds that came in the phase. Counts are of the whole run: of one that had begun before the
    phase, all failures from before it are taken off."""
    before = sum(p.failures for p in result.phases if p.end_s <= phase.start_s)
    found = []
    for error in result.errors:
        if error.kind in kinds and error.name and error.first_s < phase.end_s and error.last_s >= phase.start_s:
            n = error.count if begins_in(error, phase) else error.count - before
            if n > 0:
                found.append(msgspec.structs.replace(error, count=n))
    return tuple(found)


def begins_in(error: ErrorResult, phase: PhaseResult) -> bool:
    return error.first_s >= phase.start_s - 0.2


def counted(errors: tuple[ErrorResult, ...]) -> int:
    return sum(error.count for error in errors)


def rose(result: Result) -> PhaseResult | None:
    """The fault phase, where its error rate is over 1 % and clearly above baseline's."""
    fault, baseline = result.phase("fault"), result.phase("baseline")
    if fault is None or fault.error_rate is None:
        return None
    before = (baseline.error_rate if baseline else None) or 0.0
    return fault if fault.error_rate > max(0.01, 2 * before) else None
