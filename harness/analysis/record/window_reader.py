"""windows.jsonl, from its bytes to rows: the one reader, for the run that follows it and for everybody afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.model.jsonl import LineReader
from harness.model.records.load import STEP_S
from harness.model.records.plan import Plan
from harness.model.records.windows import ErrorRow, MarkRow, Row
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
    return 2 * longest_run(plan.phases) + SLACK_S


class WindowReader:
    """The rows of one experiment, as they become complete."""

    def __init__(self, path: Path, plan: Plan) -> None:
        last_step = round(latest_s(plan) / STEP_S)
        self._lines: LineReader[Row] = LineReader(path, Row, lambda row: _trouble(row, last_step))

    def poll(self) -> Iterator[Row]:
        """Those since the last call; raises what LineReader does."""
        return self._lines.poll()

    def close(self) -> None:
        self._lines.close()


def _trouble(row: Row, last_step: int) -> str | None:
    """What is wrong with a row that decodes, if anything is: steps beyond the run, pairs that are none.

    Also keeps a row from making the reader draw up a table for a million years.
    """
    if isinstance(row, ErrorRow):
        return None
    if isinstance(row, MarkRow):
        if row.done > last_step:
            return f"done is {str(row.done)[:20]}, beyond the run's end"
        flats = (row.open, row.unasked, *row.open_names.values())
        return next((wrong for flat in flats if (wrong := _pairs_trouble(flat, -last_step, last_step))), None)
    if not -last_step <= row.step <= last_step:
        return f"step is {str(row.step)[:20]}, beyond the run's end"
    if row.ended is not None and not -last_step <= row.ended <= last_step:
        return f"ended is {str(row.ended)[:20]}, beyond the run's end"
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
