"""`harness stack` from outside: a process that only has the command line, and looks at /proc afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.safety.locks.local import acquire
from harness.safety.locks.names import target_names
from tests.support.servers.real import wait_until

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

Harness = Callable[..., "subprocess.CompletedProcess[str]"]
CODE = [sys.executable, "-c", "from harness.cli import main; main()", "stack"]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    yield tmp_path / "state" / "harness" / "stacks"
    harness("down")
    assert not leftovers(tmp_path / "state")


def harness(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CODE, *arguments], capture_output=True, text=True, timeout=240)


def leftovers(state_home: Path) -> list[psutil.Process]:
    """Keepers of this test, and servers in folders that they journaled."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(state_home) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kept(state: Path) -> dict[str, object]:
    found = json.loads((state / "embedded.json").read_bytes())
    assert isinstance(found, dict)
    return found


def servers(folder: str) -> list[int]:
    """Every process that works in, or was told of, this private folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(folder) or folder in " ".join(process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def test_up_status_logs_down(state: Path) -> None:
    assert harness("status").stdout == "no stack is up\n"
    done = harness("up")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")
    assert "The stack is ready after" in done.stderr
    assert (state / "embedded.json").stat().st_mode & 0o777 == 0o600

    again = harness("up")
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert "up already" in again.stderr

    status = harness("status")
    assert status.returncode == 0
    rows = [line.split() for line in status.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["toxiproxy", "valkey", "kafka", "postgres", "risk", "envoy", "api"]
    assert all(row[-1] == "ok" for row in rows)

    assert "Ready to accept connections" in harness("logs", "redis", "-n", "3").stdout
    assert harness("logs").stdout.count("== ") == 5
    wrong = harness("logs", "kafak")
    assert wrong.returncode == 2
    assert "did you mean 'kafka'?" in wrong.stderr

    with acquire(target_names(done.stdout.strip()), owner="a-run"):
        refused = harness("down")
    assert refused.returncode == 2
    assert "is in use by run a-run" in refused.stderr

    os.kill(int(rows[1][1]), signal.SIGKILL)
    status = harness("status")
    assert status.returncode == 4
    assert "valkey" in next(line for line in status.stdout.splitlines() if "does not answer" in line)

    folder = str(kept(state)["up"]["folder"])  # type: ignore[index]
    assert servers(folder)
    down = harness("down")
    assert down.returncode == 0
    assert down.stdout.startswith("stopped: ")
    assert servers(folder) == []
    assert not Path(folder).exists()
    assert [p.name for p in state.iterdir()] == ["embedded.json.lock"]
    assert harness("down").stdout == "no stack is up\n"


def test_a_killed_keeper_takes_its_servers_along_and_down_tidies_up(state: Path) -> None:
    assert harness("up", "--quiet").returncode == 0
    found = kept(state)
    folder = str(found["up"]["folder"])  # type: ignore[index]
    os.kill(int(str(found["keeper"])), signal.SIGKILL)
    if sys.platform == "linux":
        wait_until("every server is gone", lambda: servers(folder) == [], 60)
    status = harness("status")
    assert status.returncode == 4
    assert "is dead; tidy up with: harness stack down" in status.stdout
    assert harness("down").returncode == 0
    assert not Path(folder).exists()
    assert not (state / "embedded.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_leaves_nothing(state: Path, number: signal.Signals) -> None:
    with subprocess.Popen([*CODE, "up"], stderr=subprocess.PIPE, text=True) as starting:
        assert starting.stderr is not None
        line = ""
        while "ready after" not in line:
            line = starting.stderr.readline()
            assert line, "it ended before a server was ready"
            if line.startswith("Starting in "):
                folder = line.split()[-1]
        starting.send_signal(number)
        starting.communicate(timeout=120)
    assert starting.returncode == 130
    assert servers(folder) == []
    assert not Path(folder).exists()
    assert [p.name for p in state.iterdir()] == ["embedded.json.lock"]


def test_a_start_that_is_killed_is_found_and_taken_down(state: Path) -> None:
    with subprocess.Popen([*CODE, "up"], stderr=subprocess.PIPE, text=True) as starting:
        assert starting.stderr is not None
        line = ""
        while not line.startswith("Starting in "):
            line = starting.stderr.readline()
            assert line
        folder = line.split()[-1]
        time.sleep(0.2)
        starting.kill()
    assert harness("status").stdout.startswith("starting since")
    assert harness("down").returncode == 0
    assert servers(folder) == []
    assert not Path(folder).exists()
