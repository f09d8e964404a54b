"""One experiment's rows out of those of a session, whose load went on before it and after it. Pure.

What is left reads as the record of an experiment that had the load to itself: arrivals of the steps [first, end), marks
from its beginning to the moment at which the last of them had ended, and then the end of each worker. Steps stay those
of the load; the reader shifts them (LoadPlan.first_step).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from harness.model.clock import step_of, step_start
from harness.model.records.windows import ClassCounts, DeltaRow, ErrorRow, MarkRow, RequestCounts, Row, flattened, pairs

SLACK_S = 0.5
"""Beyond the request time-out, in which the last time-outs are seen as what they are."""
ERRORS_AFTER = 3
"""Marks of a worker after which it has written the last errors of what had ended before: they wait for a flush in which
none of their kind came."""
OPEN = "open when the experiment ended"


def cut(rows: Iterable[Row], first: int, end: int, request_timeout_s: float) -> Iterator[Row]:
    """rows: of a whole session, or from where the experiment began; they may go on for as long as they like. What was
    still open one request time-out after `end` is unfinished, as it is where the load stops then."""
    workers: dict[str, _Worker] = {}
    first_s, end_s = step_start(first), step_start(end)
    until_s = end_s + request_timeout_s + SLACK_S
    for row in rows:
        worker = workers.setdefault(row.worker, _Worker())
        match row:
            case MarkRow() if worker.over:
                worker.marks_since += 1
                if row.at > until_s and all(one.marks_since >= ERRORS_AFTER for one in workers.values()):
                    break
            case DeltaRow(step=step) if first <= step < end and not worker.over:
                worker.count(row)
                yield row
            case ErrorRow() if first <= (step_of(row.first_s) if row.step is None else row.step) < end:
                yield row
            case MarkRow(at=at) if at >= first_s:
                mark = _own(row, first, end)
                worker.over = at >= end_s and mark.done >= end and (not mark.open or at >= until_s)
                if worker.over and mark.open:
                    yield from worker.unfinished(mark)
                yield replace(mark, final=True, open=[], unasked=[], open_names={}) if worker.over else mark


def settled(rows: Iterable[Row], workers: int, end: int, request_timeout_s: float) -> bool:
    """Whether every worker's rows go far enough for `cut` to be final."""
    until_s = step_start(end) + request_timeout_s + SLACK_S
    seen: dict[str, int] = {}
    for row in rows:
        if isinstance(row, MarkRow) and (row.final or row.at >= until_s or (row.done >= end and not _before(row, end))):
            seen[row.worker] = ERRORS_AFTER + 1 if row.final else seen.get(row.worker, 0) + 1
    return sum(marks > ERRORS_AFTER for marks in seen.values()) >= workers


def _before(mark: MarkRow, end: int) -> bool:
    return any(step < end for step in pairs(mark.open))


def _own(mark: MarkRow, first: int, end: int) -> MarkRow:
    def within(steps: list[int]) -> list[int]:
        return flattened({step: count for step, count in pairs(steps).items() if first <= step < end})

    names = {name: own for name, flat in mark.open_names.items() if (own := within(flat))}
    return replace(
        mark, done=min(mark.done, end), open=within(mark.open), unasked=within(mark.unasked), open_names=names
    )


class _Worker:
    """What one worker has recorded of the experiment: (step, class) -> arrivals taken and not ended."""

    def __init__(self) -> None:
        self.over = False
        self.marks_since = 0
        self._open: dict[tuple[int, str], int] = {}

    def count(self, row: DeltaRow) -> None:
        for name, counts in row.classes.items():
            left = self._open.pop((row.step, name), 0) + counts.planned - counts.ended
            if left:
                self._open[row.step, name] = left

    def unfinished(self, mark: MarkRow) -> Iterator[Row]:
        """The rows with which a load ends that stops: arrivals without a request have failed, and so have the requests
        in flight."""
        unasked = pairs(mark.unasked)
        for (step, name), left in self._open.items():
            failed = min(left, unasked.get(step, 0))
            unasked[step] = unasked.get(step, 0) - failed
            yield DeltaRow(worker=mark.worker, step=step, classes={name: ClassCounts(ended=left, failed=failed)})
            if failed:
                yield _error(mark.worker, None, step, failed)
        for name, flat in mark.open_names.items():
            for step, count in pairs(flat).items():
                requests = {name: RequestCounts(fail={"unfinished": count})}
                yield DeltaRow(worker=mark.worker, step=step, requests=requests)
                yield _error(mark.worker, name, step, count)


def _error(worker: str, name: str | None, step: int, count: int) -> ErrorRow:
    at = step_start(step)
    return ErrorRow(
        worker=worker, kind="unfinished", name=name, step=step, count=count, first_s=at, last_s=at, example=OPEN
    )
