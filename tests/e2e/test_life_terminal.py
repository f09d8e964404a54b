"""Ctrl-C, Ctrl-Z, a window that is closed, output that nobody reads: on real terminals and pipes."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.life import BRIEF, LONG, assert_nothing_left, brief_run, stopped, wait_on
from tests.e2e.observe import SHORTENED, Run, family, identity, wait_until
from tests.e2e.standing import StandingStack
from tests.e2e.terminal import Terminal

pytestmark = [
    pytest.mark.stack,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED HERE: setsid --ctty is Linux's"),
]


class Typed(Run):
    """A run that somebody typed into a shell; there is no process of ours to wait for."""

    def __init__(self, cwd: Path, terminal: Terminal, *args: str) -> None:
        self.cwd = cwd
        self.terminal = terminal
        command = [sys.executable, "-c", SHORTENED, "run", *BRIEF, *args, "--out", str(cwd / "runs")]
        terminal.type(shlex.join(command) + '; echo "code=$?"\n')

    def wait_for(self, what: Any, timeout_s: float = 90) -> None:
        assert wait_until(lambda: any(what(event) for event in self.events()), timeout_s), self.terminal.text[-3000:]

    def ended(self) -> bool:
        return False

    def text(self) -> str:
        return self.terminal.text

    def pid(self) -> int:
        members = family(self.terminal.shell.pid)
        return next(pid for pid, label in members.items() if "MIN_BASELINE_S" in label and " run " in f"{label} run ")


@pytest.fixture
def terminal(stack: StandingStack, tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path, {"XDG_STATE_HOME": str(stack.state)})
    yield opened
    opened.end()


def test_ctrl_c_twice_undoes_everything_and_tells_what_it_waits_for(
    stack: StandingStack, tmp_path: Path, terminal: Terminal
) -> None:
    before = stack.snapshot()
    run = Typed(tmp_path, terminal, "--fault", "redis-down", *LONG)
    wait_on(run)
    members = family(run.pid())
    with stopped([stack.server("toxiproxy")]):  # so that the undo takes its time
        terminal.type("\x03")
        terminal.wait_text("SIGINT: undoing every fault")
        terminal.type("\x03")
        terminal.wait_text("SIGINT again: still waiting for")
        terminal.type("\x03\x03\x03")
        time.sleep(1)
        assert identity(run.pid()) is not None, "it still waits"
    terminal.wait_text("code=130")
    assert_nothing_left(stack, before, members)
    assert "nothing is skipped" in terminal.text and "Traceback" not in terminal.text
    assert run.result()["exit_code"] == 130 and run.result()["faults"][0]["undo_verified"] is True


def test_ctrl_z_stops_a_healthy_run_and_is_refused_while_a_fault_is_on(
    stack: StandingStack, tmp_path: Path, terminal: Terminal
) -> None:
    before = stack.snapshot()
    run = Typed(tmp_path, terminal, "--fault", "redis-down", "--fault-for", "6s", "--baseline", "6s")
    run.wait_phase("baseline")
    pid = run.pid()
    members = family(pid)
    time.sleep(0.5)
    terminal.type("\x1a")
    terminal.wait_text("Stopped")
    assert state_of(pid) == "T"
    terminal.type('fg; echo "then=$?"\n')
    wait_on(run)
    terminal.type("\x1a")
    terminal.wait_text("Ctrl-Z is refused while a fault is on")
    assert state_of(pid) != "T"
    terminal.wait_text("then=", 90)
    assert wait_until(lambda: "then=0\r" in terminal.text or "then=3\r" in terminal.text, 90), terminal.text[-3000:]
    assert terminal.text.count("Stopped") == 1
    assert_nothing_left(stack, before, members)


def test_a_closed_window_undoes_everything(stack: StandingStack, tmp_path: Path, terminal: Terminal) -> None:
    before = stack.snapshot()
    run = Typed(tmp_path, terminal, "--fault", "redis-down", *LONG)
    wait_on(run)
    members = family(run.pid())
    terminal.close()
    assert_nothing_left(stack, before, members)
    result = run.result()
    assert result["exit_code"] == 130 and result["faults"][0]["undo_verified"] is True
    assert any("SIGHUP" in reason or "interrupted" in reason for reason in result["reasons"]), result["reasons"]


@pytest.mark.parametrize(
    "shell",
    [
        pytest.param('"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}', id="head"),
        pytest.param('exec "$@" <&- >&- 2>&-', id="closed", marks=pytest.mark.thorough),
        pytest.param('exec "$@" >/dev/full 2>/dev/full', id="full", marks=pytest.mark.thorough),
    ],
)
def test_output_that_goes_nowhere_changes_nothing(stack: StandingStack, tmp_path: Path, shell: str) -> None:
    before = stack.snapshot()
    broken = ("--target", "fault: p95 < 0.01ms")
    run = brief_run(stack, tmp_path, "--fault", "redis-down", *broken, prefix=("bash", "-c", shell, "-"))
    try:
        wait_on(run)
        members = family(run.process.pid)
        code = run.end()
        assert code == run.result()["exit_code"] and code in (1, 3), run.text()
        assert run.result()["faults"][0]["undo_verified"] is True
        assert_nothing_left(stack, before, members)
        for name in ("journal.jsonl", "history.jsonl", "windows.jsonl"):
            lines = (run.dir / name).read_bytes().splitlines()
            assert all(line.startswith(b"{") for line in lines), f"nobody else wrote to {name}"
        if "head" in shell:
            assert len((tmp_path / "stdout.txt").read_text().splitlines()) == 1
    finally:
        run.kill_group()


def test_a_burst_of_signals_to_the_very_end_skips_nothing(stack: StandingStack, tmp_path: Path) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, *LONG)
    try:
        wait_on(run)
        members = family(run.process.pid)
        kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        number = 0
        while run.process.poll() is None:
            run.process.send_signal(kinds[number % 3])
            number += 1
            time.sleep(0.005)
            assert number < 20000, run.text()
        assert run.end() == 130, run.text()
        assert_nothing_left(stack, before, members)
        assert run.result()["exit_code"] == 130 and (run.dir / "report.html").stat().st_size > 0
        assert run.result()["verdict"] in run.text().lower(), "the result was printed, too"
    finally:
        run.kill_group()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.thorough
def test_signals_while_the_reports_are_written_do_not_change_the_verdict(stack: StandingStack, tmp_path: Path) -> None:
    """After the undo and the last request the experiment is over: its verdict stands."""
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-down")
    try:
        run.wait_phase("baseline")
        members = family(run.process.pid)
        assert wait_until(lambda: "releasing the locks" in run.text(), 90), run.text()
        while run.process.poll() is None:
            try:
                os.kill(run.process.pid, signal.SIGINT)
            except ProcessLookupError:
                break
            time.sleep(0.005)
        code = run.end()
        assert code in (0, 3, 130), run.text()
        assert run.result()["exit_code"] == code and run.result()["faults"][0]["undo_verified"] is True
        assert (run.dir / "report.html").stat().st_size > 0 and (run.dir / "junit.xml").stat().st_size > 0
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()
