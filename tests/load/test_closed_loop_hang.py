"""Ten users that wait, requests of 0.1 s, a hang of a quarter of the time without an error: both models say so.

The full form, 30 s of 120, is a benchmark; this is the same program, scaled in time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "closed_loop_hang.py"
pytestmark = [pytest.mark.slow, pytest.mark.calm]


SHORT = ("--seconds", "12", "--hang", "5", "--model", "closed", "--request-timeout")
LONG = ("--seconds", "24", "--hang", "6", "--model")
ALL = {"1 s": (*SHORT, "1"), "2.5 s": (*SHORT, "2.5"), "closed": (*LONG, "closed"), "open": (*LONG, "open")}


def measured() -> dict[str, dict[str, Any]]:
    """All of them at once: each is a hundred requests a second, and waits for most of its time."""

    def one(arguments: tuple[str, ...]) -> dict[str, Any]:
        command = [sys.executable, str(PROGRAM), *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    with ThreadPoolExecutor(len(ALL)) as pool:
        return dict(zip(ALL, pool.map(one, ALL.values()), strict=True))


def test_a_hang_in_a_closed_loop_is_reported_as_what_it_is() -> None:
    found = measured()
    closed, opened = found["closed"], found["open"]
    truth = closed["truth_p95_ms"]
    assert truth == pytest.approx(4900)
    assert closed["failures"] == opened["failures"] == 0
    # What the users themselves sent shows nothing; a busy machine's own delays are far below the hang.
    assert closed["naive_p95_ms"] < 1000
    assert closed["backfilled"] > 0.15 * closed["sent"]
    assert closed["p95_ms"] == pytest.approx(truth, rel=0.2)
    assert opened["backfilled"] == 0
    assert opened["p95_ms"] == pytest.approx(truth, rel=0.2)

    # One that ends in time-outs is not hidden by how few were sent: a third of the requests that were meant fail, and
    # each of the ten users has sent two or three of them.
    ends = found["1 s"]
    assert ends["naive_failed"] < 0.1
    assert ends["failed"] == pytest.approx(ends["truth_failed"], rel=0.25)

    # Requests of 2.5 s time-outs one after the other end as the hang of 5 s does: half of what was due in it fails, the
    # other half would have been answered within its own time-out, and is late.
    late = found["2.5 s"]
    assert late["failed"] == pytest.approx(late["truth_failed"], rel=0.2)
    assert late["p95_ms"] == pytest.approx(late["truth_p95_ms"], rel=0.3)
