"""What every chart of a report shares: the time range, and the marks of faults, phases and recovery on it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from harness.analysis.record.spans import fault_spans, one_shots
from harness.model.records.events import Event, Started
from harness.model.records.plan import Plan
from harness.model.records.result import RecoveryResult, Result
from harness.report.html.svg import Moment, Span, TimeAxis
from harness.report.sentences import text

if TYPE_CHECKING:
    from harness.analysis.verdict.timeline import ChartData

MAX_NAMES = 12
MAX_LINES = 4
"""Faults that overlap are named in lines of their own, up to this many."""


def axis_of(plan: Plan, result: Result, chart: ChartData, history: Sequence[Event]) -> TimeAxis:
    """From the load's start to its end; faults as the history recorded them, not as they were planned."""
    faults = fault_spans(history, one_shots(plan))
    known = [0.0, *(phase.end_s for phase in result.phases)]
    known += [span.end_s if span.end_s is not None else span.start_s for span in faults]
    if chart.t:
        known.append(chart.t[-1] + chart.lengths_s[-1])
    if chart.sample_t:
        known.append(chart.sample_t[-1])
    end = max(known)
    # A flapping fault (`redis-down`, `redis-down#2`, ...) is named once.
    names = list(dict.fromkeys(span.fault.partition("#")[0] for span in faults))
    spans, told = [], set[str]()
    for span in faults:
        base = span.fault.partition("#")[0]
        name = "" if base in told or len(told) >= MAX_NAMES else text.visible(span.fault, 60)
        told.add(base)
        name += " (undo not recorded)" if name and span.end_s is None else ""
        over = end if span.end_s is None else span.end_s
        line = names.index(base) % MAX_LINES
        spans.append(Span(kind="fault", start=span.start_s, end=over, name=name, line=line))
    spans += [Span(kind="nodata", start=start, end=over) for start, over in _no_data(chart)]
    moments = [Moment(kind="phase", at=phase.start_s) for phase in result.phases[1:]]
    recovery = result.recovery
    if recovery is not None and recovery.zero_s is not None:
        spans += recovery_span(recovery.zero_s, recovery.lower_s, recovery.upper_s)
        moments.append(Moment(kind="zero", at=recovery.zero_s))
    return TimeAxis(
        start=0.0,
        end=end,
        spans=tuple(spans),
        moments=tuple(moments),
        names=tuple((text.visible(phase.name, 20), phase.start_s, phase.end_s) for phase in result.phases),
        began=_began(history),
    )


def recovery_span(zero_s: float, lower_s: float | None, upper_s: float | None) -> tuple[Span, ...]:
    """When it was over, as exactly as the requests can tell."""
    if lower_s is None or upper_s is None:
        return ()
    return (Span(kind="recovery", start=zero_s + lower_s, end=zero_s + upper_s),)


def recovery_rows(axis: TimeAxis, recovery: RecoveryResult) -> list[tuple[str, list[Span]]]:
    """The faults, and for each target with an interval when it held again: for `svg.strip`."""
    if recovery.zero_s is None:
        return []
    rows = []
    for target in recovery.targets:
        if (spans := recovery_span(recovery.zero_s, target.lower_s, target.upper_s)) and target.upper_s:
            waited = Span(kind="waited", start=recovery.zero_s, end=spans[0].start)
            rows.append((text.visible(target.target, 80), [waited, *spans]))
    faults = [span for span in axis.spans if span.kind == "fault"]
    return [("fault active", faults), *rows] if rows else []


def _began(history: Sequence[Event]) -> datetime | None:
    """The wall clock at zero of the axis; a record that does not say it in a way that can be read has none."""
    started = next((event for event in history if isinstance(event, Started)), None)
    if started is None:
        return None
    try:
        wall = datetime.fromisoformat(started.wall)
        return wall - timedelta(seconds=started.at) if wall.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _no_data(chart: ChartData) -> list[tuple[float, float]]:
    """Stretches with no request data at all, as [start, end] in seconds."""
    found: list[tuple[float, float]] = []
    for at, length, value in zip(chart.t, chart.lengths_s, chart.rps, strict=True):
        if value is not None:
            continue
        end = round(at + length, 3)
        if found and abs(found[-1][1] - at) < chart.step_s / 2:
            found[-1] = (found[-1][0], end)
        else:
            found.append((at, end))
    return found
