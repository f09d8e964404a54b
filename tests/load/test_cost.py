"""Short forms of benchmarks/load_cpu.py: ratios within one run, and counts, never times."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

import psutil
from load_run import Run, make_plan, named
from raw_server import RawServer

COST = Path(__file__).parent / "files" / "client_cost.py"
LEAN = """
from locust import task
from harness.load.lean import LeanHttpUser

class Poster(LeanHttpUser):
    @task
    def post(self):
        self.client.post("/predict", json={"value": 1.5})
"""


def test_the_lean_client_costs_much_less_than_locusts_fast_one() -> None:
    """A quarter to a third of it where it was measured; here there is room for a busy machine."""
    with RawServer() as server:
        done = subprocess.run(
            [sys.executable, COST, server.url, "1"], capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr[-2000:]
    ratios = [float(lean) / float(fast) for lean, fast in (line.split() for line in done.stdout.splitlines())]
    assert statistics.median(ratios) < 0.7, done.stdout


def test_at_a_low_rate_a_load_process_sleeps(tmp_path: Path) -> None:
    """At 10 requests a second: some wake-ups for each, and 10 a second to write rows. A timer that looks around every
    20 ms would be 50 more."""
    file = tmp_path / "poster.py"
    file.write_text(LEAN)
    with RawServer() as server:
        plan = make_plan(file, server.url, classes=named("Poster"), rate=10.0, arrivals="constant")
        with Run(plan, tmp_path) as run:
            run.begin()
            run.at(1.0)
            process = psutil.Process(run.process.pid)
            before = process.num_ctx_switches().voluntary
            run.at(4.0)
            slept = process.num_ctx_switches().voluntary - before
            run.finish(45)
            assert run.requests()["/predict"].ok >= 40
    assert slept / 3 < 110, f"{slept / 3:.0f} wake-ups a second"
