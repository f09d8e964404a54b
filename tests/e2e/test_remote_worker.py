"""`harness run` with workers that `harness worker` brings, as two terminals would do it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.model.jsonl import read_lines
from harness.model.records.plan import Plan
from harness.model.records.windows import DeltaRow, Row
from harness.plan.schedule import planned_counts
from tests.e2e.observe import HARNESS, Run
from tests.e2e.programmable import Programmable
from tests.support.servers.ports import free_port

pytestmark = pytest.mark.slow

FILE = Path(__file__).with_name("locustfile_simple.py")
BRIEF = (
    *("--fault", "none", "--rate", "40", "--spawn-rate", "100000", "--warmup", "1s", "--baseline", "4s"),
    *("--fault-for", "3s", "--hold", "3s", "--recovery-limit", "30s", "--request-timeout", "5s"),
    *("--target", "p95 < 9s", "--target", "error_rate < 90%", "--target", "rps >= 1% of plan"),
)


@pytest.fixture
def service() -> Iterator[Programmable]:
    running = Programmable()
    yield running
    running.close()


@pytest.fixture
def port() -> int:
    return free_port()


def start_run(service: Programmable, port: int, folder: Path, *more: str) -> Run:
    target = ("--host", f"http://127.0.0.1:{service.port}", "--locustfile", str(FILE))
    return Run(folder, *target, *BRIEF, "--remote-workers", "1", "--master-port", str(port), *more, shortened=True)


def start_worker(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """With the key file that the run names."""
    deadline = time.monotonic() + 60
    while not (keys := list(folder.glob("**/keys/w*.key"))):
        assert time.monotonic() < deadline, "the run wrote no key"
        time.sleep(0.05)
    to = ("--master-host", "127.0.0.1", "--master-port", str(port), "--key-file", str(keys[0]))
    with (folder / "worker.txt").open("wb") as log:
        return subprocess.Popen(
            [HARNESS, "worker", *to, "--locustfile", str(FILE)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def events(run: Run, kind: str) -> list[dict[str, Any]]:
    return [event for event in run.events() if event["event"] == kind]


def test_a_run_with_a_remote_and_a_local_worker(service: Programmable, port: int, tmp_path: Path) -> None:
    run = start_run(service, port, tmp_path, "--workers", "1")
    worker = start_worker(port, tmp_path)
    try:
        code = run.end()
        assert code in (0, 3), run.text()
        assert worker.wait(15) == 0, (tmp_path / "worker.txt").read_text()
        result = run.result()
        (clock,) = result["generator"]["clocks"]
        assert clock["worker"] == "w1" and clock["doubt_s"] < 1
        assert events(run, "clock_doubt")[0]["seconds"] > 0
        plan = msgspec.json.decode((run.dir / "plan.json").read_bytes(), type=Plan)
        assert (plan.load.workers, plan.load.local_workers) == (2, 1)
        end = round(events(run, "load_ended")[0]["end_s"] * 10)
        rows = [r for r in read_lines(run.dir / "windows.jsonl", Row) if isinstance(r, DeltaRow)]
        taken = sum(c.planned for row in rows for c in row.classes.values())
        assert taken == sum(map(sum, planned_counts(plan.load, 0, end).values())), "redrawn from plan.json"
        assert {row.worker for row in rows} == {"w0", "w1"}
    finally:
        run.kill_group()
        worker.kill()
        worker.wait(10)


@pytest.mark.thorough
def test_a_lost_remote_worker_is_inconclusive_with_its_share(service: Programmable, port: int, tmp_path: Path) -> None:
    run = start_run(service, port, tmp_path, "--workers", "1")
    worker = start_worker(port, tmp_path)
    try:
        run.wait_phase("fault")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(15) == 130
        assert run.end() == 3, run.text()
        reasons = run.result()["reasons"]
        assert any("load worker w1 was lost" in r and "SIGINT" in r and "1/2 of the load" in r for r in reasons), (
            reasons
        )
        assert any("arrivals scheduled from there on are not on record" in r for r in reasons), reasons
    finally:
        run.kill_group()
        worker.kill()
        worker.wait(10)


def test_a_run_whose_workers_never_come_ends_with_4(service: Programmable, port: int, tmp_path: Path) -> None:
    run = start_run(service, port, tmp_path, "--remote-wait", "3s")
    try:
        assert run.end() == 4, run.text()
        assert "1 of 1 remote workers did not join within 3 s" in run.text()
        assert "waiting for a remote worker on 127.0.0.1" in run.text()
    finally:
        run.kill_group()


def test_ctrl_c_while_workers_are_waited_for(service: Programmable, port: int, tmp_path: Path) -> None:
    run = start_run(service, port, tmp_path)
    try:
        until = time.monotonic() + 90
        while "waiting for a remote worker" not in run.text():
            assert time.monotonic() < until and not run.ended(), run.text()
            time.sleep(0.1)
        os.kill(run.process.pid, signal.SIGINT)
        assert run.end(60) == 130, run.text()
    finally:
        run.kill_group()
