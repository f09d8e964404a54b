"""What the history says about every planned fault: asked for, proven, undone, verified."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.model.records import events as ev
from harness.model.records.faults import Evidence
from harness.model.records.plan import Plan, PlannedFault
from harness.model.records.result import FaultResult

HEAL = "run harness heal RUN_DIR to be sure"


def fault_results(plan: Plan, history: Sequence[ev.Event]) -> tuple[FaultResult, ...]:
    """One result a planned fault, in plan order."""
    return tuple(_fault(planned, history) for planned in plan.faults)


def ended_orderly(history: Sequence[ev.Event]) -> bool:
    """The run reached its own end, planned or not; False for one that was killed."""
    return any(isinstance(event, ev.LoadEnded | ev.Stopped) for event in history)


def left_over(plan: Plan, history: Sequence[ev.Event]) -> tuple[str, ...]:
    """One sentence for every change that is, or may be, still there: what is left and how to mend it."""
    found = []
    for planned in plan.faults:
        mine = [event for event in history if getattr(event, "fault", None) == planned.id]
        last = _last_ending(mine)
        if isinstance(last, ev.UndoNotVerified):
            found.append(f"{planned.id}: {last.left}. To mend it: {last.mend}")
            continue
        if last is not None or planned.for_s is None:
            continue
        if any(isinstance(event, ev.FaultInjected) for event in mine):
            found.append(f"{planned.id} was injected and the record does not say that it was undone: {HEAL}")
        elif any(isinstance(event, ev.FaultRequested) for event in mine) and not ended_orderly(history):
            found.append(f"{planned.id} was being injected when the run was cut off: {HEAL}")
    return tuple(found)


def _last_ending(events: Sequence[ev.Event]) -> ev.UndoVerified | ev.UndoNotVerified | None:
    """The verdict on the last undo; None when a later injection has none yet."""
    last: ev.UndoVerified | ev.UndoNotVerified | None = None
    for event in events:
        if isinstance(event, ev.FaultInjected):
            last = None
        elif isinstance(event, ev.UndoVerified | ev.UndoNotVerified):
            last = event
    return last


def _fault(planned: PlannedFault, history: Sequence[ev.Event]) -> FaultResult:
    requested = injected = undone = None
    proven = False
    missing: str | None = None
    proof: list[Evidence] = []
    mine = [event for event in history if getattr(event, "fault", None) == planned.id]
    # What was seen up to the mending stands; that it is off from there on is the mending.
    mended_s = min((event.seen_on_s for event in mine if isinstance(event, ev.FaultMended)), default=math.inf)
    for event in mine:
        match event:
            case ev.FaultRequested():
                requested = event.at if requested is None else requested
            case ev.FaultInjected():
                injected = event.at if injected is None else injected
            case ev.FaultEvidence(evidence=evidence):
                proof.append(evidence)
                if not evidence.held and missing is None and not (event.stage == "held" and evidence.at > mended_s):
                    missing = _contradicted(event)
            case ev.FaultProven():
                proven = True
            case ev.FaultNotProven():
                missing = event.missing
            case ev.Undone():
                undone = event.at
            case ev.UndoVerified():
                proof += event.evidence
            case _:
                pass
    ending = _last_ending(mine)
    if missing is None and not proven:
        missing = "it was never injected" if injected is None else "no proof that it took effect was recorded"
    return FaultResult(
        name=planned.id,
        params=dict(planned.change.params),
        requested_s=requested,
        injected_s=injected,
        proven=proven and missing is None,
        proof=tuple(proof),
        undone_s=undone,
        undo_verified=None if ending is None else isinstance(ending, ev.UndoVerified),
        missing=missing,
        mended_s=next((event.at for event in mine if isinstance(event, ev.FaultMended)), None),
    )


def _contradicted(event: ev.FaultEvidence) -> str:
    seen = event.evidence
    said = f"expected {seen.expected}, observed {seen.observed}"
    if event.stage == "held":
        return f"it did not stay on ({said})"
    if event.stage == "path":
        return f"the application does not use the path that the fault changes ({said})"
    return f"it did not take effect ({said})"
