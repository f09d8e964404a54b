"""Full disks, deleted folders: what a run writes may fail, what it undoes may not."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.life import BRIEF, LONG, assert_nothing_left, brief_run, state_folders, wait_on
from tests.e2e.observe import Run, family, still_alive, wait_until
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A real disk of one megabyte, mounted there."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if os.geteuid() != 0:
        pytest.skip("NOT TESTED HERE: a tiny disk needs root, to mount it")
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED HERE: no tmpfs can be mounted: {done.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(folder: Path) -> Path:
    filler = folder / ".filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 64)
    return filler


def test_a_disk_that_fills_up_before_the_injection_lets_nothing_be_injected(
    stack: StandingStack, tmp_path: Path
) -> None:
    before = stack.snapshot()
    run = None
    with small_disk(stack.state / "harness" / "active") as disk:
        try:
            run = brief_run(stack, tmp_path, *LONG)
            run.wait_phase("baseline")
            members = family(run.process.pid)
            filler = fill(disk)
            assert run.end() == 3, run.text()
            assert "nothing was injected" in run.text() and "No space left" in run.text()
            assert not any(event["event"] == "fault_requested" for event in run.events())
            assert all(fault["injected_s"] is None for fault in run.result()["faults"])
            filler.unlink()
            assert_nothing_left(stack, before, members)
        finally:
            if run is not None:
                run.kill_group()


def test_a_disk_that_fills_up_during_the_fault_stops_no_undo(stack: StandingStack, tmp_path: Path) -> None:
    before = stack.snapshot()
    with small_disk(tmp_path / "runs") as disk, small_disk(stack.state / "harness" / "active") as active:
        run = brief_run(stack, tmp_path, "--fault", "redis-down", "--fault", "kafka-latency", *LONG)
        try:
            wait_on(run, 2)
            members = family(run.process.pid)
            fill(disk)
            filler = fill(active)
            # The requests cannot be recorded any more: there is nothing to judge from, so the run ends by itself.
            assert run.end() == 3, run.text()
            assert stack.snapshot() == before
            assert wait_until(lambda: not still_alive(members)), still_alive(members)
            assert "cannot be written" in run.text() and "INCONCLUSIVE" in run.text()
            # What could not be written down as undone is looked at once more, and found as it was.
            filler.unlink()
            done = stack.harness("heal", "--all")
            assert done.returncode == 0, done.stdout + done.stderr
            assert_nothing_left(stack, before, members)
        finally:
            run.kill_group()


def test_a_run_folder_deleted_while_the_fault_is_on(stack: StandingStack, tmp_path: Path) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-down")
    try:
        wait_on(run)
        members = family(run.process.pid)
        shutil.rmtree(tmp_path / "runs")
        # The record of the requests is gone: nothing can be judged, which is exit 4.
        assert run.end() == 4, run.text()
        assert "undone at" in run.text() and "and verified" in run.text(), "memory still knows"
        assert "INCONCLUSIVE" in run.text() and "Traceback" not in run.text()
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()


@pytest.mark.parametrize(
    "killed", [pytest.param(False, id="ends by itself", marks=pytest.mark.thorough), pytest.param(True, id="killed")]
)
def test_a_state_folder_deleted_while_the_fault_is_on(stack: StandingStack, tmp_path: Path, killed: bool) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, *(LONG if killed else ()))
    try:
        wait_on(run, 3)
        members = family(run.process.pid)
        (folder,) = state_folders(stack.state)
        shutil.rmtree(folder)
        if killed:
            run.process.kill()
        assert run.end() in ((-signal.SIGKILL,) if killed else (0, 3)), run.text()
        assert killed or all(fault["undo_verified"] for fault in run.result()["faults"])
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()


def test_an_own_stack_whose_state_folder_and_temporary_folder_are_unusual(tmp_path: Path) -> None:
    """TMPDIR names no folder, the state folder vanishes: the servers and their folders go all the same."""
    run = Run(tmp_path, *BRIEF, "--fault", "redis-down", env={"TMPDIR": "/proc/none"}, shortened=True)
    try:
        run.wait_phase("warmup")
        members = family(run.process.pid)
        (folder,) = state_folders(tmp_path / "state")
        journal = (folder / "keeper.jsonl").read_text()
        private = journal.partition('"entry":"folder"')[2].partition('"path":"')[2].partition('"')[0]
        assert Path(private).is_dir()
        shutil.rmtree(folder)
        run.process.send_signal(signal.SIGINT)
        assert run.end() == 130, run.text()
        assert wait_until(lambda: not still_alive(members)), still_alive(members)
        assert not Path(private).exists()
    finally:
        run.kill_group()
