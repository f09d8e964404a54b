"""Ten users that wait, requests of 0.1 s, a hang of a quarter of the time without an error: both models say so.

The full form, 30 s of 120, is a benchmark; this is the same program, scaled in time.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "closed_loop_hang.py"
pytestmark = [pytest.mark.slow, pytest.mark.calm]


def measured(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments, "--json"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_one_that_ends_in_time_outs_is_not_hidden_by_how_few_were_sent() -> None:
    """A third of the requests that were meant fail. Each of the ten users has sent two or three of them."""
    (closed,) = measured("--seconds", "12", "--hang", "5", "--request-timeout", "1", "--model", "closed")
    assert closed["naive_failed"] < 0.1
    assert closed["failed"] == pytest.approx(closed["truth_failed"], rel=0.25)


def test_what_was_due_shortly_before_the_end_of_the_hang_is_late_and_no_time_out() -> None:
    """Requests of 2.5 s time-outs one after the other end as the hang of 5 s does: half of what was due in it fails,
    the other half would have been answered within its own time-out."""
    (closed,) = measured("--seconds", "12", "--hang", "5", "--request-timeout", "2.5", "--model", "closed")
    assert closed["failed"] == pytest.approx(closed["truth_failed"], rel=0.2)
    assert closed["p95_ms"] == pytest.approx(closed["truth_p95_ms"], rel=0.3)


def test_a_hang_in_a_closed_loop_is_reported_as_what_it_is() -> None:
    closed, opened = measured("--seconds", "24", "--hang", "6")
    truth = closed["truth_p95_ms"]
    assert truth == pytest.approx(4900)
    assert closed["failures"] == opened["failures"] == 0
    # What the users themselves sent shows nothing; a busy machine's own delays are far below the hang.
    assert closed["naive_p95_ms"] < 1000
    assert closed["backfilled"] > 0.15 * closed["sent"]
    assert closed["p95_ms"] == pytest.approx(truth, rel=0.2)
    assert opened["backfilled"] == 0
    assert opened["p95_ms"] == pytest.approx(truth, rel=0.2)
