"""Could the load generator keep up? From the marks that load processes leave.

Saturated: lateness p99 above 50 ms, or a load process above 90 % of one core, over any 5 s.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from harness.analysis.record.spans import Span
from harness.analysis.record.windows import Mark, WindowStore
from harness.model.clock import next_step, step_of
from harness.model.records import events as ev
from harness.model.records.load import LEAST_LATE
from harness.model.records.result import ClockResult, GeneratorResult

WINDOW_S = 5.0
MAX_CPU = 0.9
MAX_LATENESS_MS = 50.0
LATE_SHARE = 0.01
STALL_S = 1.2
"""A load process leaves ten marks a second."""

MOST_CUT = 0.2
"""Share of baseline that may be left out because the generator could not keep up in it."""

Stretch = tuple[float, float]


def saturated(store: WindowStore, start_s: float, end_s: float) -> tuple[Stretch, ...]:
    """Merged stretches of [start_s, end_s) in which a load process was saturated.

    The load's own flag counts as it stands (it sees every arrival); CPU and lateness are judged again from the
    marks, so that a worker that failed to flag itself is still found.
    """
    found: list[Stretch] = []
    for worker in store.workers.values():
        found += _of_worker(worker.marks)
    clipped = [(max(a, start_s), min(b, end_s)) for a, b in found if a < end_s and b > start_s]
    return merge_stretches(clipped)


def cut_from_baseline(baseline: Span | None, starved: Sequence[Stretch]) -> tuple[tuple[int, int], ...]:
    """The steps of baseline in which the generator could not keep up, where they are few enough to do without."""
    if baseline is None:
        return ()
    steps = [(max(baseline.start, step_of(a)), min(baseline.end, next_step(b))) for a, b in starved]
    inside = tuple((a, b) for a, b in steps if a < b)
    return inside if sum(b - a for a, b in inside) <= MOST_CUT * (baseline.end - baseline.start) else ()


def stalls(store: WindowStore, start_s: float, end_s: float) -> tuple[Stretch, ...]:
    """Stretches of [start_s, end_s) in which a load process stood still: it left no mark for longer than STALL_S."""
    found = [
        (max(a.at, start_s), min(b.at, end_s))
        for worker in store.workers.values()
        for a, b in itertools.pairwise(worker.marks)
        if b.at - a.at > STALL_S and a.at < end_s and b.at > start_s
    ]
    return merge_stretches(found)


def generator(store: WindowStore, start_s: float, end_s: float, unsent: int) -> GeneratorResult:
    """The generator over the judged part of a run; lateness and CPU are those of its worst worker."""
    cpu: list[float] = []
    late: list[float] = []
    for worker in store.workers.values():
        marks = [mark for mark in worker.marks if start_s <= mark.at < end_s]
        used = _mean_cpu(marks)
        if used is not None:
            cpu.append(used)
        lateness = lateness_p99(marks)
        if lateness is not None:
            late.append(lateness)
    return GeneratorResult(
        cpu=round(max(cpu), 6) if cpu else None,
        lateness_p99_ms=max(late, default=None),
        unsent=unsent,
        saturated=saturated(store, start_s, end_s),
    )


def clocks(history: Sequence[ev.Event]) -> tuple[ClockResult, ...]:
    """The clock of every remote worker: how it was mapped onto the run's, and the most doubt that ever was."""
    found: dict[str, ClockResult] = {}
    for event in history:
        if isinstance(event, ev.ClockDoubt):
            before = found.get(event.worker)
            doubt_s = max(event.seconds, before.doubt_s if before is not None else 0.0)
            found[event.worker] = ClockResult(worker=event.worker, offset_s=event.offset_s, doubt_s=doubt_s)
    return tuple(found.values())


def lost_with(history: Sequence[ev.Event], store: WindowStore, start: int, end: int) -> tuple[int, int]:
    """(arrivals without an end on record, arrivals scheduled) in steps [start, end) from where a lost worker's record
    breaks off; (0, 0) where no worker was lost."""
    names = {event.worker for event in history if isinstance(event, ev.LoadLost) and event.worker is not None}
    if not names:
        return 0, 0
    since = min(store.workers[name].done if name in store.workers else 0 for name in names)
    return store.unrecorded(max(start, since), end)


def lateness_p99(marks: Sequence[Mark]) -> float | None:
    """The p99 of lateness over several marks, in ms; None when no arrival was taken.

    A mark keeps the p99 of its own arrivals, not their values: between marks they are taken as uniform from 0 to
    p99 / 0.99. Marks that are alike give their own p99 back.
    """
    taken: dict[float, int] = {}
    for mark in marks:
        if mark.lateness_p99_ms is not None and mark.lateness_n > 0:
            p99 = round(mark.lateness_p99_ms, 2)
            taken[p99] = taken.get(p99, 0) + mark.lateness_n
    if not taken:
        return None
    total = sum(taken.values())
    low, high = 0.0, max(taken)
    while high - low > 0.001:
        middle = (low + high) / 2
        later = sum(n * (1 - 0.99 * middle / p99) for p99, n in taken.items() if p99 > 0.99 * middle)
        if later > LATE_SHARE * total:
            low = middle
        else:
            high = middle
    return round(high, 3)


def merge_stretches(stretches: Sequence[Stretch]) -> tuple[Stretch, ...]:
    """Sorted, overlapping and touching ones joined."""
    merged: list[Stretch] = []
    for start, end in sorted(stretches):
        if merged and start <= merged[-1][1] + 1e-9:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return tuple((round(a, 6), round(b, 6)) for a, b in merged)


def _of_worker(marks: Sequence[Mark]) -> list[Stretch]:
    found: list[Stretch] = []
    first = 0
    busy = span = 0.0
    late = taken = 0
    for index, mark in enumerate(marks):
        gap = _gap(marks, index)
        busy += (mark.cpu or 0.0) * gap
        span += gap if mark.cpu is not None else 0.0
        late += _late(mark)
        taken += mark.lateness_n
        while mark.at - marks[first].at >= WINDOW_S - 1e-6:
            gone = marks[first]
            gap = _gap(marks, first)
            busy -= (gone.cpu or 0.0) * gap
            span -= gap if gone.cpu is not None else 0.0
            late -= _late(gone)
            taken -= gone.lateness_n
            first += 1
        whole = first > 0 or mark.at >= WINDOW_S
        over_cpu = whole and span >= WINDOW_S / 2 and busy / span > MAX_CPU
        over_late = whole and late >= LEAST_LATE and late > LATE_SHARE * taken
        if mark.saturated or over_cpu or over_late:
            found.append((max(0.0, mark.at - WINDOW_S), mark.at))
    return found


def _gap(marks: Sequence[Mark], index: int) -> float:
    """Seconds that the CPU figure of a mark covers."""
    return marks[index].at - marks[index - 1].at if index else 0.0


def _late(mark: Mark) -> int:
    """Arrivals that were certainly late: those at or above the mark's own 99th percentile, when that is late."""
    if mark.lateness_p99_ms is None or mark.lateness_p99_ms <= MAX_LATENESS_MS:
        return 0
    return mark.lateness_n - math.ceil(0.99 * mark.lateness_n) + 1


def _mean_cpu(marks: Sequence[Mark]) -> float | None:
    """Mean share of one core, each mark weighted by the time it covers."""
    busy = span = 0.0
    for index, mark in enumerate(marks):
        gap = _gap(marks, index)
        if mark.cpu is not None and gap > 0:
            busy += mark.cpu * gap
            span += gap
    return busy / span if span > 0 else None
