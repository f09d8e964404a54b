"""history.jsonl: every event of an experiment, on one clock.

`at` is seconds since t0 on CLOCK_MONOTONIC (negative before t0), `wall` is UTC ISO 8601. The tag is the
field `event`. Where a statement has bounds, `sent_s` is just before it was sent and `at` just after its reply.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.records.faults import Evidence
from harness.model.records.targets import PhaseName


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    at: float
    wall: str
    experiment: str


class _OfFault(_Event, frozen=True, kw_only=True):
    fault: str


class Started(_Event, frozen=True, kw_only=True, tag="started"):
    """t0 was chosen: load starts here. monotonic is t0's CLOCK_MONOTONIC reading on this machine."""

    monotonic: float


class PhaseStarted(_Event, frozen=True, kw_only=True, tag="phase"):
    """A phase begins at `start_s`, on the 100 ms grid; the one before ends there."""

    phase: PhaseName
    start_s: float


class PhaseExtended(_Event, frozen=True, kw_only=True, tag="phase_extended"):
    """The phase goes on to end_s instead of ending as planned: `target` is met, but too little was seen to say that it
    holds."""

    phase: PhaseName
    end_s: float
    target: str


class FaultRequested(_OfFault, frozen=True, kw_only=True, tag="fault_requested"):
    pass


class FaultInjected(_OfFault, frozen=True, kw_only=True, tag="fault_injected"):
    sent_s: float


class FaultEvidence(_OfFault, frozen=True, kw_only=True, tag="fault_evidence"):
    """stage: injected = right after the injection; held = asserted again later in the phase."""

    stage: Literal["path", "injected", "held"]
    evidence: Evidence


class FaultProven(_OfFault, frozen=True, kw_only=True, tag="fault_proven"):
    pass


class FaultNotProven(_OfFault, frozen=True, kw_only=True, tag="fault_not_proven"):
    missing: str


class PathUnproven(_OfFault, frozen=True, kw_only=True, tag="path_unproven"):
    """Nobody could be seen who uses the path that the fault changes, and nothing speaks against it: no PASS without a
    sign, but a failure that begins with the injection is one. missing: why, and what would give the proof."""

    missing: str


class FaultMended(_Event, frozen=True, kw_only=True, tag="fault_mended"):
    """People have mended what a fault had broken, while it was on: the original state was there again at `at`.
    seen_on_s: when the fault was last seen as it should be."""

    fault: str
    seen_on_s: float


class UndoRequested(_OfFault, frozen=True, kw_only=True, tag="undo_requested"):
    sent_s: float


class Undone(_OfFault, frozen=True, kw_only=True, tag="undone"):
    """The undo statement's reply arrived at `at`."""

    sent_s: float


class UndoVerified(_OfFault, frozen=True, kw_only=True, tag="undo_verified"):
    """moot: that very thing is provably gone. kept: it was neither as before nor as the fault had left it, and people
    said that it stays so."""

    evidence: tuple[Evidence, ...] = ()
    moot: bool = False
    kept: bool = False


class UndoNotVerified(_OfFault, frozen=True, kw_only=True, tag="undo_not_verified"):
    left: str
    mend: str


class Healed(_Event, frozen=True, kw_only=True, tag="healed"):
    """Somebody else undid the run's changes, as keeper.jsonl tells; the endings of the undos follow.

    by: "keeper", or "harness heal" in somebody's hands. why: what made the keeper begin. Never in history.jsonl:
    the run that would write it was dead.
    """

    by: str
    why: str = ""


class ZeroFound(_Event, frozen=True, kw_only=True, tag="zero"):
    """Recovery's zero: send time of the first good probe after the last undo (see measurement).

    lower_s..upper_s is the doubt: [last bad probe, first good probe] or [undo sent, undo replied].
    """

    zero_s: float
    lower_s: float
    upper_s: float
    source: Literal["probe", "undo"]


class LoadLost(_Event, frozen=True, kw_only=True, tag="load_lost"):
    """A load process is gone. worker: None when it was the master or the only process."""

    reason: str
    worker: str | None = None


class LoadEnded(_Event, frozen=True, kw_only=True, tag="load_ended"):
    """Arrivals stopped at `end_s`; `at` is when the drain was over. handed_on: they went on, for the next experiment;
    what was intended before `end_s` is all that belongs to this one."""

    end_s: float
    handed_on: bool = False


class ClockDoubt(_Event, frozen=True, kw_only=True, tag="clock_doubt"):
    """How far the times of a remote worker may be off from here on. offset_s: its clock minus ours."""

    worker: str
    seconds: float
    offset_s: float = 0.0


NOT_INJECTED = "nothing was injected: "
"""How the text of a stop begins that came before any fault was on."""

StopWhy = Literal[
    "interrupt",
    "abort",
    "silent",
    "lost_load",
    "lost_keeper",
    "not_calm",
    "by_hand",
    "baseline_broken",
    "nothing_works",
    "file_quit",
    "error",
]


class Stopped(_Event, frozen=True, kw_only=True, tag="stopped"):
    """The run ended early. nothing_works: not one request succeeded before anything was broken. file_quit: the
    locustfile asked for it. not_calm: the target, shared with experiments before, did not come to rest in time.
    by_hand: somebody aborted it.

    expression: the abort condition, where one fired.
    """

    why: StopWhy
    text: str
    expression: str | None = None


OrderKind = Literal["proceed", "begin_anyway", "extend", "clear", "abort"]
"""What people may do to an experiment that is going on. proceed: end the wait between two. begin_anyway: take the
baseline though the target is not at rest, so that nothing is judged. extend: leave the faults on for longer, once.
clear: undo them now, as if their time were over. abort: undo everything and end the experiment."""


class Ordered(_Event, frozen=True, kw_only=True, tag="ordered"):
    """Somebody did that, in whose name it was done. until_s: new end of the fault phase, of an extension."""

    order: OrderKind
    who: str
    until_s: float | None = None


class Note(_Event, frozen=True, kw_only=True, tag="note"):
    text: str


class DataLost(_Event, frozen=True, kw_only=True, tag="data_lost"):
    """Acknowledged data that could not be read back after recovery."""

    count: int
    examples: tuple[str, ...] = ()


class ReadBack(_Event, frozen=True, kw_only=True, tag="read_back"):
    """Acknowledged writes were looked for after the load had ended; DataLost comes with it where some were not there.

    noted: by the locustfile, repeats not counted. chosen: of these, asked for. there, lost, unchecked add up to chosen.
    why: of what was not checked, "" = everything chosen was.
    """

    noted: int
    chosen: int
    there: int
    lost: int
    unchecked: int
    seconds: float
    why: str = ""


class AfterLoad(_Event, frozen=True, kw_only=True, tag="after_load"):
    """The target was asked again once load had ended: a few requests of the mix, on fresh connections.

    looks: how often it was asked. Of the last look: asked: requests, good: as in baseline (no failure, and no slower
    than limit_ms where there is one), answered: replies of any kind, example: what was the matter with one that was
    not good. as_in_baseline: the last look was. seconds: from the end of load until that look was over.
    """

    as_in_baseline: bool
    seconds: float
    looks: int
    asked: int
    good: int
    answered: int
    limit_ms: float | None = None
    example: str = ""


Event = (
    Started
    | PhaseStarted
    | PhaseExtended
    | FaultRequested
    | FaultInjected
    | FaultEvidence
    | FaultProven
    | FaultNotProven
    | PathUnproven
    | FaultMended
    | UndoRequested
    | Undone
    | UndoVerified
    | UndoNotVerified
    | Healed
    | ZeroFound
    | LoadLost
    | LoadEnded
    | ClockDoubt
    | Stopped
    | Ordered
    | Note
    | DataLost
    | ReadBack
    | AfterLoad
)
