"""The records of one experiment out of those of its session, and its judgement."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace

from harness.adapters.keeper.protocol import KEEPER_JOURNAL
from harness.analysis.record.clean import CLEAN, CleanBaseline, clean_rows, for_plan, newest, recorded
from harness.analysis.record.cut import cut, settled
from harness.analysis.record.window_reader import WINDOWS
from harness.analysis.run_directory import Run, judged, load_run, write_result
from harness.analysis.verdict.judge import clean_baseline
from harness.conductor.finish import write_reports
from harness.conductor.readback import NOTED
from harness.conductor.running_load import RunningLoad
from harness.conductor.session import Session
from harness.conductor.sharing.carried import Carried
from harness.model.clock import monotonic, step_start
from harness.model.jsonl import LineReader, encode_line, read_lines
from harness.model.records.acknowledged import Noted
from harness.model.records.events import LoadEnded
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.model.records.windows import Row
from harness.safety.journal.log import JOURNAL

CUT_EVERY_S = 0.5
STILL_TO_COME_S = 30.0
"""Rows come 0.1 s after what they tell of; later than this they do not come any more."""

Say = Callable[[str], None]


class Finisher:
    """Cuts the rows of each experiment out of the session's once they are final, and judges it, in a thread of its own:
    the next one has begun by then."""

    def __init__(
        self,
        session: Session,
        load: RunningLoad,
        done: Callable[[Carried, Run, Result], None],
        say: Say,
        clean: tuple[CleanBaseline, ...],
    ) -> None:
        self._session = session
        self._load = load
        self._done = done
        self._say = say
        self.clean = clean
        """The baselines of what was judged so far in which nothing was wrong: a yardstick for those that follow."""
        self._todo: queue.Queue[Carried | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="finish experiments", daemon=True)
        self._thread.start()

    def add(self, carried: Carried) -> None:
        self._todo.put(carried)

    def wait(self) -> None:
        """Until what was added so far is judged."""
        self._todo.join()

    def close(self) -> None:
        self._todo.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (carried := self._todo.get()) is not None:
            try:
                self._judge(carried)
            finally:
                self._todo.task_done()

    def _judge(self, carried: Carried) -> None:
        try:
            run, result = self._finish(carried)
            self._done(carried, run, result)
        except Exception as error:
            carried.unjudged = f"it could not be judged: {type(error).__name__}: {error}"
            self._say(f"{carried.folder.name}: {carried.unjudged}")
            return
        try:
            self._learn(carried, run, result)
        except Exception as error:
            self._say(f"{carried.folder.name}: its baseline is no yardstick for the others: {error}")

    def _finish(self, carried: Carried) -> tuple[Run, Result]:
        """Its record, read once for all that is made of it, and its result."""
        plan, folder = carried.plan, carried.folder
        write_cut(self._rows(carried), carried, folder / WINDOWS)
        for name in (JOURNAL, KEEPER_JOURNAL):
            _own_entries(self._session.state_dir / name, folder / name, f"{folder.name}/")
        write_clean(self.clean, plan, folder / CLEAN)
        run = load_run(folder)
        result = judged(folder, run)
        write_result(folder, result)
        # Judging has counted what was open in a record that broke off; a chart is of the record as it is.
        whole = any(isinstance(event, LoadEnded) for event in run.history)
        write_reports(folder, self._say, run if whole else None)
        assert plan.experiment == result.experiment
        return run, result

    def _learn(self, carried: Carried, run: Run, result: Result) -> None:
        """What its baseline tells of those that follow; what none of them can need any more is let go."""
        self.clean = newest((*self.clean, *clean_of(carried.folder, run, result)))

    def _rows(self, carried: Carried) -> list[Row]:
        """Those of the session since the experiment began, as soon as they are final."""
        plan = carried.plan
        rows: list[Row] = []
        until = self._load.instant(carried.end) + plan.load.request_timeout_s + STILL_TO_COME_S
        with closing(LineReader[Row](self._load.windows, Row, since=carried.since)) as reader:
            while True:
                over = not self._load.process.running
                rows += reader.poll()
                final = settled(rows, plan.load.workers, carried.end, plan.load.request_timeout_s)
                if final or over or monotonic() > until:
                    return rows
                time.sleep(CUT_EVERY_S)


def clean_of(run_dir: Path, run: Run, result: Result) -> tuple[CleanBaseline, ...]:
    """The baseline of a judged experiment, where later ones may be measured by it. Raises what WindowReader does."""
    baseline = clean_baseline(run.plan, run.history, run.store, result)
    return (recorded(run_dir, run.plan, baseline),) if baseline is not None else ()


def write_cut(rows: list[Row], carried: Carried, path: Path) -> None:
    """windows.jsonl of one experiment. Raises OSError."""
    own = cut(rows, carried.first, carried.end, carried.plan.load.request_timeout_s)
    path.write_bytes(b"".join(map(encode_line, own)))


def write_clean(known: tuple[CleanBaseline, ...], plan: Plan, path: Path) -> None:
    """clean.jsonl of one experiment; none where there are no earlier clean baselines. Raises OSError."""
    if chosen := for_plan(known, plan):
        path.write_bytes(b"".join(map(encode_line, clean_rows(chosen))))


def noted_of(carried: Carried, session_dir: Path, folder: Path) -> None:
    """acknowledged.jsonl of one experiment: the seconds that begin in it."""
    first_s, end_s = step_start(carried.first), step_start(carried.end)
    try:
        noted: list[Noted] = list(read_lines(session_dir / NOTED, Noted))
    except (OSError, ValueError):
        return
    own = [replace(row, at=round(row.at - first_s, 1)) for row in noted if first_s <= row.at < end_s]
    if own:
        (folder / NOTED).write_bytes(b"".join(map(encode_line, own)))


def _own_entries(path: Path, out: Path, prefix: str) -> None:
    """The entries of one experiment's undo records, under the names that they have in it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    mark = prefix.encode()
    own = [line.replace(b'"' + mark, b'"') for line in lines if b'"' + mark in line or b'"id"' not in line]
    out.write_bytes(b"".join(line + b"\n" for line in own))
