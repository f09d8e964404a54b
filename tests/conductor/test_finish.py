"""The reports at the end of a run: one that fails takes no other with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.analysis import run_directory
from harness.conductor.finish import _with_ending, judge_and_write, write_reports
from harness.conductor.readback import INTERRUPTED
from harness.conductor.recording.history import History
from harness.conductor.run import ended_by_itself
from harness.conductor.session import Session
from harness.model.clock import monotonic
from harness.model.errors import LoadError
from harness.model.records.events import Event, LoadEnded, ReadBack
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.safety.locks.local import Locks
from tests.analysis.histories import Scene, failing, make, stopped

_STAMPS = ("at", "wall", "experiment")


class Closed:
    """The session after its end: what else was left."""

    left: tuple[str, ...] = ()


def recorded(tmp_path: Path, *events: Event) -> History:
    history = History(tmp_path / "history.jsonl", "e-1", lambda _: None)
    history.start(monotonic() - 100)
    for event in events:
        history.add(type(event), **{f: getattr(event, f) for f in event.__struct_fields__ if f not in _STAMPS})
    return history


def test_a_signal_after_the_end_takes_nothing_away(tmp_path: Path) -> None:
    ended = make(LoadEnded, 63.0, end_s=60.0)
    read = {"noted": 5, "chosen": 5, "there": 5, "lost": 0, "unchecked": 0, "seconds": 1.0}
    for name, events, complete in (
        ("whole", (ended,), True),
        ("read", (ended, make(ReadBack, 64.0, **read)), True),
        ("cut", (ended, make(ReadBack, 64.0, **{**read, "why": INTERRUPTED})), False),
        ("stopped", (stopped("interrupt", 50.0), ended), False),
        ("running", (), False),
    ):
        folder = tmp_path / name
        folder.mkdir()
        assert ended_by_itself(recorded(folder, *events)) is complete, name


def test_a_late_problem_does_not_hide_what_is_left(tmp_path: Path) -> None:
    result = msgspec.structs.replace(Scene(rate=50.0).build().judge(), exit_code=5)
    problem = LoadError("the loop failed")
    kept = _with_ending(result, Closed(), problem, False, recorded(tmp_path))  # type: ignore[arg-type]
    assert kept.exit_code == 5 and kept.reasons[0] == "the loop failed"


def test_a_bug_in_one_report_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug is made: there is no other way to have one."""
    run_dir = Scene(rate=50.0).build().write(tmp_path)
    run_directory.write_result(run_dir, run_directory.analyze(run_dir))

    def bug(_plan: Plan, _result: Result) -> str:
        raise KeyError("phase")

    monkeypatch.setattr("harness.report.markdown.render", bug)
    told: list[str] = []
    write_reports(run_dir, told.append)
    assert told == ["report.md could not be written: KeyError: 'phase'"]
    assert (run_dir / "report.html").stat().st_size > 50_000 and (run_dir / "junit.xml").exists()


@pytest.mark.parametrize("how", ["left", "replaced", "linked"])
def test_records_that_somebody_put_in_the_place_of_the_runs_own_are_not_judged(tmp_path: Path, how: str) -> None:
    bad = Scene(failing(23, 43, 1.0), rate=50.0).build()
    good = Scene(rate=50.0).build()
    run_dir, other = tmp_path / "runs" / "run-a", tmp_path / "other"
    bad.write(run_dir)
    session = Session(
        run_dir=run_dir, state_dir=tmp_path / "x", stack=None, running=None, allowed=(), say=print, locks=Locks()
    )
    if how != "left":
        run_dir.rename(tmp_path / "runs" / "away")
        good.write(other)
        other.rename(run_dir) if how == "replaced" else run_dir.symlink_to(other)
    history = recorded(tmp_path, *bad.events)
    result = judge_and_write(bad.plan, session, history, problem=None, interrupted=False, say=print)
    assert (result.verdict, (run_dir / "result.json").exists()) == (
        ("fail", True) if how == "left" else ("inconclusive", False)
    )
    if how != "left":
        assert result.exit_code == 4 and "is another folder now than the run made" in result.reasons[0]
