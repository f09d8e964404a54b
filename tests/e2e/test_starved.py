"""A generator that gets no processor cannot say anything about the target: the verdict says so."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.life import load_of
from tests.e2e.observe import Run
from tests.e2e.programmable import Programmable

pytestmark = pytest.mark.slow

FILE = Path(__file__).with_name("locustfile_simple.py")
LENIENT = ("--target", "p95 < 9s", "--target", "error_rate < 90%", "--target", "rps >= 1% of plan")


@pytest.fixture
def service() -> Iterator[Programmable]:
    running = Programmable()
    yield running
    running.close()


def starve(pid: int, seconds: float) -> None:
    """The process runs for a tenth of the time, as under a CPU quota."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < until:
        os.kill(pid, signal.SIGSTOP)
        pause.wait(0.27)
        os.kill(pid, signal.SIGCONT)
        pause.wait(0.03)


@pytest.mark.parametrize("phase", [pytest.param("baseline", marks=pytest.mark.thorough), "fault"])
def test_a_run_whose_generator_was_starved_is_inconclusive(service: Programmable, tmp_path: Path, phase: str) -> None:
    run = Run(
        tmp_path,
        *("--host", f"http://127.0.0.1:{service.port}", "--locustfile", str(FILE), "--fault", "none", "--rate", "40"),
        *("--spawn-rate", "100000", "--warmup", "2s", "--baseline", "9s", "--fault-for", "9s", "--hold", "3s"),
        *("--recovery-limit", "30s", "--request-timeout", "5s", *LENIENT),
        shortened=True,
    )
    try:
        run.wait_phase(phase)
        starve(load_of(run)[0], 8.0)
        assert run.end() == 3, run.text()
        result = run.result()
    finally:
        run.kill_group()
    assert result["verdict"] == "inconclusive"
    assert any("could not keep up" in reason for reason in result["reasons"]), result["reasons"]
    if phase == "baseline":
        assert any("Baseline was touched" in reason for reason in result["reasons"]), result["reasons"]
    assert result["generator"]["saturated"] and result["generator"]["lateness_p99_ms"] > 50
