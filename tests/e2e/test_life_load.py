"""The load hangs, loses a worker, or is orphaned: nobody watches the service, so nothing may stay broken."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.life import LONG, assert_nothing_left, brief_run, load_of, stopped, wait_on
from tests.e2e.observe import family, http_json, wait_until
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def test_a_load_that_hangs_ends_the_run_because_nobody_watches(stack: StandingStack, tmp_path: Path) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-down", *LONG)
    try:
        wait_on(run)
        members = family(run.process.pid)
        with stopped(load_of(run)):
            assert wait_until(lambda: stack.snapshot() == before, 60), "undone while the load still hangs"
            assert run.end() == 3, run.text()
        assert "nothing was recorded for 5 s" in run.text()
        result = run.result()
        assert result["verdict"] == "inconclusive" and result["faults"][0]["undo_verified"] is True
        assert any("The load went silent in the fault phase" in reason for reason in result["reasons"]), result[
            "reasons"
        ]
        assert next(event for event in run.events() if event["event"] == "stopped")["why"] == "silent"
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()


def test_a_load_that_hangs_before_the_fault_ends_the_run_and_nothing_is_injected(
    stack: StandingStack, tmp_path: Path
) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-down", *LONG)
    try:
        assert wait_until(lambda: "baseline" in run.text(), 60), run.text()
        members = family(run.process.pid)
        with stopped(load_of(run)):
            assert run.end() in (3, 4), run.text()
        assert "nothing was recorded for" in run.text()
        assert run.result()["faults"][0]["injected_s"] is None
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()


@pytest.mark.thorough
def test_a_lost_load_worker_is_told_and_makes_the_run_inconclusive(stack: StandingStack, tmp_path: Path) -> None:
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-down", "--workers", "2")
    try:
        wait_on(run)
        members = family(run.process.pid)
        os.kill(load_of(run)[-1], signal.SIGKILL)
        assert run.end() == 3, run.text()
        result = run.result()
        assert any("worker" in reason for reason in result["reasons"]), result["reasons"]
        assert result["faults"][0]["undo_verified"] is True
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()


@pytest.mark.thorough
def test_a_killed_run_with_four_load_workers_is_healed_at_once(stack: StandingStack, tmp_path: Path) -> None:
    before = stack.snapshot()
    url = stack.dependency("redis")["proxy"]["url"] + "/proxies/redis"
    run = brief_run(stack, tmp_path, "--fault", "redis-down", "--workers", "4", "--rate", "200", *LONG)
    try:
        wait_on(run)
        members = family(run.process.pid)
        assert len(load_of(run)) == 5, "the load and its four workers"
        killed = time.monotonic()
        run.process.kill()
        run.process.wait(30)
        assert wait_until(lambda: http_json(url)["enabled"], 30)
        print(f"healed {time.monotonic() - killed:.3f} s after SIGKILL, with four load workers")
        # How fast it is on a calm machine is measured by benchmarks/undo.py.
        assert time.monotonic() - killed < 10
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()
