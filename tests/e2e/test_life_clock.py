"""The wall clock is stepped while the run goes on: neither its times, nor its lease, nor its phases move.

The machine's own clock stays as it is: a small library shifts the wall clock of the run, its keeper and its load.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from tests.e2e.life import assert_nothing_left, brief_run, wait_on
from tests.e2e.observe import family
from tests.e2e.standing import StandingStack

pytestmark = [
    pytest.mark.stack,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="NOT TESTED HERE: no C compiler"),
]

HOUR = 3600


@pytest.mark.thorough
def test_a_stepped_wall_clock_moves_nothing(stack: StandingStack, tmp_path: Path) -> None:
    before = stack.snapshot()
    library, step = tmp_path / "clock.so", tmp_path / "step"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    step.write_bytes(struct.pack("q", 0))

    def shift(seconds: int) -> None:
        with step.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    env = {"LD_PRELOAD": str(library), "TEST_CLOCK_STEP": str(step)}
    run = brief_run(stack, tmp_path, "--fault", "redis-down", "--fault-for", "6s", env=env)
    try:
        run.wait_phase("baseline")
        members = family(run.process.pid)
        shift(2 * HOUR)
        wait_on(run)
        shift(-30 * HOUR)
        run.wait_phase("recovery")
        shift(HOUR)
        assert run.end() in (0, 3), run.text()
        assert_nothing_left(stack, before, members)
    finally:
        run.kill_group()
    events = run.events()
    walls = [datetime.fromisoformat(event["wall"].replace("Z", "+00:00")).timestamp() for event in events]
    assert max(walls) - min(walls) > 20 * HOUR, "the clock was stepped, as the run saw it"
    assert all(-1 <= event["at"] < 300 for event in events)
    result = run.result()
    for phase in result["phases"]:
        if phase["start_s"] is not None and phase["end_s"] is not None:
            assert 0 <= phase["end_s"] - phase["start_s"] < 120, phase
    fault = result["faults"][0]
    assert fault["undo_verified"]
    assert fault["undone_s"] - fault["injected_s"] == pytest.approx(6, abs=3)
    assert result["recovery"]["seconds"] is None or 0 <= result["recovery"]["seconds"] < 20
