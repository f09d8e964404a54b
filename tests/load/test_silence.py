"""A generator that records nothing any more is noticed, whatever is the matter with it, and ends as lost."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_run import Run, gone, make_plan, named
from load_target import Target
from remote_run import Worker, remote_plan

from harness.load.ipc.protocol import Failed, WorkerLost
from harness.model.records.load import LoadPlan

HEAD = """
import gevent
from locust import FastHttpUser, task
from harness.load.record.recorder import Recorder

class Right(FastHttpUser):
    @task
    def go(self): self.client.get("/right")

flush = Recorder.flush
def odd(self, *args, **options):
    odd.count += self.worker == "LAST"
    if odd.count > 10:
        TROUBLE
    return flush(self, *args, **options)
odd.count = 0
Recorder.flush = odd
"""
DIES, STALLS = 'raise TypeError("unsupported operand")', "gevent.sleep(1000)"


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


def locustfile(folder: Path, last: str, trouble: str) -> Path:
    file = folder / "odd.py"
    file.write_text(HEAD.replace("LAST", last).replace("TROUBLE", trouble))
    return file


def plan_for(file: Path, target: Target, workers: int = 1) -> LoadPlan:
    return make_plan(file, target.url, workers=workers, classes=named("Right"))


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(DIES, "the recording of its requests failed: TypeError: unsupported operand"), (STALLS, "for 5 s")],
)
def test_the_only_generator_ends_the_load_when_it_records_nothing(
    target: Target, tmp_path: Path, trouble: str, told: str
) -> None:
    with Run(plan_for(locustfile(tmp_path, "w0", trouble), target), tmp_path) as run:
        run.begin()
        assert told in run.message(Failed, 60).text
        run.wait(lambda: run.code is not None, 30)
        assert run.code == 4
        before = target.counts["/right"]
        time.sleep(0.3)
        assert target.counts["/right"] == before, "no load is left"


@pytest.mark.parametrize(
    ("trouble", "told"),
    [(DIES, "the recording of its requests failed: TypeError: unsupported operand"), (STALLS, "it was silent for 5 s")],
)
def test_one_of_several_that_records_nothing_is_lost_and_the_others_go_on(
    target: Target, tmp_path: Path, trouble: str, told: str
) -> None:
    with Run(plan_for(locustfile(tmp_path, "w1", trouble), target, 2), tmp_path) as run:
        run.begin()
        lost = run.message(WorkerLost, 60)
        assert (lost.worker, lost.pid) == ("w1", run.worker_pids[1]) and told in lost.reason
        assert gone(run.worker_pids[1])
        run.finish(round((time.monotonic() - run.t0) * 10) + 5)
        assert {mark.worker for mark in run.marks() if mark.final} == {"w0"}


def test_a_remote_one_that_records_nothing_is_lost_and_stops(target: Target, tmp_path: Path) -> None:
    file = locustfile(tmp_path, "w1", DIES)
    plan = remote_plan(file, target.url, local=1, classes=named("Right"))
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path, file=file) as worker:
        run.begin()
        lost = run.message(WorkerLost, 60)
        assert lost.worker == "w1" and "the recording of its requests failed" in lost.reason
        assert worker.end(30) == 4, worker.text
        assert "the recording of its requests failed" in worker.text
        run.finish(round((time.monotonic() - run.t0) * 10) + 5)


def test_a_stopped_local_worker_is_lost(target: Target, tmp_path: Path) -> None:
    file = locustfile(tmp_path, "nobody", DIES)
    with Run(plan_for(file, target, 2), tmp_path) as run:
        run.begin().at(1)
        os.kill(run.worker_pids[1], signal.SIGSTOP)
        assert run.message(WorkerLost, 60).reason == "it was silent for 5 s"
        assert gone(run.worker_pids[1])
        run.finish(round((time.monotonic() - run.t0) * 10) + 5)


def test_a_load_process_that_was_stopped_itself_takes_nobody_for_lost(target: Target, tmp_path: Path) -> None:
    """What its workers sent meanwhile is still to be read."""
    file = locustfile(tmp_path, "nobody", DIES)
    with Run(plan_for(file, target, 2), tmp_path) as run:
        run.begin().at(1)
        os.kill(run.process.pid, signal.SIGSTOP)
        time.sleep(7)
        os.kill(run.process.pid, signal.SIGCONT)
        time.sleep(1)
        run.finish(round((time.monotonic() - run.t0) * 10) + 5)
        assert not [m for m in run.messages if isinstance(m, WorkerLost)]
        assert {mark.worker for mark in run.marks() if mark.final} == {"w0", "w1"}
