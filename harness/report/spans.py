"""When faults and phases really were, read from the recorded events and never from the plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import msgspec

from harness.model.events import Event, FaultInjected, LoadEnded, PhaseStarted, Started, Undone, UndoVerified


class FaultSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One injection. end_s: when the undo's reply came; None = no undo was recorded."""

    fault: str
    start_s: float
    end_s: float | None


class PhaseSpan(msgspec.Struct, frozen=True, kw_only=True):
    """end_s: where the next phase began, or the load ended; None = nothing says."""

    name: str
    start_s: float
    end_s: float | None


def fault_spans(history: Iterable[Event], one_shot: Collection[str] = ()) -> tuple[FaultSpan, ...]:
    """FaultInjected to Undone, by fault; a verified undo closes one whose `undone` is missing (it was moot).

    one_shot: faults that are a moment and have nothing to undo (flush): without an undo they end where they began.
    """
    spans: list[FaultSpan] = []
    open_at: dict[str, float] = {}
    for event in history:
        if isinstance(event, FaultInjected):
            open_at.setdefault(event.fault, event.at)
        elif isinstance(event, Undone | UndoVerified) and event.fault in open_at:
            spans.append(FaultSpan(fault=event.fault, start_s=open_at.pop(event.fault), end_s=event.at))
    spans += [
        FaultSpan(fault=fault, start_s=at, end_s=at if fault in one_shot else None) for fault, at in open_at.items()
    ]
    return tuple(sorted(spans, key=lambda span: span.start_s))


def phase_spans(history: Iterable[Event]) -> tuple[PhaseSpan, ...]:
    starts: list[PhaseStarted] = []
    load_end: float | None = None
    for event in history:
        if isinstance(event, PhaseStarted):
            starts.append(event)
        elif isinstance(event, LoadEnded):
            load_end = event.end_s
    ends = [start.start_s for start in starts[1:]] + [load_end]
    return tuple(
        PhaseSpan(name=start.phase, start_s=start.start_s, end_s=end) for start, end in zip(starts, ends, strict=False)
    )


def started(history: Iterable[Event]) -> Started | None:
    return next((event for event in history if isinstance(event, Started)), None)
