"""State, inputs and effects of the phase machine in decide.py. Plain data; `now` is seconds since t0."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.records.events import OrderKind, StopWhy
from harness.model.records.plan import Plan
from harness.model.records.targets import PhaseName

Status = Literal["waiting", "injecting", "active", "undoing", "undone", "unverified", "skipped"]


class Track(msgspec.Struct, frozen=True, kw_only=True):
    """One planned fault on its way. next_check: when to assert it again; None = not now."""

    id: str
    status: Status = "waiting"
    inject_at: float | None = None
    undo_at: float | None = None
    next_check: float | None = None


class State(msgspec.Struct, frozen=True, kw_only=True):
    """phase_end: planned end of the phase, None = open. zero: recovery's zero.

    looked: phases at whose planned end it was decided whether they go on. recovered: first second of the hold, once
    found. extended, cleared: by people. stop: the first reason to end early; at_once: it, or one that came after it,
    does not wait for open requests.
    """

    plan: Plan
    now: float = 0.0
    phase: PhaseName = "warmup"
    phase_start: float = 0.0
    phase_end: float | None = None
    judging: bool = False
    preparing: bool = False
    tracks: tuple[Track, ...] = ()
    zero: float | None = None
    looked: tuple[PhaseName, ...] = ()
    recovered: float | None = None
    load: Literal["on", "stopping", "ended"] = "on"
    stop: StopWhy | None = None
    at_once: bool = False
    extended: bool = False
    cleared: bool = False
    finished: bool = False


class _Input(msgspec.Struct, frozen=True, kw_only=True):
    now: float


class Tick(_Input, frozen=True, kw_only=True, tag=True):
    """Time passed. final_s: every step before it is final; clean_from: first second of a clean hold, if found.
    calm: the target is at rest, so that a baseline may begin. alerts: nothing but an expected alert that is still
    active from before keeps it from beginning.
    length_s: how long the phase is to be, decided once, LOOK_LEAD_S before its planned end; None: not decided."""

    final_s: float = 0.0
    clean_from: float | None = None
    length_s: float | None = None
    calm: bool = False
    alerts: bool = False


class BaselineJudged(_Input, frozen=True, kw_only=True, tag=True):
    broken: tuple[str, ...] = ()


class Prepared(_Input, frozen=True, kw_only=True, tag=True):
    """Undo records are captured and on disk. problem: why nothing may be injected."""

    problem: str | None = None


class Injected(_Input, frozen=True, kw_only=True, tag=True):
    fault: str


class InjectFailed(_Input, frozen=True, kw_only=True, tag=True):
    """unknown: it may have been done, so it must be undone. Otherwise it certainly was not."""

    fault: str
    text: str
    unknown: bool


class Undone(_Input, frozen=True, kw_only=True, tag=True):
    """The undo is over. zero: recovery's zero for this fault, None when the data path never answered."""

    fault: str
    verified: bool
    zero: float | None = None


class Mended(_Input, frozen=True, kw_only=True, tag=True):
    """People have ended a fault that was on: what is left is to verify it."""

    fault: str


class LoadOver(_Input, frozen=True, kw_only=True, tag=True):
    """The load process is gone: expected after StopLoad, otherwise lost."""

    text: str = ""


class Order(_Input, frozen=True, kw_only=True, tag=True):
    """Somebody wants it. seconds: of an extension, how long the faults stay on beyond the planned end."""

    order: OrderKind
    who: str
    seconds: float = 0.0


class StopRequest(_Input, frozen=True, kw_only=True, tag=True):
    why: StopWhy
    text: str


Input = Tick | BaselineJudged | Prepared | Injected | InjectFailed | Undone | Mended | LoadOver | Order | StopRequest


class EnterPhase(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    phase: PhaseName
    start_s: float


class Extend(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The phase goes on to end_s: a target is met, but too little was seen to say that it holds."""

    phase: PhaseName
    end_s: float


class JudgeBaseline(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Prepare(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Take the path proof, capture every undo record and write it to disk."""


class Inject(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    fault: str


class Check(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Assert again that a lasting fault is on."""

    fault: str


class Undo(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """hurry: the run is being stopped, so do not wait for the probe's rhythm first."""

    fault: str
    hurry: bool = False


class Jump(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Spike: change the number of users at an instant on the grid."""

    users: int
    at_s: float


class StopLoad(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """No arrivals from end_s on. at_once: do not wait for open requests."""

    end_s: float
    at_once: bool = False


class HandOn(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The experiment's load ends at end_s; it goes on for the next."""

    end_s: float


class RecordStop(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    why: StopWhy
    text: str


class RecordOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It was accepted, and holds from now on."""

    order: OrderKind
    who: str
    until_s: float | None = None


class Finish(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


Loading = Jump | StopLoad | HandOn
Effect = (
    EnterPhase | Extend | JudgeBaseline | Prepare | Inject | Check | Undo | Loading | RecordStop | RecordOrder | Finish
)
