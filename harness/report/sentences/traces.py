"""Requests by their trace ids: the slowest of each phase and name, and the first that failed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.report.sentences import text

COLUMNS = ("Request", "Why it is here", "Phase", "Took", "Trace id")


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """name: of the request, as it came. link: "" where nobody said where traces are read."""

    name: str
    why: str
    phase: str
    took: str
    trace_id: str
    link: str


def traces(plan: Plan, result: Result) -> tuple[Trace, ...]:
    """Failures first: they are few, and looked for."""
    return tuple(_found(plan, result))


def _found(plan: Plan, result: Result) -> Iterator[Trace]:
    def trace(name: str, why: str, phase: str, took: str, trace_id: str) -> Trace:
        link = plan.trace_url.replace("{trace_id}", trace_id)
        return Trace(name=name, why=why, phase=phase, took=took, trace_id=trace_id, link=link)

    for error in result.errors:
        for trace_id in error.traces:
            yield trace(error.name or "", f"failed: {error.kind}", "", "", trace_id)
    for slow in result.slowest:
        yield trace(slow.name, "among the slowest", slow.phase, text.ms(slow.ms), slow.trace_id)
