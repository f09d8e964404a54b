"""Counting in single steps: requests and bad ones for a target."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.record.cells import Cell, Step
from harness.model.records.windows import limit_key
from harness.model.sketch import bucket_of


class Counter:
    """(n, bad) of single steps.

    latency_ms: a bad request took so long, or longer; with failures, or without latency_ms, it may also have failed.
    Without failures the failed ones are not counted at all. exact_from: the first step in which the load counted this
    limit itself; by the sketch before it, and where that is None.
    """

    def __init__(self, latency_ms: float | None, exact_from: int | None, *, failures: bool) -> None:
        self._failing = failures or latency_ms is None
        self._latency_ms = latency_ms
        self._exact_from = exact_from
        self._key = "" if latency_ms is None else limit_key(latency_ms)

    def __call__(self, number: int, step: Step, name: str | None) -> tuple[int, int]:
        n = bad = self.lost(step) if name is None else 0
        for cell in cells_of(step, name):
            more, worse = self.of(number, cell)
            n, bad = n + more, bad + worse
        return n, bad

    def lost(self, step: Step) -> int:
        """Arrivals that failed without a request, where failures count."""
        return sum(counts.without_request for counts in step.classes.values()) if self._failing else 0

    def of(self, number: int, cell: Cell) -> tuple[int, int]:
        # Virtual arrivals count here, where it matters *when* the service was bad; totals leave them out.
        failed = cell.failed + cell.backfilled_failed if self._failing else 0
        return cell.ok + failed, self._slow(number, cell) + failed

    def slow(self, number: int, step: Step, name: str | None) -> int:
        """Ok requests over the latency limit; none for a target that has no such limit."""
        return sum(self._slow(number, cell) for cell in cells_of(step, name))

    def _slow(self, number: int, cell: Cell) -> int:
        if self._latency_ms is None:
            return 0
        if self._exact_from is None or number < self._exact_from:
            return _over_by_sketch(cell, self._latency_ms)
        return cell.over.get(self._key, 0) if cell.over is not None else 0


def cells_of(step: Step, name: str | None) -> Iterator[Cell]:
    if name is None:
        yield from step.cells.values()
    elif name in step.cells:
        yield step.cells[name]


def _over_by_sketch(cell: Cell, limit_ms: float) -> int:
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
