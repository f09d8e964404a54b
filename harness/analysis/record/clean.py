"""clean.jsonl: the clean baselines of a session before an experiment, in that experiment's own run directory.

A baseline of 20 s knows little of what a service does by itself; those before it, of the same service under the same
load, know more. Rows are those of windows.jsonl. The steps of each stretch count from 0 and a mark ends it: its `done`
is its length. So no window and no second can lie in two of them, and a step without an arrival needs no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.analysis.record.spans import Span
from harness.analysis.record.window_reader import WINDOWS, WindowReader
from harness.analysis.record.windows import WindowStore
from harness.model.clock import step_start
from harness.model.records.plan import Plan
from harness.model.records.windows import DeltaRow, MarkRow, Row
from harness.plan.suite.items import load_of

CLEAN = "clean.jsonl"
MOST_STEPS = 1200
"""The last 120 s: what a service did an hour ago is no yardstick."""
LEAST_STEPS = 50
"""Of an older baseline no shorter piece is kept to fill them: the longest window would not fit in."""


class CleanBaseline(msgspec.Struct, frozen=True, kw_only=True):
    """rows: their steps count from its first. limits_ms: the latency limits that were counted exactly in it. of: see
    what_of."""

    rows: tuple[DeltaRow, ...]
    steps: int
    limits_ms: tuple[float, ...]
    of: str

    def last(self, steps: int) -> CleanBaseline:
        """No more than so many steps, the last ones."""
        by = max(0, self.steps - steps)
        rows = tuple(replace(row, step=row.step - by) for row in self.rows if row.step >= by)
        return replace(self, rows=rows, steps=self.steps - by)


def recorded(run_dir: Path, plan: Plan, baseline: Span) -> CleanBaseline:
    """What a run directory has of its baseline. Raises what WindowReader does."""
    with closing(WindowReader(run_dir / WINDOWS, plan)) as windows:
        rows = tuple(
            DeltaRow(worker=row.worker, step=row.step - baseline.start, classes=row.classes, requests=row.requests)
            for row in windows.poll()
            if isinstance(row, DeltaRow) and baseline.start <= row.step < baseline.end
        )
    return CleanBaseline(
        rows=rows,
        steps=baseline.end - baseline.start,
        limits_ms=tuple(sorted(plan.load.limits_ms)),
        of=what_of(plan),
    )


def what_of(plan: Plan) -> str:
    """What baselines must have in common, beside their limits: the load, the target and its version. A stack of ours
    has another address in each session."""
    version = plan.provenance.target_version if plan.provenance is not None else None
    return f"{load_of(plan)} {plan.load.host if plan.stack == 'external' else plan.stack} {version}"


def for_plan(baselines: Sequence[CleanBaseline], plan: Plan) -> tuple[CleanBaseline, ...]:
    """Those of the same load and target in which the plan's latency limits were counted, as newest() chooses."""
    kind = what_of(plan), tuple(sorted(plan.load.limits_ms))
    return newest(one for one in baselines if (one.of, one.limits_ms) == kind)


def newest(baselines: Iterable[CleanBaseline]) -> tuple[CleanBaseline, ...]:
    """Of each kind the newest, MOST_STEPS together; oldest first."""
    left: dict[tuple[str, tuple[float, ...]], int] = {}
    found: list[CleanBaseline] = []
    for one in reversed(tuple(baselines)):
        room = left.get(kind := (one.of, one.limits_ms), MOST_STEPS)
        if room >= LEAST_STEPS:
            found.append(one.last(room))
            left[kind] = room - found[-1].steps
    return tuple(reversed(found))


def clean_rows(baselines: Iterable[CleanBaseline]) -> Iterator[Row]:
    """The rows of clean.jsonl."""
    for one in baselines:
        yield from one.rows
        yield MarkRow(worker="", at=step_start(one.steps), done=one.steps)


def earlier(rows: Iterable[Row], plan: Plan) -> tuple[WindowStore, ...]:
    """A store for each stretch of such rows. Raises ValueError where they are no such stretches."""
    found: list[WindowStore] = []
    store, steps = WindowStore(plan), 0
    for row in rows:
        match row:
            case DeltaRow(step=step) if 0 <= step < MOST_STEPS:
                store.add(row)
            case MarkRow(done=done) if done >= store.end and 0 < done <= MOST_STEPS - steps:
                store.baseline = (0, done)
                found.append(store)
                store, steps = WindowStore(plan), steps + done
            case _:
                raise ValueError(f"{CLEAN}: not stretches of {MOST_STEPS / 10:.0f} s together")
    return tuple(found)


def read_earlier(run_dir: Path, plan: Plan) -> tuple[WindowStore, ...]:
    """Those of a run directory. Raises what WindowReader does, and ValueError."""
    own_time = replace(plan, load=replace(plan.load, first_step=0))
    with closing(WindowReader(run_dir / CLEAN, own_time)) as windows:
        return earlier(windows.poll(), plan)
