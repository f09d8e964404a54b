"""Load workers on other machines: they join, are refused, get lost, and never outlive their run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from load_run import CLOSED, Run, make_plan, named
from load_target import Target
from remote_run import HARNESS, Worker, key_of, key_of_no_run, remote_plan, warned

from harness.load.ipc.protocol import Elsewhere, Failed, WorkerLost
from harness.model.records.load import LoadPlan
from harness.model.records.windows import DeltaRow
from harness.plan.schedule import planned_counts
from tests.support.servers.ports import free_port

PATHS = Path(__file__).parent / "files" / "paths.py"
BOTH = {"classes": named("Right", "Left")}
BUSY = (
    "import os, time\n"
    "from locust import FastHttpUser, task\n"
    "class Busy(FastHttpUser):\n"
    "    @task\n"
    "    def go(self):\n"
    "        if os.environ.get('TEST_BUSY'):\n"
    "            while True: pass\n"
    "        self.client.get('/x')\n"
)


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


def planned(run: Run) -> dict[str, Counter[int]]:
    """Arrivals taken off the schedule by class and step, summed over all workers."""
    found: dict[str, Counter[int]] = {}
    for row in run.rows():
        if isinstance(row, DeltaRow):
            for name, counts in row.classes.items():
                found.setdefault(name, Counter())[row.step] += counts.planned
    return found


def assert_as_scheduled(run: Run, steps: int) -> None:
    """What was taken is what plan.json says, step by step."""
    stored = msgspec.json.decode(msgspec.json.encode(run.plan), type=LoadPlan)
    for name, counts in planned_counts(stored, 0, steps).items():
        taken = planned(run)[name]
        assert [taken[step] for step in range(steps)] == counts, name
        assert sum(taken.values()) == sum(counts), "and nothing beside it"


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (1, 0),
        pytest.param(2, 0, marks=pytest.mark.thorough),
        (3, 0),
        pytest.param(0, 1, marks=pytest.mark.thorough),
        pytest.param(1, 1, marks=pytest.mark.thorough),
        (1, 2),
    ],
)
def test_together_the_workers_make_exactly_the_schedule(
    target: Target, tmp_path: Path, local: int, remote: int
) -> None:
    if not remote:
        with Run(make_plan(PATHS, target.url, workers=local, **BOTH), tmp_path) as run:
            run.go(2)
            assert_as_scheduled(run, 20)
        return
    plan = remote_plan(PATHS, target.url, local=local, remote=remote, **BOTH)
    workers: list[Worker] = []
    try:
        with Run(plan, tmp_path) as run:
            # In any order: the key says which is which.
            workers += [Worker(plan, tmp_path, number=local + index) for index in reversed(range(remote))]
            run.go(2)
            assert_as_scheduled(run, 20)
            assert len({mark.worker for mark in run.marks() if mark.final}) == local + remote
            assert all(c.planned == c.ended == c.replied for c in run.classes().values())
            assert len(run.worker_pids) == local
        for worker in workers:
            assert worker.end() == 0, worker.text
            assert "the run has ended" in worker.text
    finally:
        for worker in workers:
            worker.__exit__()


SLOW_START = (
    "from gevent.monkey import get_original\n"
    "from locust import FastHttpUser, events, task\n"
    "from locust.runners import MasterRunner\n"
    "class Right(FastHttpUser):\n"
    "    @task\n"
    "    def go(self): self.client.get('/right')\n"
    "@events.test_start.add_listener\n"
    "def prepare(environment, **_):\n"
    "    if isinstance(environment.runner, MasterRunner):\n"
    "        get_original('time', 'sleep')(7)\n"
)


def test_a_run_whose_own_test_start_takes_its_time_is_waited_for(target: Target, tmp_path: Path) -> None:
    """It holds up the process that sends the pings, for longer than a silent run or worker is waited for."""
    file = tmp_path / "slow_start.py"
    file.write_text(SLOW_START)
    plan = remote_plan(file, target.url, remote=1, local=1, classes=named("Right"))
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path, file=file) as worker:
        run.go(2)
        assert_as_scheduled(run, 20)
        assert worker.end() == 0, worker.text


def test_closed_model_users_are_shared_with_remote_workers(target: Target, tmp_path: Path) -> None:
    target.delay_s = 0.02
    plan = remote_plan(PATHS, target.url, remote=1, local=1, users=10, classes=named("Cycle"), **CLOSED)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path):
        run.begin().at(4)
        alive = {mark.worker: mark.users for mark in run.marks()}
        run.finish(45)
    target.delay_s = 0.0
    assert alive == {"w0": 5, "w1": 5}


def test_a_worker_with_another_locustfile_is_refused_and_its_place_stays_free(target: Target, tmp_path: Path) -> None:
    other = tmp_path / "paths.py"
    other.write_text(PATHS.read_text() + "\n# one more line\n")
    plan = remote_plan(PATHS, target.url, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path, file=other) as wrong:
        assert wrong.end() == 2, wrong.text
        line = warned(run, "refused")
        assert "its locustfile has the SHA-256" in line and "refused by the run" in wrong.text
        assert line.partition(": ")[2] in wrong.text, "the same words on both sides"
        with Worker(plan, tmp_path, key=wrong.key) as right:
            run.go(1)
            assert right.end() == 0


# A worker of another version: the installed one, but for its number.
_OLD = (
    "import sys, harness; harness.__version__ = '0.0.9'; "
    "from harness.load.process.start import run_elsewhere; run_elsewhere(sys.argv[1])"
)


def test_a_worker_of_another_version_is_refused(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, **BOTH)
    assert plan.remote is not None
    settings = Elsewhere(host="127.0.0.1", port=plan.remote.port, locustfile=str(PATHS), key_file="", wait_s=60)
    with Run(plan, tmp_path) as run:
        settings = msgspec.structs.replace(settings, key_file=str(key_of(tmp_path, 0)))
        done = subprocess.run(
            [sys.executable, "-c", _OLD, msgspec.json.encode(settings).decode()], capture_output=True, text=True
        )
        assert done.returncode == 2, done.stderr
        assert "it is harness 0.0.9, the run is harness" in done.stderr
        assert "it is harness 0.0.9, the run is harness" in warned(run, "refused")


def test_who_comes_after_the_start_is_refused_and_the_run_goes_on(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as first:
        run.begin().at(0.5)
        with Worker(plan, tmp_path, key=first.key) as late:
            assert late.end() == 2, late.text
            assert "the run has begun" in late.text and "the run has begun" in warned(run, "refused")
        run.finish(max(30, round((time.monotonic() - run.t0) * 10) + 5))
        assert first.end() == 0
        assert_as_scheduled(run, next(m.end_step for m in run.messages if hasattr(m, "end_step")))


def test_remote_workers_that_never_come_end_the_wait(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, remote=2, wait_s=3.0, **BOTH)
    with Run(plan, tmp_path) as run:
        assert "2 of 2 remote workers did not join within 3 s" in run.message(Failed).text
        run.wait(lambda: run.code is not None, 20)
        assert run.code == 4


def test_a_port_that_is_taken_is_told(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, **BOTH)
    assert plan.remote is not None
    busy = msgspec.structs.replace(plan, remote=msgspec.structs.replace(plan.remote, port=target.port))
    with Run(busy, tmp_path) as run:
        assert f"cannot listen for load workers on 127.0.0.1:{target.port}" in run.message(Failed).text


def test_a_worker_that_finds_no_run_gives_up(tmp_path: Path) -> None:
    command = [HARNESS, "worker", "--master-host", "127.0.0.1", "--master-port", str(free_port()), "--wait", "2s"]
    command += ["--key-file", str(key_of_no_run(tmp_path))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 4
    assert "no run was found" in done.stderr


@pytest.mark.parametrize(
    ("number", "told"),
    [(signal.SIGINT, "SIGINT"), pytest.param(signal.SIGTERM, "SIGTERM", marks=pytest.mark.thorough)],
)
def test_a_worker_that_is_stopped_says_so_at_once(target: Target, tmp_path: Path, number: int, told: str) -> None:
    plan = remote_plan(PATHS, target.url, local=1, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as worker:
        run.begin().at(1)
        worker.process.send_signal(number)
        assert worker.end(10) == 130
        assert "Traceback" not in worker.text
        lost = run.message(WorkerLost, 10)
        assert lost.worker == "w1" and f"it was stopped by {told}" in lost.reason
        run.finish(round((time.monotonic() - run.t0) * 10) + 5)


def test_a_waiting_worker_can_be_stopped(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, **BOTH)
    with Worker(plan, tmp_path, key=key_of_no_run(tmp_path)) as worker:
        worker.wait_text("looking for a run")
        worker.process.send_signal(signal.SIGINT)
        assert worker.end(10) == 130


def test_a_worker_that_leaves_before_the_start_frees_its_place(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, remote=2, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as gone:
        gone.wait_text("load on")
        time.sleep(2)
        gone.process.send_signal(signal.SIGINT)
        assert "left before it had joined" in warned(run, "left before")
        with Worker(plan, tmp_path, key=gone.key), Worker(plan, tmp_path, number=1):
            run.go(1)
            assert_as_scheduled(run, 10)


@pytest.mark.thorough
def test_a_killed_remote_worker_is_told_and_the_others_go_on(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, local=1, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as worker:
        run.begin().at(1)
        worker.process.kill()
        lost = run.message(WorkerLost, 30)
        assert lost.worker == "w1" and "for 5 s" in lost.reason
        run.finish(round((time.monotonic() - run.t0) * 10) + 5)
        assert [mark.worker for mark in run.marks() if mark.final] == ["w0"]


@pytest.mark.parametrize("remote", [pytest.param(False, marks=pytest.mark.thorough), True])
def test_a_stalled_worker_is_told_and_its_arrivals_are_late_not_lost(
    target: Target, tmp_path: Path, remote: bool
) -> None:
    plan = (
        remote_plan(PATHS, target.url, local=1, **BOTH) if remote else make_plan(PATHS, target.url, workers=2, **BOTH)
    )
    worker: Worker | None = None
    try:
        with Run(plan, tmp_path) as run:
            worker = Worker(plan, tmp_path) if remote else None
            run.begin().at(2)
            pid = worker.process.pid if worker is not None else run.worker_pids[1]
            os.kill(pid, signal.SIGSTOP)
            try:
                assert "load worker w1 has reported nothing for 2 s" in warned(run, "reported nothing")
                time.sleep(0.5)
            finally:
                os.kill(pid, signal.SIGCONT)
            assert re.search(r"w1 reports again after \d", warned(run, "reports again"))
            end = round((time.monotonic() - run.t0) * 10) + 40
            run.finish(end)
            assert_as_scheduled(run, end)
            assert not [m for m in run.messages if isinstance(m, WorkerLost)]
            marks = [mark for mark in run.marks() if mark.worker == "w1"]
            assert any(mark.saturated for mark in marks), "what it sent then was sent late: no target's doing"
            assert max(mark.lateness_max_ms or 0 for mark in marks) > 1000
    finally:
        if worker is not None:
            worker.__exit__()


@pytest.mark.parametrize(
    ("how", "busy"),
    [
        (signal.SIGKILL, False),
        pytest.param(signal.SIGKILL, True, marks=pytest.mark.thorough),
        pytest.param(signal.SIGSTOP, False, marks=pytest.mark.thorough),
        (signal.SIGSTOP, True),
    ],
)
def test_remote_workers_stop_two_seconds_after_the_last_word_of_their_master(
    target: Target, tmp_path: Path, how: signal.Signals, busy: bool
) -> None:
    file = tmp_path / "busy.py"
    file.write_text(BUSY)
    plan = remote_plan(file, target.url, classes=named("Busy"))
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path, env={"TEST_BUSY": "1"} if busy else {}) as worker:
        run.begin().at(1)
        os.kill(run.process.pid, how)
        since = time.monotonic()
        assert worker.end(30) == 4, worker.text
        took = time.monotonic() - since
        assert "nothing was heard from the run" in worker.text
        # Locust's own heartbeat would take 60 s; how punctual a busy machine is, is not the question.
        assert 1.5 < took < 12
        time.sleep(0.3)
        before = target.counts["/x"]
        time.sleep(0.5)
        assert target.counts["/x"] == before, "no load is left"


def test_a_worker_that_was_given_up_stops(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, local=1, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as worker:
        run.begin().at(1)
        worker.process.send_signal(signal.SIGSTOP)
        assert run.message(WorkerLost, 30).worker == "w1"
        worker.process.send_signal(signal.SIGCONT)
        assert worker.end(15) == 4, worker.text
        assert "given this worker up" in worker.text or "nothing was heard" in worker.text
        rows = sum(1 for row in run.rows() if row.worker == "w1")
        time.sleep(0.5)
        assert rows == sum(1 for row in run.rows() if row.worker == "w1")
        run.finish(round((time.monotonic() - run.t0) * 10) + 5)


def test_a_plain_locust_worker_gets_no_part_of_the_load(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, local=1, users=6, classes=named("Cycle"), **CLOSED)
    assert plan.remote is not None
    locust = HARNESS.with_name("locust")
    options = ["-f", str(PATHS), "--worker", "--master-host", "127.0.0.1", "--master-port", str(plan.remote.port)]
    with (
        Run(plan, tmp_path) as run,
        subprocess.Popen([locust, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as stranger,
    ):
        try:
            time.sleep(3)
            with Worker(plan, tmp_path):
                run.begin().at(3)
                alive = {mark.worker: mark.users for mark in run.marks()}
                run.finish(35)
        finally:
            stranger.kill()
    assert alive == {"w0": 3, "w1": 3}


@pytest.mark.skipif(shutil.which("cc") is None, reason="NOT TESTED HERE: no C compiler")
def test_workers_do_not_stop_because_the_wall_clock_was_stepped(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locust's worker gives up when the wall clock says that its master was silent for a minute."""
    library, step = tmp_path / "clock.so", tmp_path / "step"
    source = Path(__file__).parents[1] / "e2e" / "wall_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    step.write_bytes(struct.pack("q", 0))
    monkeypatch.setenv("LD_PRELOAD", str(library))
    monkeypatch.setenv("TEST_CLOCK_STEP", str(step))
    plan = remote_plan(PATHS, target.url, local=1, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path):
        run.begin().at(1)
        with step.open("r+b") as file:
            file.write(struct.pack("q", 7200))
        run.at(4)
        run.finish(45)
        assert_as_scheduled(run, 45)
