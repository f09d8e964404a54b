"""windows.jsonl, from its bytes to rows: the one reader, for the run that follows it and for everybody afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from harness.model.clock import step_of, step_start
from harness.model.jsonl import LineReader
from harness.model.records.alerts import LONGEST_WAIT_S
from harness.model.records.load import STEP_S
from harness.model.records.plan import Plan
from harness.model.records.windows import DeltaRow, ErrorRow, MarkRow, Row, flattened, pairs
from harness.plan.phases import longest_run

WINDOWS = "windows.jsonl"
SLACK_S = 6 * 3600.0
"""How much longer than planned a run may have taken. What a record says beyond that would be hours of silence to
judge, and was never written by a run."""
BUCKETS = (-324, 699)
"""Buckets of a sketch that can be added up (record/cells.py); latencies have those from -231 to 665."""
_INT32 = 2**31 - 1


def latest_s(plan: Plan) -> float:
    """No record of a run speaks of a later instant, in seconds since t0."""
    waited_s = LONGEST_WAIT_S if plan.alerts is not None and plan.alerts.expected else 0.0
    return 2 * longest_run(plan.phases) + waited_s + SLACK_S


class WindowReader:
    """The rows of one experiment, as they become complete, in its own time: steps count from `first_step` of its load,
    and rows of what was intended before it are left out. since: see LineReader."""

    def __init__(self, path: Path, plan: Plan, since: int = 0) -> None:
        self._first = plan.load.first_step
        last_step = self._first + round(latest_s(plan) / STEP_S)
        self._lines: LineReader[Row] = LineReader(path, Row, lambda row: _trouble(row, last_step), since)

    def poll(self) -> Iterator[Row]:
        """Those since the last call; raises what LineReader does."""
        for row in self._lines.poll():
            own = _own(row, self._first) if self._first else row
            if own is not None:
                yield own

    def close(self) -> None:
        self._lines.close()


def _own(row: Row, first: int) -> Row | None:
    """A row in the time of the experiment that begins with step `first`; None where it speaks of what was before."""
    first_s = step_start(first)
    match row:
        case DeltaRow(step=step, ended=ended) if step >= first:
            return replace(row, step=step - first, ended=None if ended is None else ended - first)
        case MarkRow(at=at) if at >= first_s:
            return replace(
                row,
                at=round(at - first_s, 4),
                done=max(0, row.done - first),
                open=_since(row.open, first),
                unasked=_since(row.unasked, first),
                open_names={name: own for name, flat in row.open_names.items() if (own := _since(flat, first))},
            )
        case ErrorRow() if (step := step_of(row.first_s) if row.step is None else row.step) >= first:
            at, last_s = round(row.first_s - first_s, 3), round(row.last_s - first_s, 3)
            return replace(row, step=step - first, first_s=at, last_s=last_s)
    return None


def _since(steps: list[int], first: int) -> list[int]:
    return flattened({step - first: count for step, count in pairs(steps).items() if step >= first})


def _trouble(row: Row, last_step: int) -> str | None:
    """What is wrong with a row that decodes, if anything is: steps beyond the run, pairs that are none.

    Also keeps a row from making the reader draw up a table for a million years.
    """
    if isinstance(row, MarkRow):
        if row.done > last_step:
            return f"done is {str(row.done)[:20]}, beyond the run's end"
        flats = (row.open, row.unasked, *row.open_names.values())
        return next((wrong for flat in flats if (wrong := _pairs_trouble(flat, -last_step, last_step))), None)
    for name, step in (("step", row.step), ("ended", row.ended if isinstance(row, DeltaRow) else None)):
        if step is not None and not -last_step <= step <= last_step:
            return f"{name} is {str(step)[:20]}, beyond the run's end"
    if isinstance(row, ErrorRow):
        return None
    for counts in (*row.requests.values(), *row.setup.values()):
        for flat in (counts.sketch, counts.backfilled_sketch, counts.failed_sketch):
            if flat and (wrong := _pairs_trouble(flat, *BUCKETS)) is not None:
                return wrong
    return None


def _pairs_trouble(flat: list[int], low: int, high: int) -> str | None:
    if not flat:
        return None
    if len(flat) % 2:
        return "a number without its count"
    keys, counts = flat[::2], flat[1::2]
    if min(keys) < low or max(keys) > high:
        return f"{str(min(keys) if min(keys) < low else max(keys))[:20]} is out of range"
    if min(counts) < 0 or max(counts) > _INT32:
        return f"{str(min(counts) if min(counts) < 0 else max(counts))[:20]} is no count"
    return None
