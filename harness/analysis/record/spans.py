"""Phases and fault intervals as the history recorded them, on the 100 ms grid."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import msgspec

from harness.model.clock import next_step, step_of, step_start
from harness.model.records import events as ev
from harness.model.records.plan import Plan
from harness.model.records.targets import PhaseName


class Span(msgspec.Struct, frozen=True):
    """Steps [start, end) of one phase. complete: the next phase began, or the load ended as planned."""

    name: PhaseName
    start: int
    end: int
    complete: bool

    @property
    def start_s(self) -> float:
        return step_start(self.start)

    @property
    def end_s(self) -> float:
        return step_start(self.end)

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / 10

    def overlaps(self, stretches: Sequence[tuple[float, float]]) -> bool:
        return any(low < self.end_s and self.start_s < high for low, high in stretches)


def spans(history: Sequence[ev.Event], recorded_end: int) -> tuple[Span, ...]:
    """The phases in order. recorded_end: one past the last recorded step, where the history says no end.

    A phase that ended before it began (a run stopped at once) has no steps.
    """
    starts = [e for e in history if isinstance(e, ev.PhaseStarted)]
    starts.sort(key=lambda e: e.start_s)
    ended = next((e for e in reversed(history) if isinstance(e, ev.LoadEnded)), None)
    stopped = next((e for e in history if isinstance(e, ev.Stopped)), None)
    if ended is not None:
        # Where a run is stopped at once, arrivals go on for a moment after the end that was announced.
        last = max(step_of(ended.end_s), recorded_end if stopped is not None else 0)
    elif stopped is not None:
        last = min(step_of(stopped.at), recorded_end)
    else:
        last = recorded_end
    found = []
    for this, after in zip(starts, [*starts[1:], None], strict=False):  # a run may have entered no phase
        start = next_step(this.start_s)
        end = last if after is None else min(next_step(after.start_s), max(last, start))
        complete = after is not None or (ended is not None and stopped is None)
        found.append(Span(this.phase, start, max(start, end), complete))
    return tuple(found)


def one_shots(plan: Plan) -> frozenset[str]:
    """Ids of the planned faults that happen once and have no duration."""
    return frozenset(fault.id for fault in plan.faults if fault.for_s is None)


def span_of(found: Sequence[Span], name: str) -> Span | None:
    """The phase of this name, None when it never began or has no steps."""
    return next((span for span in found if span.name == name and span.end > span.start), None)


def phase_at(found: Sequence[Span], at_s: float) -> str:
    """The phase a moment lies in, for sentences; "set-up" before the first."""
    name = "set-up"
    for span in found:
        if span.start_s <= at_s:
            name = span.name
    return name


class FaultSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One activation, from the statement that was sent to the reply to its undo. end_s: None = no undo was recorded."""

    fault: str
    start_s: float
    end_s: float | None


def fault_spans(history: Iterable[ev.Event], once: Collection[str] = ()) -> tuple[FaultSpan, ...]:
    """Every activation, by time. once: faults that are a moment (one_shots): from their statement to its reply."""
    found: list[FaultSpan] = []
    on: dict[str, float] = {}
    for event in history:
        if isinstance(event, ev.FaultInjected):
            if event.fault in once:
                found.append(FaultSpan(fault=event.fault, start_s=event.sent_s, end_s=event.at))
            else:
                on.setdefault(event.fault, event.sent_s)
        elif isinstance(event, ev.Undone | ev.UndoVerified) and event.fault in on:
            # A moot undo has no statement of its own: the thing was gone when that was verified.
            found.append(FaultSpan(fault=event.fault, start_s=on.pop(event.fault), end_s=event.at))
    found += [FaultSpan(fault=fault, start_s=start, end_s=None) for fault, start in on.items()]
    return tuple(sorted(found, key=lambda span: span.start_s))


def fault_intervals(plan: Plan, history: Sequence[ev.Event], end_s: float) -> list[tuple[float, float]]:
    """(injected_s, undone_s) of every activation, by time; one never undone lasts to end_s."""
    spans = fault_spans(history, one_shots(plan))
    return [(s.start_s, max(s.start_s, end_s) if s.end_s is None else s.end_s) for s in spans]
