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
    """Over the last `span_s` seconds of intended starts. None = nothing known yet."""

    span_s: float
    planned_rps: float | None = None
    rps: float | None = None
    error_rate: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    unsent: int = 0
    in_flight: int = 0
    users: int = 0


class LiveState(msgspec.Struct, frozen=True, kw_only=True):
    """phase_left_s: None when the phase is open-ended. recovery_s: running time since zero, once known.

    message: the newest line for people ("waiting until every baseline request has ended").
    """

    experiment: str
    scenario: str
    stack: str
    at_s: float
    phase: str
    phase_at_s: float
    phase_left_s: float | None
    total_requests: int
    total_failures: int
    numbers: LiveNumbers
    faults: tuple[LiveFault, ...] = ()
    recovery_s: float | None = None
    message: str = ""
