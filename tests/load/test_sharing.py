"""A load that experiments share: limits replaced, pauses, and a usual cycle learnt anew, on a real load process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import CLOSED, Run, make_plan, named
from load_target import Target

from harness.load.generator.closed import Cycles
from harness.load.ipc.protocol import Limits, Pause, Resume
from harness.load.record.recorder import Recorder
from harness.model.clock import monotonic
from harness.plan.schedule import planned_counts
from tests.load.test_recorder import rows_of

PATHS = Path(__file__).parent / "files" / "paths.py"


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


def test_limits_are_replaced_from_a_step_on_for_every_row_of_it() -> None:
    recorder = Recorder("w0", (200.0,))
    recorder.begin(monotonic() - 5.0)
    recorder.set_limits((100.0, 300.0), 80)
    recorder.set_limits((400.0,), 90)
    for step in (79, 80, 89, 90):
        recorder.ok("/a", step, 500.0)
    over = {row.step: row.requests["/a"].over for row in rows_of(recorder.flush(100, 1))}
    assert over == {79: {"200": 1}, 80: {"100": 1, "300": 1}, 89: {"100": 1, "300": 1}, 90: {"400": 1}}


def test_limits_of_a_step_that_has_begun_hold_from_the_next_one() -> None:
    recorder = Recorder("w0", (200.0,))
    recorder.begin(monotonic() - 5.05)
    recorder.set_limits((100.0,), 20)
    begun = recorder.step(monotonic())
    for step in (20, begun - 1, begun + 1):
        recorder.ok("/a", step, 500.0)
    over = {row.step: row.requests["/a"].over for row in rows_of(recorder.flush(100, 1))}
    assert over == {20: {"200": 1}, begun - 1: {"200": 1}, begun + 1: {"100": 1}}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pause_leaves_out_its_steps_and_nothing_else_of_the_schedule(
    target: Target, tmp_path: Path, workers: int
) -> None:
    plan = make_plan(PATHS, target.url, classes=named("Left", "Right"), workers=workers)
    with Run(plan, tmp_path) as run:
        run.begin().at(1)
        run.process.send(Limits(limits_ms=(1.0,), from_step=15))
        run.process.send(Pause(from_step=20))
        run.at(3)
        quiet = sum(target.counts.values())
        run.at(3.5)
        assert sum(target.counts.values()) == quiet, "nothing is sent"
        run.process.send(Resume(at_step=42))
        run.at(5)
        run.finish(60)
        wanted = planned_counts(plan, 0, 60)
        assert run.classes(range(20, 42)) == {}
        for steps in (range(0, 20), range(42, 60)):
            found = {name: counts.planned for name, counts in run.classes(steps).items()}
            assert found == {name: sum(counts[step] for step in steps) for name, counts in wanted.items()}
        assert all(not (counts.unsent_cap or counts.unsent_generator) for counts in run.classes().values())
        assert {key for c in run.requests(range(0, 15)).values() for key in c.over} <= {"100", "200"}
        assert {key for c in run.requests(range(15, 60)).values() for key in c.over} == {"1"}
        assert max(mark.done for mark in run.marks()) == 60, "the schedule goes on meanwhile"


def test_users_of_the_closed_model_are_away_in_a_pause_and_come_back(target: Target, tmp_path: Path) -> None:
    plan = make_plan(PATHS, target.url, users=10, classes=named("Cycle"), **CLOSED)
    with Run(plan, tmp_path) as run:
        run.begin().at(1)
        run.process.send(Pause(from_step=20))
        run.at(3.0)
        quiet = target.counts["/cycle"]
        run.at(4.0)
        assert target.counts["/cycle"] == quiet > 50, "nothing is sent"
        run.process.send(Resume(at_step=45))
        run.at(6.5)
        run.finish(70)
        users = [(mark.at, mark.users) for mark in run.marks()]
        counts = run.requests()["/cycle"]
        assert run.classes(range(26, 45)) == {}
        assert run.classes(range(50, 64))["Cycle"].planned > 50
    assert {number for at, number in users if 2.8 < at < 4.4} == {0}
    assert next(number for at, number in reversed(users) if at < 6.9) == 10
    assert not counts.fail, "whoever leaves finishes its request"


def test_every_baseline_of_the_closed_model_learns_the_usual_cycle_anew() -> None:
    """What a fault, or the baseline before, made of it is forgotten."""
    cycles = Cycles()
    for baseline, latency_ms in enumerate((100.0, 400.0, 50.0)):
        cycles.entered("settle")
        cycles.entered("baseline")
        for _ in range(50):
            cycles.replied("User", latency_ms)
            cycles.waited("User", 0.0)
        cycles.update()
        cycles.entered("gap")
        for phase in ("fault", "recovery", "after"):
            cycles.entered(phase)  # type: ignore[arg-type]
            for _ in range(500):
                cycles.replied("User", 9000.0)
            cycles.update()
        missed = sum(count for *_, count in cycles.missed("User", 0.0, 2000.0))
        assert missed == pytest.approx(2000 / latency_ms - 1, abs=1), baseline
