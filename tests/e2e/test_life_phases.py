"""A run is ended in each of its phases, gently and hard, and nothing stays, as seen from outside."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.life import FAULTS, LONG, assert_nothing_left, brief_run, stopped, tree, wait_moment, wait_on
from tests.e2e.observe import Run, family
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

INT, TERM, HUP, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL


def reach(run: Run, phase: str, stack: StandingStack, waits: contextlib.ExitStack) -> None:
    """Until the run is in the phase, and will stay there for a while."""
    if phase == "gap":
        # The gap lasts as long as requests of the baseline are open: the service hangs from just before its end.
        run.wait_phase("baseline")
        time.sleep(2.5)
        waits.enter_context(stopped(tree(stack.info["target"]["pid"])))
    if phase == "read-back":
        # After the load: a process of its own asks the service, which hangs.
        asks = "acknowledged writes are read back"
        run.wait_for(lambda e: e["event"] == "load_ended")
        wait_moment(asks, lambda: any("read-back" in label for label in family(run.process.pid).values()), run)
        waits.enter_context(stopped(tree(stack.info["target"]["pid"])))
        return
    run.wait_phase(phase)
    if phase == "fault":
        wait_on(run, len(FAULTS) // 2)


@pytest.mark.parametrize(
    ("phase", "number"),
    [
        pytest.param("setup", TERM, marks=pytest.mark.thorough),
        ("setup", KILL),
        pytest.param("warmup", HUP, marks=pytest.mark.thorough),
        pytest.param("warmup", KILL, marks=pytest.mark.thorough),
        pytest.param("baseline", TERM, marks=pytest.mark.thorough),
        pytest.param("baseline", KILL, marks=pytest.mark.thorough),
        pytest.param("gap", INT, marks=pytest.mark.thorough),
        pytest.param("gap", KILL, marks=pytest.mark.thorough),
        pytest.param("fault", INT, marks=pytest.mark.thorough),
        pytest.param("fault", HUP, marks=pytest.mark.thorough),
        ("fault", KILL),
        ("recovery", TERM),
        pytest.param("recovery", KILL, marks=pytest.mark.thorough),
        pytest.param("after", INT, marks=pytest.mark.thorough),
        pytest.param("after", KILL, marks=pytest.mark.thorough),
        pytest.param("tail", INT, marks=pytest.mark.thorough),
        ("read-back", KILL),
        pytest.param("tail", KILL, marks=pytest.mark.thorough),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_an_end_in_any_phase_leaves_nothing(
    stack: StandingStack, tmp_path: Path, phase: str, number: signal.Signals
) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, *(LONG if phase == "fault" else ()))
    try:
        with contextlib.ExitStack() as waits:
            reach(run, phase, stack, waits)
            if phase == "fault":
                assert stack.snapshot() != before, "the faults are on"
            members = family(run.process.pid)
            run.process.send_signal(number)
            code = run.end()
        assert_nothing_left(stack, before, members)
        if number == KILL:
            assert code == -KILL
            return
        assert code == 130, run.text()
        result = run.result()
        assert result["verdict"] == "inconclusive" and result["exit_code"] == 130
        assert any("interrupted" in reason for reason in result["reasons"]), result["reasons"]
        events = [event["event"] for event in run.events()]
        assert events.count("undo_verified") == events.count("fault_injected") and "undo_not_verified" not in events
        for name in ("report.html", "report.md", "junit.xml", "journal.jsonl", "keeper.jsonl"):
            assert (run.dir / name).stat().st_size > 0, name
    finally:
        run.kill_group()
