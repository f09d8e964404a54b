"""Whole process trees stopped, continued and ended while they fork, lose their first process, or are not ours."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from harness.adapters.processes import control as process_control
from harness.adapters.processes.control import ServerProcesses, as_scalars, from_scalars, look_at, members
from harness.adapters.processes.identity import alive, wait_gone
from harness.model.errors import Gone, Rejected

LIMIT_S = 60.0

FORKING = """
import os, sys, time
print("up", flush=True)
while True:
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
        time.sleep(0.1)
        os._exit(0)
    time.sleep(0.001)
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass
"""
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


@contextmanager
def server(code: str, *, session: bool = True) -> Iterator[tuple[ServerProcesses, str]]:
    """`code` in a process that leads its session; what it says first."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=session
    )
    assert process.stdout is not None
    try:
        word = process.stdout.readline().strip()
        yield look_at(process.pid), word
    finally:
        if session:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        process.kill()
        process.wait(LIMIT_S)
        process.stdout.close()


def running(found: ServerProcesses) -> list[int]:
    return [row.id.pid for row in members(found) if not row.stopped]


def test_nothing_that_is_forked_meanwhile_escapes_a_stop() -> None:
    with server(FORKING) as (found, _):
        for _ in range(3):
            assert process_control.stop(found) >= 1
            assert running(found) == []
            before = [row.id for row in members(found)]
            time.sleep(0.1)
            assert [row.id for row in members(found)] == before, "a stopped tree starts nothing"
            assert process_control.go_on(found) >= 1
            assert running(found)


def test_nothing_that_is_forked_meanwhile_escapes_a_kill() -> None:
    with server(FORKING) as (found, _):
        process_control.kill(found)
        assert members(found) == []
        assert not alive(found.first)


def test_going_on_twice_is_harmless() -> None:
    with server(FAMILY) as (found, _):
        process_control.stop(found)
        assert process_control.go_on(found) == 2
        assert process_control.go_on(found) == 0


def test_orphans_are_found_when_the_first_process_is_gone() -> None:
    with server(FAMILY) as (found, child):
        found = from_scalars(as_scalars(found))
        process_control.stop(found)
        os.kill(found.first.pid, signal.SIGKILL)
        deadline = time.monotonic() + LIMIT_S
        while alive(found.first) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [row.id.pid for row in members(found)] == [int(child)]
        assert process_control.go_on(found) == 1
        assert process_control.kill(found) == 1
        with pytest.raises(Gone):
            process_control.stop(found)


def test_asking_to_end_waits_for_the_grace_and_then_kills() -> None:
    stubborn = FAMILY.replace("import os,", "import signal; signal.signal(15, signal.SIG_IGN)\nimport os,")
    with server(FAMILY) as (found, _):
        assert process_control.ask_to_end(found, signal.SIGTERM, 0.3), "the child does not end by itself"
        assert members(found) == []
    with server(stubborn) as (found, _):
        begun = time.monotonic()
        assert process_control.ask_to_end(found, signal.SIGTERM, 0.3)
        assert time.monotonic() - begun >= 0.3
        assert members(found) == []


def test_another_process_with_the_same_pid_is_not_touched() -> None:
    with server(FAMILY) as (found, _):
        past = as_scalars(found)
        stranger = {
            **past,
            "ticks": int(str(past["ticks"] or 0)) - 100,
            "start_time": float(str(past["start_time"])) - 60,
        }
        for act in (process_control.kill, process_control.go_on):
            act(from_scalars(stranger))
        assert len(members(found)) == 2
        with pytest.raises(Gone):
            process_control.stop(from_scalars(stranger))


def test_the_harness_never_stops_itself_or_what_it_runs_under() -> None:
    me = look_at(os.getpid())
    assert process_control.runs_us(me)
    assert os.getpid() not in {row.id.pid for row in members(me)}
    parent = look_at(os.getppid())
    assert process_control.runs_us(parent)
    assert not {os.getpid(), os.getppid()} & {row.id.pid for row in members(parent)}


def test_a_record_that_names_no_process_signals_nobody() -> None:
    for values in ({}, {"pid": "1"}, {**as_scalars(look_at(os.getpid())), "pid": None}):
        with pytest.raises(Gone, match="names no process"):
            from_scalars(values)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process that it then may not signal")
def test_a_process_that_may_not_be_signalled_is_told() -> None:
    code = (
        "import os, sys\n"
        "from harness.adapters.processes import control as process_control\n"
        "from harness.model.errors import Rejected\n"
        "found = process_control.look_at(int(sys.argv[1]))\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "try: process_control.stop(found)\n"
        "except Rejected as error: print(error)\n"
    )
    with server(FAMILY) as (found, _):
        done = subprocess.run(
            [sys.executable, "-c", code, str(found.first.pid)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert "may not be signalled by this user" in done.stdout, done.stderr
        assert psutil.Process(found.first.pid).status() != psutil.STATUS_STOPPED


def test_one_that_does_not_go_on_is_told_in_time() -> None:
    with server(FAMILY) as (found, _):
        process_control.stop(found)
        with pytest.raises(Rejected, match="not going on within 0 s"):
            process_control._until(found, lambda row: row.stopped, 0, "going on", 0.0)


LEADERLESS = """
import ctypes, platform, socket, threading, time
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=time.sleep, args=(600,)).start()
print(server.getsockname()[1], flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux shows a dead first thread as the process")
def test_a_tree_is_not_gone_before_its_last_thread() -> None:
    """A JVM that is killed loses its first thread first; its port stays open until the others are gone too."""
    with server(LEADERLESS) as (found, port):
        end = time.monotonic() + LIMIT_S
        stat = Path(f"/proc/{found.first.pid}/stat")
        while not stat.read_text().rpartition(") ")[2].startswith("Z"):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert [row.id.pid for row in members(found)] == [found.first.pid]
        assert wait_gone([found.first], 0.05) == [found.first]
        with socket.create_connection(("127.0.0.1", int(port)), timeout=LIMIT_S):
            pass
        process_control.kill(found)
        assert members(found) == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)), timeout=LIMIT_S).close()
