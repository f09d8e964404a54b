"""Toxiproxy itself fails while faults are on: killed, started again empty, stopped while an injection is under way."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.e2e.control import NOTICED_S, call, left_about, not_proven, reason_about, wait_all_proven
from tests.e2e.life import BRIEF, brief_run, state_folders
from tests.e2e.observe import HARNESS, Run, family, http_json, still_alive, wait_until
from tests.e2e.own_system import OwnSystem
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

FAULTS = ("--fault", "redis-down", "--fault", "db-latency")
NAMES = FAULTS[1::2]


@pytest.mark.thorough
def test_a_runs_own_toxiproxy_that_somebody_kills_is_started_again_and_nothing_is_left(tmp_path: Path) -> None:
    run = Run(tmp_path, *BRIEF, *FAULTS, "--fault-for", "8s", shortened=True)
    try:
        wait_all_proven(run, *NAMES)
        members = family(run.process.pid)
        (pid,) = [pid for pid, label in members.items() if "toxiproxy-server" in label]
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: set(not_proven(run)) == set(NAMES), NOTICED_S), not_proven(run)
        assert run.end() == 3, run.text()
        for fault in NAMES:
            assert "did not last" in reason_about(run, fault)
        events = [event["event"] for event in run.events()]
        assert events.count("undo_verified") == 2 and "undo_not_verified" not in events
        members |= {pid: label for pid, label in family(run.process.pid).items() if pid not in members}
        assert wait_until(lambda: not still_alive(members)), still_alive(members)
    finally:
        run.kill_group()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnSystem]:
    folder = tmp_path / "own"
    folder.mkdir()
    system = OwnSystem(folder)
    yield system
    system.close()


@pytest.mark.thorough
def test_somebodys_toxiproxy_that_restarts_without_its_proxies_is_told_as_commands(
    own: OwnSystem, tmp_path: Path
) -> None:
    before = own.snapshot()
    run = Run(own.folder, *BRIEF, *FAULTS, "--fault-for", "8s", env=own.env, shortened=True)
    empty: subprocess.Popen[bytes] | None = None
    try:
        wait_all_proven(run, *NAMES)
        old = own.toxiproxy_process.pid
        program = Path(f"/proc/{old}/exe").resolve()
        os.kill(old, signal.SIGKILL)
        port = own.toxiproxy.rpartition(":")[2]
        assert wait_until(lambda: not answers(own.toxiproxy))
        empty = subprocess.Popen(
            [str(program), "-host", "127.0.0.1", "-port", port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert wait_until(lambda: answers(own.toxiproxy))
        assert wait_until(lambda: set(not_proven(run)) == set(NAMES), NOTICED_S), not_proven(run)
        assert run.end() == 5, run.text()
        assert http_json(f"{own.toxiproxy}/proxies").keys() <= {"harness-lock"}, "nothing of theirs is made again"
        for fault in NAMES:
            assert "did not last" in reason_about(run, fault)
            told = left_about(run, fault)
            assert "no longer has the proxy" in told and "restarted" in told
            # What it says is enough: the command as printed brings the proxy back.
            words = shlex.split(told[told.index("curl -X POST") :])
            call("POST", words[3], json_body(words[5]))
        payments = before["proxies"]["payments"]
        call("POST", f"{own.toxiproxy}/proxies", {key: payments[key] for key in ("name", "listen", "upstream")})
        healed = subprocess.run(
            [str(HARNESS), "heal", "--all"],
            env={**os.environ, **own.env, "XDG_STATE_HOME": str(own.folder / "state")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert healed.returncode == 0, healed.stdout + healed.stderr
        after = own.snapshot()
        assert after["proxies"] == before["proxies"] and after["roles"] == before["roles"]
        assert not state_folders(own.folder / "state")
    finally:
        run.kill_group()
        if empty is not None:
            empty.kill()
            empty.wait()


def json_body(text: str) -> object:
    import json

    return json.loads(text)


def answers(url: str) -> bool:
    try:
        http_json(f"{url}/version")
    except (OSError, ValueError):
        return False
    return True


def test_a_toxiproxy_of_ours_stopped_while_an_injection_is_under_way_is_restarted_and_nothing_is_left(
    stack: StandingStack, tmp_path: Path
) -> None:
    """The request lies in the stopped process's socket, and would be carried out when that goes on. Its API is silent,
    so the undo has its keeper restart it: the request ends with the process."""
    before = stack.snapshot()
    redis = stack.dependency("redis")
    run = brief_run(stack, tmp_path, "--fault", "redis-latency", "--fault-for", "10s")

    def go_on() -> None:
        with suppress(ProcessLookupError):
            os.kill(redis["proxy"]["pid"], signal.SIGCONT)

    wake = threading.Timer(60.0, go_on)
    try:
        # Undo records are written before the phase begins; the injection comes a moment after its announcement.
        run.wait_phase("fault")
        os.kill(redis["proxy"]["pid"], signal.SIGSTOP)
        wake.start()
        assert run.end() == 3, run.text()
        requested = next(e for e in run.events() if e["event"] == "fault_requested")
        assert not any(e["event"] == "fault_injected" for e in run.events()), requested
        assert any("unknown" in reason for reason in run.result()["reasons"]), run.result()["reasons"]
        ended = [e["event"] for e in run.events() if e["event"].startswith("undo_") and e["event"] != "undo_requested"]
        assert ended == ["undo_verified"]
        assert stack.snapshot() == before
        assert not psutil.pid_exists(redis["proxy"]["pid"]), "another process serves in its place"
    finally:
        wake.cancel()
        go_on()
        run.kill_group()
