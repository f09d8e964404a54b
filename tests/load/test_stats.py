"""Locust's own statistics under the harness."""

from __future__ import annotations

import subprocess
import sys

FIVE_MINUTES = """
import time
import locust
from locust.stats import RequestStats
from harness.load.record.stats import KEPT_S, forget_old_seconds

now, second = time.time(), 0
time.time = lambda: now - 299 + second
stats = RequestStats()
forget_old_seconds(stats)  # of no request at all
for second in range(300):
    for _ in range(3):
        stats.log_request("GET", "/", 12.0, 100)
    stats.log_error("GET", "/", "no")
rate = stats.total.current_rps

forget_old_seconds(stats)

assert stats.total.current_rps == rate > 2, rate
for entry in (stats.total, stats.get("/", "GET")):
    for counts in (entry.num_reqs_per_sec, entry.num_fail_per_sec):
        assert KEPT_S <= len(counts) <= KEPT_S + 1, counts
    assert entry.num_requests == 900 and entry.num_failures == 300
"""


def test_a_long_run_keeps_the_counts_of_its_last_minute_only() -> None:
    """In a process of its own: Locust patches the one that imports it."""
    done = subprocess.run([sys.executable, "-c", FIVE_MINUTES], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
