"""What the doctor and `python -m harness.load try-requests` say to each other: one `TryStart` on its stdin, one `Tried`
on its stdout. Imports neither locust nor gevent."""

from __future__ import annotations

import msgspec

from harness.model.records.load import LoadPlan


class TryStart(msgspec.Struct, frozen=True, kw_only=True):
    """every: also requests that may change something at the target, and those whose method nobody knows."""

    plan: LoadPlan
    every: bool = False


class TriedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request name. answers: status -> how many, as far as the client tells it. slowest_ms: to the last byte.
    example: why one failed. prepares: sent outside of tasks (on_start)."""

    name: str
    sent: int
    failed: int
    answers: dict[str, int] = {}
    slowest_ms: float = 0.0
    example: str = ""
    prepares: bool = False


class HeldBack(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was not sent. prepares: its user asks for it before any task, so that it has sent nothing else."""

    name: str
    method: str
    user: str
    prepares: bool = False


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """unasked: user classes whose client's requests cannot be told apart, so that they sent nothing. every: nothing was
    held back, because it was asked for or because there was nothing else in the file. wrong: why nothing was tried."""

    requests: tuple[TriedRequest, ...] = ()
    held_back: tuple[HeldBack, ...] = ()
    unasked: tuple[str, ...] = ()
    every: bool = False
    wrong: str = ""
