"""Process trees as they are measured: real processes that burn CPU, end, and leave children behind."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.adapters.processes.usage import (
    Identity,
    Machine,
    Processes,
    Tree,
    identify,
    listening_ports,
    worker_count,
)
from harness.model.errors import Gone

LIMIT_S = 60.0


@contextmanager
def running(code: str, *, inherited: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """`code` in a child that prints a line for each step and goes on when it gets one."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=() if inherited is None else (inherited,),
    )
    try:
        yield process
    finally:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()  # every child here ends at the end of its input
        process.wait(LIMIT_S)
        process.stdout.close()


def step(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


BURN = """
import os, sys, time, subprocess
def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end: pass
def say(word='done'):
    print(word, flush=True)
    if not sys.stdin.readline(): sys.exit()
"""


def test_cpu_time_and_memory_of_a_tree() -> None:
    code = BURN + (
        "say()\n"
        "child = subprocess.Popen([sys.executable, '-c', 'data = bytearray(40_000_000); print(1, flush=True); "
        "input()'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); burn(0.3); say()\n"
        "child.stdin.close(); child.wait(); say()\n"
    )
    with running(code) as process:
        step(process)
        tree = Tree(identify(process.pid))
        first = tree.read()
        assert (first.cpu_s, first.processes, first.busiest_cpu) == (0.0, 1, None)
        go(process)
        step(process)
        both = tree.read()
        assert both.processes == 2
        assert both.cpu_s >= 0.29
        assert both.busiest_cpu is not None and both.busiest_cpu > 0
        assert both.rss - first.rss > 40_000_000
        go(process)
        step(process)
        after = tree.read()
        assert after.processes == 1
        assert after.cpu_s >= both.cpu_s
        assert both.rss - after.rss > 40_000_000


def test_cpu_time_of_children_that_came_and_went_between_two_reads() -> None:
    """A pre-forking server's whole work may be done by processes that no sample ever sees."""
    code = BURN + (
        "say()\n"
        "source = 'import time\\nwhile time.process_time() < 0.3: pass'\n"
        "subprocess.run([sys.executable, '-c', source]); say()\n"
    )
    with running(code) as process:
        step(process)
        tree = Tree(identify(process.pid))
        tree.read()
        go(process)
        step(process)
        assert tree.read().cpu_s >= 0.29


def test_cpu_time_never_falls_when_a_child_ends_that_nobody_waits_for() -> None:
    code = BURN + (
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    burn(0.3); print('burnt', flush=True); time.sleep(600)\n"
        "sys.stdin.readline(); os.kill(pid, 9)\n"
        "while True:\n"
        "    try: os.kill(pid, 0); time.sleep(0.01)\n"
        "    except ProcessLookupError: break\n"
        "say()\n"
    )
    with running(code) as process:
        tree = Tree(identify(process.pid))
        tree.read()
        assert step(process) == "burnt"
        alive = tree.read()
        assert alive.processes == 2
        go(process)
        step(process)
        gone = tree.read()
        assert gone.processes == 1
        assert gone.cpu_s >= alive.cpu_s > 0.1


def test_a_pid_that_was_used_again_is_another_process() -> None:
    me = identify(os.getpid())
    stranger = Identity(me.pid, me.start_time - 100)
    for look in (listening_ports, lambda who: worker_count(who, 1)):
        with pytest.raises(Gone):
            look(stranger)
    with pytest.raises(Gone):
        Tree(stranger).read()


def test_a_process_that_ended_is_gone_even_while_it_waits_to_be_reaped() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    who = identify(process.pid)
    tree = Tree(who)
    assert process.stdin is not None
    tree.read()
    process.stdin.close()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(Gone):
        tree.read()
    with pytest.raises(Gone):
        listening_ports(who)
    process.wait(LIMIT_S)
    with pytest.raises(Gone):
        identify(process.pid)


def test_listening_ports_and_workers_behind_a_shared_socket() -> None:
    """A supervisor that opened the socket and handed it to its workers serves nothing itself."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        me = identify(os.getpid())
        assert port in listening_ports(me)
        code = (
            "import os, sys\n"
            "for _ in range(int(sys.stdin.readline())):\n"
            "    if os.fork() == 0: sys.stdin.readline(); os._exit(0)\n"
            "print('forked', flush=True); sys.stdin.readline()\n"
        )
        with running(code, inherited=server.fileno()) as process:
            who = identify(process.pid)
            assert worker_count(who, port) == 1
            assert process.stdin is not None
            process.stdin.write("3\n")
            process.stdin.flush()
            step(process)
            assert worker_count(who, port) == 3
            assert worker_count(who, 1) == 1


def test_machine_rates_need_two_reads_and_see_loopback_traffic() -> None:
    machine = Machine()
    assert machine.read().net_bytes_s is None
    receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with receiver, sender:
        receiver.bind(("127.0.0.1", 0))
        begun = time.monotonic()
        for _ in range(100):
            sender.sendto(b"x" * 10_000, receiver.getsockname())
        use = machine.read()
        seconds = time.monotonic() - begun
    assert use.net_bytes_s is not None and use.net_bytes_s * max(seconds, 0.001) > 100_000
    assert use.cpu is None or 0 <= use.cpu <= 1


def test_many_trees_share_one_look() -> None:
    processes = Processes()
    uses = [Tree(identify(pid)).read(processes) for pid in (os.getpid(), os.getppid())]
    assert uses[1].processes >= uses[0].processes + 1 and uses[1].rss > uses[0].rss
