"""What the live view shows, ten times a second at most: made by the conductor, drawn by harness.report."""

from __future__ import annotations

from typing import Literal

import msgspec

FaultState = Literal[
    "planned",
    "capturing",
    "injecting",
    "injected",
    "proven",
    "not proven",
    "undoing",
    "undone",
    "verified",
    "not verified",
]


class LiveFault(msgspec.Struct, frozen=True, kw_only=True):
    """since_s: when it entered this state, seconds since t0. detail: the last evidence, one clause."""

    id: str
    state: FaultState
    since_s: float | None = None
    detail: str = ""


class LiveNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Over span_s seconds of intended starts that ended at end_s. None = nothing known yet.

    Final numbers, those of the result, wherever these seconds are over; else provisional: open_rate of the requests
    wait for their answer still, and error_rate and the percentiles are the least that they can turn out to be.
    oldest_s: how long the oldest open request has waited.
    """

    span_s: float
    end_s: float | None = None
    provisional: bool = False
    planned_rps: float | None = None
    rps: float | None = None
    error_rate: float | None = None
    open_rate: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    unsent: int = 0
    in_flight: int = 0
    oldest_s: float | None = None
    users: int = 0


class LiveState(msgspec.Struct, frozen=True, kw_only=True):
    """phase_left_s: None when the phase is open-ended; then phase_most_s is how long it may go on, where that is known.
    recovery_s: running time since zero, once known. limits: metric -> `<200ms`, of the primary targets of this phase.

    message: the newest line for people ("waiting until every baseline request has ended").
    part: where in a suite it is.
    """

    experiment: str
    scenario: str
    stack: str
    at_s: float
    phase: str
    phase_at_s: float
    phase_left_s: float | None
    phase_most_s: float | None = None
    total_requests: int
    total_failures: int
    numbers: LiveNumbers
    faults: tuple[LiveFault, ...] = ()
    recovery_s: float | None = None
    limits: dict[str, str] = {}
    message: str = ""
    part: str = ""
