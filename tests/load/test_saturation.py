"""Who was slow: a generator that is starved says so of itself, and a target that hangs is no reason to."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import psutil
import pytest
from load_run import Run, make_plan, named
from load_target import Target

from harness.load.ipc.protocol import Ready, Warned

PATHS = Path(__file__).parent / "files" / "paths.py"
BURNS = (
    "import time\n"
    "from locust import FastHttpUser, task\n"
    "class Burns(FastHttpUser):\n"
    "    @task\n"
    "    def go(self):\n"
    "        until = time.process_time() + 0.03\n"
    "        while time.process_time() < until: pass\n"
    "        self.client.get('/burns')\n"
)
HTTP = (
    "from locust import HttpUser, task\nclass Http(HttpUser):\n    @task\n    def go(self): self.client.get('/right')\n"
)


@pytest.fixture
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


@contextmanager
def starved(pid: int) -> Iterator[None]:
    """The process runs for a tenth of the time, as under a CPU quota."""
    over = threading.Event()

    def take_turns() -> None:
        while not over.is_set():
            os.kill(pid, signal.SIGSTOP)
            over.wait(0.27)
            os.kill(pid, signal.SIGCONT)
            over.wait(0.03)

    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        os.kill(pid, signal.SIGCONT)


def saturated(run: Run, start: float, end: float) -> list[float]:
    return [mark.at for mark in run.marks() if mark.saturated and start <= mark.at < end]


def test_a_generator_that_gets_no_processor_is_saturated(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(PATHS, target.url, rate=50.0, classes=named("Right")), tmp_path) as run:
        run.begin().at(1)
        with starved(run.process.pid):
            run.at(9)
        end = round((time.monotonic() - run.t0) * 10) + 5
        run.finish(end)
        assert saturated(run, 6, 9.5), "its arrivals were late"
        counts = run.classes()["Right"]
    assert counts.planned == counts.ended and counts.unsent_cap == 0


def test_a_locustfile_that_burns_more_than_a_core_is_saturated(target: Target, tmp_path: Path) -> None:
    """50 tasks of 30 ms a second."""
    file = tmp_path / "burns.py"
    file.write_text(BURNS)
    plan = make_plan(file, target.url, rate=50.0, request_timeout_s=20.0, classes=named("Burns"))
    with Run(plan, tmp_path) as run:
        run.go(8)
        # Its marks are late as well: on a busy machine the first after five seconds may come in the drain.
        assert saturated(run, 5, float("inf"))
        counts = run.classes()["Burns"]
    # Until five seconds have been seen, an arrival that was taken in time and found no user is the target's.
    assert counts.unsent_cap < 0.2 * counts.unsent_generator, "users that wait for the processor"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux sets another process's limits")
@pytest.mark.parametrize("client", ["Right", "Http"])
def test_a_generator_that_has_no_files_left_says_so_and_does_not_accuse_the_target(
    target: Target, tmp_path: Path, client: str
) -> None:
    """Every request that waits needs a connection, and each of those a file of this process."""
    file = PATHS if client == "Right" else tmp_path / "http.py"
    if client == "Http":
        file.write_text(HTTP)
    plan = make_plan(file, target.url, rate=60.0, request_timeout_s=10.0, classes=named(client))
    with Run(plan, tmp_path) as run:
        run.begin().at(2)
        load = psutil.Process(run.process.pid)
        most = load.num_fds() + 30
        load.rlimit(psutil.RLIMIT_NOFILE, (most, most))
        target.default = "hang"
        run.at(5)
        target.default = "ok"
        run.finish(60)
        failed = [count for (kind, _), count in run.errors().items() if kind == "exception"]
        marks = [mark for mark in run.marks() if 3 <= mark.at < 5]
    assert sum(failed) > 0
    assert marks[-1].saturated
    told = [message.text for message in run.messages if isinstance(message, Warned)]
    assert any("at a limit of this machine" in text and "files" in text for text in told), told


@pytest.mark.calm
def test_a_target_that_hangs_does_not_read_as_saturation(target: Target, tmp_path: Path) -> None:
    """Everything times out, or no user is left: the arrivals are taken off the schedule in time all the same. Both at
    once, by a load each."""
    plan = make_plan(PATHS, target.url, rate=100.0, request_timeout_s=2.0, classes=named("Right"))
    for cap in (5000, 40):
        (tmp_path / str(cap)).mkdir()
    with ExitStack() as both:
        runs = {
            cap: both.enter_context(Run(msgspec.structs.replace(plan, max_in_flight=cap), tmp_path / str(cap)))
            for cap in (5000, 40)
        }
        for run in runs.values():
            run.message(Ready)
        for run in runs.values():
            run.begin()
        last = list(runs.values())[-1]
        last.at(3)
        target.default = "hang"
        last.at(12)
        before_the_end = {cap: saturated(run, 8, 12) for cap, run in runs.items()}
        for run in runs.values():
            run.finish(125)
        target.default = "ok"
    assert before_the_end == {5000: [], 40: []}, "five seconds and more of nothing but a hang"
    for cap, run in runs.items():
        counts, requests = run.classes(range(40, 120))["Right"], run.requests(range(40, 120))["/right"]
        assert counts.unsent_generator == 0
        assert requests.fail["timeout"] > 0 and requests.ok < 0.1 * requests.fail["timeout"]
        assert (counts.unsent_cap > 0) == (cap == 40)
