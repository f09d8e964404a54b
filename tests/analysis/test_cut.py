"""The cut: judge(an experiment's rows out of a session's) = judge(the same stretch recorded alone)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import replace as changed
from pathlib import Path

import msgspec
import pytest
from histories import Reply, Run, Scene, Service, failing, healthy, slow
from msgspec.structs import replace

from harness.analysis.record.cut import ERRORS_AFTER, OPEN, SLACK_S, cut, settled
from harness.analysis.record.window_reader import WINDOWS, WindowReader
from harness.model.jsonl import encode_line
from harness.model.records.result import Result
from harness.model.records.windows import ClassCounts, DeltaRow, ErrorRow, MarkRow, RequestCounts, Row, flattened

FIRST = 412
"""The experiment's first step of the session's load."""
TIMEOUT_S = 10.0


def timing_out(begin: float, end: float) -> Service:
    def service(at: float, draw: random.Random) -> Reply:
        return Reply(TIMEOUT_S * 1000, "timeout") if begin <= at < end and draw.random() < 0.5 else healthy(at, draw)

    return service


def hanging(begin: float) -> Service:
    """Tasks that are still at it when the load has stopped."""

    def service(at: float, draw: random.Random) -> Reply:
        return Reply(kind="open") if at >= begin and draw.random() < 0.2 else healthy(at, draw)

    return service


def mixed(at: float, draw: random.Random) -> Reply:
    """Two request names to a class, unsent arrivals and tasks without a request beside ordinary replies."""
    kind = draw.choices((None, "status", "unsent_cap", "failed", "empty"), (94, 3, 1, 1, 1))[0]
    return Reply(20 + 400 * draw.random() ** 4, kind, "GET /second" if draw.random() < 0.3 else None)


class Session:
    """What a load wrote, in the order of its writing: the rows of a scene, from step FIRST on, and those of what went
    on before and after it."""

    def __init__(self, scene: Scene, seed: int) -> None:
        self.draw = random.Random(seed)
        self.scene = scene.build()
        self.deltas = [row for row in self.scene.rows if isinstance(row, DeltaRow)]
        self.workers = sorted({row.worker for row in self.scene.rows})
        self.steps = max(row.step for row in self.deltas) + 1
        self.end = FIRST + self.steps
        self.until = self.end + round((TIMEOUT_S + SLACK_S) * 10) + 60
        # (step of the session in which it was written, row)
        self.written: list[tuple[float, Row]] = []
        open_: list[tuple[str, int, float, int]] = []  # worker, step, until, arrivals
        errors: list[tuple[float, ErrorRow]] = []
        for row in self.deltas:
            own = replace(row, step=row.step + FIRST, ended=None if row.ended is None else row.ended + FIRST)
            at = own.step + self.draw.choice((0.5, 1.0, 4.0)) if own.ended is None else own.ended + 0.5
            self.written.append((at, own))
            open_.append((row.worker, own.step, at, sum(counts.planned for counts in row.classes.values())))
            left = sum(counts.planned - counts.ended for counts in row.classes.values())
            open_.append((row.worker, own.step, 1e9, left))
            for name, counts in row.requests.items():
                # Their row comes up to ERRORS_AFTER flushes after the last of them.
                errors += [
                    (at + self.draw.uniform(0, ERRORS_AFTER - 0.5), error(own.worker, kind, name, own.step, count))
                    for kind, count in counts.fail.items()
                ]
        self.written += errors
        self.errors = [replace(one, step=(one.step or 0) - FIRST) for _, one in errors]
        for step in (*range(FIRST), *range(self.end, self.until)):
            self.written += [(step + 1, stranger(worker, step)) for worker in self.workers]
            self.written += [(step + 1.5, error(worker, "status", "GET /items", step, 5)) for worker in self.workers]
        self.waiting: dict[tuple[str, int], dict[int, int]] = {
            (worker, number): {} for number in range(self.until) for worker in self.workers
        }
        for worker, step, until, count in open_:
            for number in range(step, math.ceil(min(until, self.until)) if count else 0):
                now = self.waiting[worker, number]
                now[step] = now.get(step, 0) + count
        for (worker, number), now in self.waiting.items():
            self.written.append((number + 0.95, mark(worker, number + 1, now)))

    def rows(self) -> list[Row]:
        return [row for _, row in sorted(self.written, key=lambda one: one[0])]

    def alone(self) -> Run:
        """The same load with nothing before it and nothing after it: it ends with what was open."""
        left: list[Row] = []
        for row in self.deltas:
            for name, counts in row.classes.items():
                if n := counts.planned - counts.ended:
                    ended = {name: ClassCounts(ended=n, failed=n)}
                    left += [DeltaRow(worker=row.worker, step=row.step, classes=ended)]
                    left += [replace(error(row.worker, "unfinished", None, row.step, n), example=OPEN)]
        marks, final = [], []
        for worker in self.workers:
            for number in range(FIRST, self.until):
                open_ = {step - FIRST: count for step, count in self.waiting[worker, number].items()}
                one = mark(worker, number + 1 - FIRST, open_)
                one = replace(one, done=min(one.done, self.steps))
                if one.done == self.steps and (not open_ or one.at >= self.steps / 10 + TIMEOUT_S + SLACK_S):
                    final.append(replace(one, open=[], unasked=[], final=True))
                    break
                marks.append(one)
        own = [replace(one, first_s=(one.step or 0) / 10, last_s=(one.step or 0) / 10) for one in self.errors]
        return Run(self.scene.plan, self.scene.events, [*self.deltas, *marks, *own, *left, *final], self.scene.samples)

    def cut(self, rows: Iterable[Row]) -> list[Row]:
        return list(cut(rows, FIRST, self.end, TIMEOUT_S))

    def judge(self, rows: Iterable[Row], folder: Path) -> Result:
        """Of the experiment's own file, as `harness analyze` reads it."""
        (folder / WINDOWS).write_bytes(b"".join(map(encode_line, self.cut(rows))))
        plan = self.scene.plan
        reader = WindowReader(folder / WINDOWS, replace(plan, load=replace(plan.load, first_step=FIRST)))
        own = list(reader.poll())
        reader.close()
        # The schedule of a scene begins with the scene.
        return Run(plan, self.scene.events, own, self.scene.samples).judge()


def error(worker: str, kind: str, name: str | None, step: int, count: int) -> ErrorRow:
    at = step / 10
    return ErrorRow(
        worker=worker, kind=kind, name=name, step=step, count=count, first_s=at, last_s=at, example=f"{kind}!"
    )


def stranger(worker: str, step: int) -> DeltaRow:
    """Of another experiment: what would break anything."""
    counts = RequestCounts(ok=5, sum_ms=4000.0, max_ms=900.0, sketch=[300, 5], over={"200": 5}, fail={"status": 5})
    return DeltaRow(
        worker=worker,
        step=step,
        classes={"Reader": ClassCounts(planned=10, ended=10, replied=10)},
        requests={"GET /items": counts, "GET /other": counts},
        setup={"GET /login": RequestCounts(ok=1, sketch=[300, 1])},
    )


def mark(worker: str, done: int, waiting: dict[int, int]) -> MarkRow:
    flat = flattened(waiting)
    return MarkRow(
        worker=worker,
        at=done / 10,
        done=done,
        open=flat,
        unasked=flat,
        cpu=0.3,
        lateness_p99_ms=2.0,
        lateness_n=20,
        users=20,
    )


SCENES: dict[str, Scene] = {
    "well": Scene(),
    "broken and back": Scene(failing(23, 50, 0.6)),
    "slow": Scene(slow(23, 47, 900.0), ends=True),
    "never back": Scene(failing(23, 1e9, 0.4), after_s=None, recovery_limit_s=20.0),
    "time-outs": Scene(timing_out(23, 43), ends=True),
    "time-outs at the end": Scene(timing_out(55, 1e9), ends=True),
    "open at the end": Scene(hanging(55)),
    "many kinds, three workers": Scene(mixed, workers=3),
    "closed": Scene(slow(23, 43, 700.0), rate=None),
    "control": Scene(faults=()),
}


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", SCENES)
def test_a_cut_is_judged_as_the_same_stretch_alone(tmp_path: Path, name: str, seed: int) -> None:
    session = Session(changed(SCENES[name], seed=seed), seed)
    found, alone = session.judge(session.rows(), tmp_path), session.alone().judge()
    assert msgspec.to_builtins(found) == msgspec.to_builtins(alone)


def test_a_worker_whose_rows_come_late_is_waited_for(tmp_path: Path) -> None:
    """Over a network they may be seconds behind those of the others."""
    session = Session(changed(SCENES["time-outs at the end"], seed=3), 3)
    rows = session.rows()
    session.written = [(at + 50 * (row.worker == "w0"), row) for at, row in session.written]
    assert session.judge(session.rows(), tmp_path) == session.judge(rows, tmp_path)


def test_it_ends_where_it_is_final_and_holds_nothing_of_others() -> None:
    session = Session(SCENES["time-outs at the end"], 4)
    rows = session.rows()
    own = session.cut(rows)
    assert {row.step for row in own if isinstance(row, (DeltaRow, ErrorRow))} <= set(range(FIRST, session.end))
    for worker in session.workers:
        marks = [row for row in own if isinstance(row, MarkRow) and row.worker == worker]
        assert [row.final for row in marks] == [False] * (len(marks) - 1) + [True]
        assert max(row.done for row in marks) == session.end and not marks[-1].open
    # However long the session goes on, and from wherever before the experiment its rows are read.
    assert session.cut([*rows, *(mark(worker, 10**6, {}) for worker in session.workers)]) == own
    since = next(place for place, row in enumerate(rows) if isinstance(row, MarkRow) and row.at >= FIRST / 10 - 0.5)
    assert session.cut(rows[since:]) == own


def test_the_rows_so_far_are_final_only_when_more_would_change_nothing() -> None:
    session = Session(SCENES["time-outs at the end"], 5)
    rows, whole = session.rows(), session.cut(session.rows())
    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if settled(rows[:middle], 2, session.end, TIMEOUT_S) else (middle + 1, high)
    assert 0 < low < len(rows), "at some time, and not before"
    assert session.cut(rows[:low]) == whole


def test_a_worker_that_died_leaves_a_gap(tmp_path: Path) -> None:
    """Its rows end in the middle of the fault phase, for this experiment and for all that come after it."""
    session = Session(changed(SCENES["broken and back"], seed=6), 6)
    written = sorted(session.written, key=lambda one: one[0])
    rows = [row for at, row in written if row.worker != "w1" or at < FIRST + 300]
    found = session.judge(rows, tmp_path)
    assert session.alone().judge().verdict == "fail"
    assert found.verdict == "inconclusive" and "fewer requests recorded" in found.reasons[0], found.reasons
    assert not settled(rows, 2, session.end, TIMEOUT_S), "nobody can know that it says nothing more"
