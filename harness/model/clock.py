"""The two clocks: CLOCK_MONOTONIC for everything measured, wall time for people."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial

from harness.model.records.load import STEP_S

monotonic: Callable[[], float] = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
"""CLOCK_MONOTONIC in seconds; the same reading in every process of this machine. Read many times for each request, so
there is no Python function around it."""


def wall(ahead_s: float = 0.0) -> str:
    """Now, or so many seconds from now; UTC, ISO 8601 with milliseconds."""
    moment = datetime.now(UTC) + timedelta(seconds=ahead_s)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def today() -> date:
    """The day, UTC, as known weaknesses and the age of results are counted."""
    return datetime.now(UTC).date()


def step_of(at_s: float) -> int:
    """The 100 ms step a moment (seconds since t0) lies in. Tolerates float noise at the edges."""
    return math.floor(at_s / STEP_S + 1e-9)


def next_step(at_s: float) -> int:
    """The first grid step at or after a moment."""
    return math.ceil(at_s / STEP_S - 1e-9)


def step_start(step: int) -> float:
    """Seconds since t0 of a step's start, free of accumulated float noise."""
    return round(step * STEP_S, 1)
