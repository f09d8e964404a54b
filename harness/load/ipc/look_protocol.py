"""What the conductor and `python -m harness.load last-look` say to each other: one `LookStart` on its stdin, then one
`Looked` a look on its stdout. Imports neither locust nor gevent."""

from __future__ import annotations

import msgspec

from harness.model.records.load import LoadPlan


class LookStart(msgspec.Struct, frozen=True, kw_only=True):
    """until: CLOCK_MONOTONIC instant from which on no further look begins. limit_ms: how slow a request may be; None =
    no limit but the time-out. failing: share of the requests that failed in baseline already."""

    plan: LoadPlan
    until: float
    limit_ms: float | None = None
    failing: float = 0.0


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """One look. good: as in baseline; answered: replies of any kind. at: CLOCK_MONOTONIC instant of its end. last: no
    other follows."""

    at: float
    asked: int
    good: int
    answered: int
    as_in_baseline: bool
    last: bool
    example: str = ""
