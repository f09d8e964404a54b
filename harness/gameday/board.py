"""What people look at: the state of a game day as one value, made of the desk; for the operator, or for those from whom
a blind drill is hidden."""

from __future__ import annotations

import msgspec

from harness.model.records.live import LiveFault, LiveNumbers, LiveState
from harness.model.records.many_runs.gameday import ActKind, Severity

LAST_ACTS = 60
LAST_ACTIONS = 100
SECONDS = 60
"""Of the sparklines."""


class DrillRow(msgspec.Struct, frozen=True, kw_only=True):
    """name: "blind" where it is hidden. status: what has become of it. hypothesis, expect: "" where hidden."""

    number: int
    name: str
    faults: str
    status: str
    blind: bool = False
    hypothesis: str = ""
    expect: str = ""


class PrerequisiteRow(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    text: str
    ticked_by: str


class ActRow(msgspec.Struct, frozen=True, kw_only=True):
    at: float
    kind: ActKind
    who: str
    said: str


class ActionRow(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    owner: str
    due: str
    severity: Severity | None


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """at: seconds since the day began. on: number of the drill that is on. phase: of the experiment, "" where hidden.
    may: orders that would not be refused now. seen: metric -> its last values, one a second."""

    title: str
    at: float
    on: int | None
    on_name: str
    phase: str
    phase_at_s: float
    phase_left_s: float | None
    message: str
    numbers: LiveNumbers | None
    limits: dict[str, str]
    faults: tuple[LiveFault, ...]
    seen: dict[str, tuple[float | None, ...]]
    drills: tuple[DrillRow, ...]
    prerequisites: tuple[PrerequisiteRow, ...]
    acts: tuple[ActRow, ...]
    actions: tuple[ActionRow, ...]
    question: str
    """What is neither as it was before nor as the fault had left it: the operator keeps it or has it restored."""
    alerts: dict[str, str]
    """Name -> state, of those that are expected and those that are active."""
    counters: dict[str, dict[str, float]]
    """Dependency -> counter -> its last reading; empty where hidden."""
    may: tuple[ActKind, ...]
    ended: bool
    abort_tried: bool


class Sparks:
    """One value a second of what is drawn as a line."""

    KEYS = ("rps", "error_rate", "p50_ms", "p95_ms", "p99_ms")

    def __init__(self) -> None:
        self._seconds: dict[int, LiveNumbers] = {}

    def add(self, at: float, numbers: LiveNumbers) -> None:
        second = int(at)
        self._seconds[second] = numbers
        for old in [one for one in self._seconds if one <= second - SECONDS]:
            del self._seconds[old]

    def seen(self, at: float) -> dict[str, tuple[float | None, ...]]:
        last = int(at)
        every = [self._seconds.get(second) for second in range(last - SECONDS + 1, last + 1)]
        return {key: tuple(None if one is None else getattr(one, key) for one in every) for key in self.KEYS}


def may_now(on: bool, live: LiveState | None, *, todo: bool, ended: bool) -> tuple[ActKind, ...]:
    """Orders that would not be refused, as far as the last state tells."""
    if ended:
        return ("abort",)
    if not on:
        return ("begin", "begin_anyway", "skip", "inject", "abort", "end") if todo else ("inject", "abort", "end")
    phase = live.phase if live is not None else ""
    orders: tuple[ActKind, ...] = ("abort", "end")
    if phase == "settle":
        orders = ("begin_anyway", *orders)
    if phase == "fault":
        orders = ("extend", "clear", *orders)
    return orders
