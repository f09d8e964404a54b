"""`harness run` whose only load process falls silent: INCONCLUSIVE, in any phase, with or without a fault.

With a fault it is in test_life_load.py, which the default suite has.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.life import load_of
from tests.e2e.observe import Run
from tests.e2e.programmable import Programmable

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

FILE = Path(__file__).with_name("locustfile_simple.py")
LENIENT = ("--target", "p95 < 9s", "--target", "error_rate < 90%", "--target", "rps >= 1% of plan")


@pytest.fixture
def service() -> Iterator[Programmable]:
    running = Programmable()
    yield running
    running.close()


# Before baseline has been judged there is nothing that a run can be judged by at all.
@pytest.mark.parametrize(("phase", "code"), [("baseline", 4), ("fault", 3)])
def test_a_single_load_process_that_is_stopped_ends_the_run_inconclusive(
    service: Programmable, tmp_path: Path, phase: str, code: int
) -> None:
    run = Run(
        tmp_path,
        *("--host", f"http://127.0.0.1:{service.port}", "--locustfile", str(FILE), "--fault", "none", "--rate", "40"),
        *("--spawn-rate", "100000", "--warmup", "1s", "--baseline", "30s" if phase == "baseline" else "5s"),
        *("--fault-for", "60s", "--hold", "3s", "--recovery-limit", "30s", "--request-timeout", "2s", *LENIENT),
        shortened=True,
    )
    try:
        run.wait_phase(phase)
        (pid,) = load_of(run)
        os.kill(pid, signal.SIGSTOP)
        # Long before the planned end, and although the process never goes on.
        assert run.end() == code, run.text()
        assert run.result()["verdict"] == "inconclusive"
        reasons = run.result()["reasons"]
        assert any(f"The load went silent in the {phase} phase" in reason for reason in reasons), reasons
        stopped = next(event for event in run.events() if event["event"] == "stopped")
        assert stopped["why"] == "silent"
    finally:
        run.kill_group()
