"""However a run ends, nothing stays broken: real `harness run` processes, killed, and looked at from outside.

On a run's own stack nothing is left in the process table. Ends on a stack that stays up, in every phase, are in
test_life_phases.py; those here are of the load process, and of a second run.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.e2e.life import BRIEF, FAULTS
from tests.e2e.observe import Run, family, still_alive, wait_until
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

DYING = Path(__file__).with_name("locustfile_dying.py")


def run_own(folder: Path, *more: str, env: dict[str, str] | None = None) -> Run:
    return Run(folder, *BRIEF, "--fault-for", "10s", *FAULTS, *more, env=env, shortened=True)


def run_on(stack: StandingStack, folder: Path) -> Run:
    return run_own(folder, env={"XDG_STATE_HOME": str(stack.state)})


def finish(run: Run) -> None:
    run.kill_group()


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        ("setup", signal.SIGINT),
        pytest.param("warmup", signal.SIGINT, marks=pytest.mark.thorough),
        pytest.param("baseline", signal.SIGINT, marks=pytest.mark.thorough),
        pytest.param("fault", signal.SIGINT, marks=pytest.mark.thorough),
        pytest.param("fault", signal.SIGTERM, marks=pytest.mark.thorough),
        pytest.param("recovery", signal.SIGINT, marks=pytest.mark.thorough),
    ],
)
def test_a_signal_on_an_own_stack_leaves_no_process(tmp_path: Path, phase: str, number: signal.Signals) -> None:
    run = run_own(tmp_path)
    try:
        run.wait_phase(phase)
        if phase == "fault":
            run.wait_proven()
        members = family(run.process.pid)
        run.process.send_signal(number)
        assert run.end() == 130, run.text()
        assert wait_until(lambda: not still_alive(members)), still_alive(members)
        result = run.result()
        assert result["verdict"] == "inconclusive" and result["exit_code"] == 130
        assert any("interrupted" in reason for reason in result["reasons"])
    finally:
        finish(run)


def test_sigkill_of_the_run_takes_its_own_stack_with_it(tmp_path: Path) -> None:
    run = run_own(tmp_path)
    try:
        run.wait_proven()
        members = family(run.process.pid)
        assert len(members) > 5, "the keeper, the servers and the load are there"
        run.process.kill()
        run.process.wait(30)
        assert wait_until(lambda: not still_alive(members), 60), still_alive(members)
    finally:
        finish(run)


@pytest.mark.parametrize(
    ("how", "own"),
    [
        pytest.param("killed", True, id="killed, own stack", marks=pytest.mark.thorough),
        pytest.param("killed", False, id="killed, standing stack"),
        pytest.param("exception", True, id="exception, own stack", marks=pytest.mark.thorough),
        pytest.param("exception", False, id="exception, standing stack", marks=pytest.mark.thorough),
    ],
)
def test_a_load_process_that_dies_ends_the_run_with_everything_undone(
    stack: StandingStack, tmp_path: Path, how: str, own: bool
) -> None:
    before = stack.snapshot()
    trigger = tmp_path / "trigger"
    env = {"TEST_TRIGGER": str(trigger)} | ({} if own else {"XDG_STATE_HOME": str(stack.state)})
    extra = ("--locustfile", str(DYING)) if how == "exception" else ()
    run = run_own(tmp_path, *extra, env=env)
    try:
        run.wait_proven()
        members = family(run.process.pid)
        if how == "exception":
            trigger.touch()
        else:
            load = [pid for pid, label in members.items() if "harness.load" in label]
            assert load, members
            for pid in load:
                os.kill(pid, signal.SIGKILL)
        assert run.end() == 3, run.text()
        assert stack.snapshot() == before
        assert any("load" in reason for reason in run.result()["reasons"])
        events = [event["event"] for event in run.events()]
        assert events.count("undo_verified") == events.count("fault_injected") > 0
        assert wait_until(lambda: not still_alive(members)), still_alive(members)
    finally:
        finish(run)


def test_a_second_run_against_the_same_target_is_refused(stack: StandingStack, tmp_path: Path) -> None:
    first = run_on(stack, tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    second = None
    try:
        first.wait_phase("warmup")
        second = run_on(stack, other)
        assert second.end() == 2, second.text()
        assert len(second.text().strip().splitlines()) <= 2 and not (other / "runs").exists()
        first.process.send_signal(signal.SIGINT)
        assert first.end() == 130
    finally:
        for run in (first, second):
            if run is not None:
                finish(run)


def test_heal_finds_nothing_to_do_after_clean_ends(stack: StandingStack) -> None:
    before = stack.snapshot()
    done = stack.harness("heal", "--all")
    assert done.returncode == 0, done.stderr
    assert stack.snapshot() == before
