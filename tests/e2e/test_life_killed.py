"""Run and keeper are stopped or killed, one or both, also at the moment when half of something is done."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.life import (
    FAULTS,
    LONG,
    assert_nothing_left,
    brief_run,
    entries,
    keeper_of,
    load_of,
    state_folders,
    stopped,
    wait_moment,
    wait_on,
)
from tests.e2e.observe import Run, family, still_alive, wait_until
from tests.e2e.standing import StandingStack, harness_command

pytestmark = [pytest.mark.stack, pytest.mark.slow]

MOMENTS = Path(__file__).with_name("moments")


@pytest.mark.parametrize("phase", [pytest.param("baseline", marks=pytest.mark.thorough), "fault"])
def test_a_run_that_is_stopped_for_long_is_ended_and_cannot_come_back(
    stack: StandingStack, tmp_path: Path, phase: str
) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, *LONG)
    try:
        run.wait_phase(phase)
        if phase == "fault":
            wait_on(run)
        members = family(run.process.pid)
        run.process.send_signal(signal.SIGSTOP)
        # The lease is 10 s: whoever holds it for longer is ended while it stands still, and then healed.
        assert wait_until(lambda: not still_alive(members), 60), still_alive(members)
        run.process.send_signal(signal.SIGCONT)
        assert run.end() == -signal.SIGKILL
        assert_nothing_left(stack, before, members)
    finally:
        run.process.send_signal(signal.SIGCONT)
        run.kill_group()


@pytest.mark.thorough
def test_a_run_that_is_stopped_for_a_moment_goes_on_and_says_so(stack: StandingStack, tmp_path: Path) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-down", "--fault-for", "8s")
    try:
        wait_on(run)
        members = family(run.process.pid)
        with stopped([run.process.pid]):
            time.sleep(5)
        assert run.end() in (0, 3), run.text()
        assert "was stopped for" in run.text() and "recording gap" not in run.text()
        result = run.result()
        assert result["faults"][0]["undo_verified"] is True
        # The load had no part in it: every arrival of the fault phase is on record.
        fault = next(phase for phase in result["phases"] if phase["name"] == "fault")
        assert fault["requests"] == fault["planned"] > 0
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()


@pytest.mark.parametrize(
    ("action", "call"),
    [
        pytest.param("inject", 1, marks=pytest.mark.thorough),
        pytest.param("undo", 1, marks=pytest.mark.thorough),
        ("undo", 2),
        pytest.param("undo", 3, marks=pytest.mark.thorough),
    ],
)
def test_a_run_killed_at_the_moment_between_its_journal_and_the_deed(
    stack: StandingStack, tmp_path: Path, action: str, call: int
) -> None:
    """It ends itself by SIGKILL when it opens its n-th connection to Toxiproxy after that line of its journal."""
    before = stack.snapshot()
    port = stack.dependency("redis")["proxy"]["url"].rpartition(":")[2]
    env = {"PYTHONPATH": str(MOMENTS), "TEST_DIE_AFTER": action, "TEST_DIE_PORT": port, "TEST_DIE_CALL": str(call)}
    run = brief_run(stack, tmp_path, "--fault", "redis-down", "--fault", "kafka-latency", env=env)
    try:
        run.wait_phase("baseline")
        members = family(run.process.pid)
        assert run.end() == -signal.SIGKILL, run.text()
        assert_nothing_left(stack, before, members)
        states = [entry["action"] for entry in entries(run.dir) if entry["entry"] == "intent"]
        assert states[-1] == action, "it died at that moment"
    finally:
        run.kill_group()


def test_a_run_killed_while_its_injection_is_under_way(stack: StandingStack, tmp_path: Path) -> None:
    """Toxiproxy hangs, so the request is sent and not answered; it is carried out after the run is dead."""
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-latency", "--fault", "kafka-latency@3s", *LONG)
    try:
        wait_on(run)
        members = family(run.process.pid)
        (folder,) = state_folders(stack.state)
        with stopped([stack.server("toxiproxy")]):
            wait_moment(
                "the second injection has begun",
                lambda: sum(e["entry"] == "intent" and e["action"] == "inject" for e in entries(folder)) == 2,
                run,
            )
            time.sleep(0.3)
            run.process.kill()
            run.process.wait(30)
            time.sleep(1)
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()


@pytest.mark.parametrize(
    "own", [pytest.param(True, id="own stack", marks=pytest.mark.thorough), pytest.param(False, id="standing stack")]
)
def test_a_run_whose_keeper_is_killed_undoes_everything_itself(stack: StandingStack, tmp_path: Path, own: bool) -> None:
    before = stack.snapshot()
    run = own_run(tmp_path) if own else brief_run(stack, tmp_path, *LONG)
    try:
        wait_on(run)
        members = family(run.process.pid)
        os.kill(keeper_of(run), signal.SIGKILL)
        assert run.end() == 3, run.text()
        result = run.result()
        assert any("keeper" in reason for reason in result["reasons"]), result["reasons"]
        assert all(fault["undo_verified"] for fault in result["faults"] if fault["injected_s"] is not None)
        assert wait_until(lambda: not still_alive(members)), still_alive(members)
        if not own:
            assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()


def own_run(folder: Path, *args: str, env: dict[str, str] | None = None) -> Run:
    from tests.e2e.life import BRIEF

    return Run(folder, *BRIEF, *FAULTS, *LONG, *args, env=env, shortened=True)


def kill_both(run: Run) -> None:
    """In one go, the keeper first: it must not get a chance."""
    keeper, load = keeper_of(run), load_of(run)
    os.kill(keeper, signal.SIGSTOP)
    run.process.kill()
    os.kill(keeper, signal.SIGKILL)
    run.process.wait(30)
    assert load, "there was load"


@pytest.mark.thorough
def test_both_killed_on_an_own_stack_then_heal(tmp_path: Path) -> None:
    run = own_run(tmp_path)
    try:
        wait_on(run)
        members = family(run.process.pid)
        (folder,) = state_folders(tmp_path / "state")
        private = [entry["path"] for entry in entries(folder, "keeper.jsonl") if entry["entry"] == "folder"]
        assert private and all(Path(path).is_dir() for path in private)
        kill_both(run)
        done = harness_command("heal", "--all", XDG_STATE_HOME=str(tmp_path / "state"))
        assert done.returncode == 0, done.stdout + done.stderr
        assert not still_alive(members), still_alive(members)
        assert not any(Path(path).exists() for path in private)
        assert not state_folders(tmp_path / "state")
        again = harness_command("heal", "--all", XDG_STATE_HOME=str(tmp_path / "state"))
        assert again.returncode == 0, again.stdout + again.stderr
    finally:
        run.kill_group()


def test_both_killed_on_a_standing_stack_then_heal_from_a_damaged_journal_and_from_a_torn_one(
    stack: StandingStack, tmp_path: Path
) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, *LONG)
    try:
        wait_on(run, 3)
        members = family(run.process.pid)
        (folder,) = state_folders(stack.state)
        kill_both(run)
        assert wait_until(lambda: not still_alive(members)), still_alive(members)
        broken = stack.snapshot()
        assert broken != before and broken["proxies"]["redis"]["enabled"] is False, "nobody has healed it"
        journal = folder / "journal.jsonl"
        sound = journal.read_bytes()

        # The next run is told what is in its way, and touches nothing.
        other = tmp_path / "other"
        other.mkdir()
        refused = brief_run(stack, other, *LONG)
        assert refused.end() == 2, refused.text()
        assert "harness heal" in refused.text() and not (other / "runs").exists()
        refused.kill_group()

        # One letter of one record is wrong: the others are healed, the exit code says that something is left.
        lines = sound.splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if b'"id":"kafka-latency"' in line and b'"record"' in line)
        lines[at] = lines[at].replace(b"kafka", b"kefka", 1)
        journal.write_bytes(b"".join(lines))
        done = stack.harness("heal", "--all")
        assert done.returncode == 5, done.stdout + done.stderr
        assert f"line {at + 1}" in done.stdout + done.stderr and "kafka" in done.stdout + done.stderr
        after = stack.snapshot()
        assert after["proxies"]["redis"] == before["proxies"]["redis"], done.stdout + done.stderr
        assert after["roles"] == before["roles"]
        assert after["proxies"]["kafka"] == broken["proxies"]["kafka"], "what cannot be told is left alone"
        assert folder.is_dir()

        # A line cut short at the end stands for nothing that was done.
        journal.write_bytes(sound + b'{"entry":"record","record":{"id":"half')
        done = stack.harness("heal", str(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
