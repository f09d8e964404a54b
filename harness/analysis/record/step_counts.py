"""Counting in single steps: requests and bad ones for a target, and adding what one step holds to a total."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.record.cells import Arrivals, Cell, NameTotals, Step, Totals, merge_flat
from harness.model.records.windows import RequestCounts, limit_key
from harness.model.sketch import bucket_of


class Counter:
    """(n, bad) of one step for one target."""

    def __init__(self, name: str | None, latency_ms: float | None, exact: bool) -> None:
        self.name = name
        self.latency_ms = latency_ms
        self.key = limit_key(latency_ms) if latency_ms is not None and exact else None

    def __call__(self, step: Step) -> tuple[int, int]:
        n = bad = 0
        if self.name is None:
            for arrivals in step.classes.values():
                bad += arrivals.unsent + arrivals.failed
            n = bad
        for cell in cells_of(step, self.name):
            # Virtual arrivals count here, where it matters *when* the service was bad; totals leave them out.
            failed = cell.failed + cell.backfilled_failed
            bad += failed
            n += cell.ok + failed
        return n, bad + self.slow(step)

    def slow(self, step: Step) -> int:
        """Ok requests over the latency limit; none for a target that has no such limit."""
        if self.latency_ms is None:
            return 0
        if self.key is None:
            return sum(over_by_sketch(cell, self.latency_ms) for cell in cells_of(step, self.name))
        return sum(cell.over.get(self.key, 0) for cell in cells_of(step, self.name) if cell.over is not None)


def cells_of(step: Step, name: str | None) -> Iterator[Cell]:
    if name is None:
        yield from step.cells.values()
    elif name in step.cells:
        yield step.cells[name]


def over_by_sketch(cell: Cell, limit_ms: float) -> int:
    """Ok requests certainly over the limit: in buckets above that of the limit."""
    if cell.sketch is None:
        return 0
    edge = bucket_of(limit_ms)
    numbers = iter(cell.sketch)
    return sum(count for bucket, count in zip(numbers, numbers, strict=True) if bucket > edge)


def proven(step: Step, name: str | None, saturated: bool) -> int:
    bad = sum(cell.proven_failures(saturated) for cell in cells_of(step, name))
    if name is None and not saturated:
        bad += sum(arrivals.unsent_cap for arrivals in step.classes.values())
    return bad


def merge(whole: Totals, part: Totals) -> None:
    for name, arrivals in part.classes.items():
        whole.classes.setdefault(name, Arrivals()).add(arrivals)
    for name, names in part.names.items():
        whole.names.setdefault(name, NameTotals()).merge(names)


def add_counts(into: NameTotals, counts: RequestCounts) -> None:
    cell = Cell()
    cell.add(counts)
    into.add(cell)
    if cell.sketch is not None:
        merge_flat(into.sketch, [cell.sketch])
    if cell.failed_sketch is not None:
        merge_flat(into.failed_sketch, [cell.failed_sketch])


def pairs(flat: list[int]) -> dict[int, int]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
