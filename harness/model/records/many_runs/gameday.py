"""A game day: gameday-plan.json, people.jsonl, and gameday.json, which is made from them and the drills' records.

Documented in docs/gameday-record.md; `schema` changes when a field changes meaning. Times of day are ISO 8601,
durations in seconds, `at` is in seconds since the game day began; what is not known is null.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.records.result import RecoveryOutcome, Verdict

SCHEMA = 1

Role = Literal["operator", "observer", "responder"]
"""operator: breaks and mends. observer: looks on, notes, and may abort. responder: finds out what is wrong and mends it
as on any day; in a blind drill sees no more than then."""

Severity = Literal["high", "medium", "low"]


class DrillPlan(msgspec.Struct, frozen=True, kw_only=True):
    """faults: as after --fault. hypothesis: what is believed to happen; expect: what people should see. blind: the
    responders are not told what is broken. pause_s: before it, as planned. alerts: expected ones. seconds: the least
    that it takes. command: that carries it out again, alone."""

    number: int
    name: str
    faults: tuple[str, ...]
    dependencies: tuple[str, ...] = ()
    hypothesis: str = ""
    expect: str = ""
    blind: bool = False
    pause_s: float = 0.0
    abort_if: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    seconds: float = 0.0
    command: str = ""


class GameDayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """gameday-plan.json: what was planned, and where. zero: time of day at which `at` is 0."""

    schema: int = SCHEMA
    title: str
    zero: str
    roles: dict[Role, tuple[str, ...]]
    prerequisites: tuple[str, ...]
    drills: tuple[DrillPlan, ...]
    scenario: str
    rate: float | None
    users: int
    stack: str
    target_url: str
    target_version: str | None
    harness: str
    machine: str
    command: str


ActKind = Literal[
    "note",
    "mark",
    "tick",
    "observed",
    "action",
    "see",
    "think",
    "mitigated",
    "reveal",
    "begin",
    "begin_anyway",
    "skip",
    "inject",
    "extend",
    "clear",
    "abort",
    "end",
    "keep",
    "restore",
    "started",
    "over",
    "closed",
]
"""Of people: a note, a moment marked, a prerequisite ticked, what was observed of what was expected, an action item; of
responders: that something is wrong, what it may be, that it is mended; orders: begin the next drill, or though the
target is not at rest, skip it, inject something that was not planned, leave it on for longer, undo it, abort, end the
day; keep what somebody has made of a thing meanwhile, or have it restored. Of the harness: a drill has started, is
over, the day was closed."""


class Act(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of people.jsonl. who: name, "harness" for its own. drill: number of the one it is about. text: as it was
    typed. seconds: of an extension; of a drill that is over when its own clock was at 0. fault: what was injected
    without having been planned. what: number of a prerequisite, from 1."""

    at: float
    wall: str
    who: str
    role: Role | Literal["harness"]
    kind: ActKind
    drill: int | None = None
    text: str = ""
    directory: str = ""
    seconds: float | None = None
    what: int | None = None
    owner: str = ""
    due: str = ""
    severity: Severity | None = None


Answer = Literal["confirmed", "refuted", "not decided"]
"""What the measured targets say of a hypothesis: all were held; one was broken; or it cannot be told."""


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """at: seconds since the game day began; since_s: of responders, since what their times count from. kind: as in
    Act."""

    at: float
    who: str
    kind: ActKind
    text: str = ""
    since_s: float | None = None
    right: bool | None = None
    """Of a diagnosis: it names what was broken; false: another dependency of the day and not that one; null: none."""


class Responders(msgspec.Struct, frozen=True, kw_only=True):
    """Of a blind drill, and of any in which a responder spoke: seconds from the impact's start, or from the injection
    where no impact was measured (counted_from: which). noticed_s: the first word of a responder, by noticed_by.
    diagnosed_s: the first right diagnosis, by diagnosed_by. mitigated_s: when the service was well again, as
    measured."""

    counted_from: Literal["impact", "injection"]
    noticed_s: float | None
    diagnosed_s: float | None
    mitigated_s: float | None
    said: tuple[Said, ...]
    noticed_by: str = ""
    diagnosed_by: str = ""


class DrillRecord(msgspec.Struct, frozen=True, kw_only=True):
    """plan: as planned; ad_hoc: it was not. status: aborted by people; cut_off where its record breaks off while it was
    on; not_run where the day ended before it. why: it was not done, or has no result. directory: its own record, in the
    day's folder. answer, verdict, reasons, proven, undone, recovery: of its result; null where there is none or nothing
    was injected, but proven, undone and, as reasons, what became of it of one that was cut off. impact_s: from the
    injection until the first target was broken. harm: bad requests in it, above baseline's share; null where they
    cannot be counted. observed: what people saw of what was expected. command: carries it out again, alone; empty where
    it is no single call of the harness.

    Planned against what happened: planned_begin, begun, ended are seconds since the day began, the first by the
    planned pauses and lengths of all drills up to it (null: not planned); late_s: begun less planned_begin; paused_s:
    between the end of the drill before (or the day's beginning) and its own, beside plan.pause_s; lasted_s: beside
    plan.seconds, which is the least."""

    plan: DrillPlan
    ad_hoc: bool
    status: Literal["done", "aborted", "cut_off", "skipped", "not_run"]
    why: str = ""
    directory: str = ""
    planned_begin: float | None = None
    begun: float | None = None
    ended: float | None = None
    late_s: float | None = None
    paused_s: float | None = None
    lasted_s: float | None = None
    answer: Answer | None = None
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    proven: bool | None = None
    undone: bool | None = None
    mended_s: float | None = None
    """Seconds from the injection until people had ended the fault by hand."""
    impact_s: float | None = None
    recovery: RecoveryOutcome | None = None
    recovery_s: float | None = None
    harm: int | None = None
    observed: tuple[Said, ...] = ()
    responders: Responders | None = None
    alerts: tuple[str, ...] = ()
    """What became of each expected alert, a sentence each."""
    command: str = ""


class ActionItem(msgspec.Struct, frozen=True, kw_only=True):
    """who: asked for it. drill: number of the one that was on."""

    text: str
    owner: str
    due: str
    severity: Severity | None
    who: str
    drill: int | None
    retest: str
    """The command that carries the drill out again; empty where it belongs to none."""


class Prerequisite(msgspec.Struct, frozen=True, kw_only=True):
    """ticked_by: empty where nobody did."""

    text: str
    ticked_by: str = ""
    at: float | None = None


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the time line. said: what was done, in words."""

    at: float
    who: str
    said: str
    drill: int | None = None


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of the record by who has filled them."""

    harness: int
    people: int
    empty: int

    @property
    def by_harness(self) -> float:
        return self.harness / max(1, self.harness + self.people + self.empty)


class GameDayRecord(msgspec.Struct, frozen=True, kw_only=True):
    """gameday.json. started: time of day; seconds: until the last line of people.jsonl. complete: the day was closed in
    order. people: name -> role, those of the plan and those who did something. abort_tried: seconds since the day
    began of the abort that was rehearsed before the first drill; null where none was. notes: and marks. harm: of those
    drills together that have one."""

    schema: int = SCHEMA
    title: str
    started: str
    seconds: float
    complete: bool
    plan: GameDayPlan
    people: dict[str, str]
    prerequisites: tuple[Prerequisite, ...]
    abort_tried: float | None
    drills: tuple[DrillRecord, ...]
    timeline: tuple[Moment, ...]
    notes: tuple[Said, ...]
    actions: tuple[ActionItem, ...]
    harm: int
    filled: Filled
