"""From the plan, what people did, and what the drills found, to the record. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from harness.model.records.many_runs.gameday import (
    Act,
    ActionItem,
    ActKind,
    Answer,
    DrillPlan,
    DrillRecord,
    Filled,
    GameDayPlan,
    GameDayRecord,
    Moment,
    Prerequisite,
    Responders,
    Said,
)
from harness.model.records.result import Result, Verdict

ANSWERS: dict[Verdict, Answer] = {"pass": "confirmed", "fail": "refuted", "inconclusive": "not decided"}
DID: dict[ActKind, str] = {
    "note": "notes",
    "mark": "marks this moment",
    "tick": "ticks prerequisite",
    "observed": "observes",
    "action": "wants done",
    "see": "sees that something is wrong",
    "think": "thinks it is",
    "mitigated": "says that it is mended",
    "reveal": "reveals drill",
    "begin": "begins drill",
    "begin_anyway": "begins, at rest or not, drill",
    "skip": "skips drill",
    "inject": "begins an unplanned drill",
    "extend": "extends the fault",
    "clear": "clears the fault",
    "abort": "aborts",
    "end": "ends the game day",
    "started": "drill started",
    "over": "drill over",
    "closed": "game day closed",
}
"""In the time line, before what it is about."""


class Drilled(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill found. harm: null where nothing was injected or the raw record is gone."""

    result: Result
    harm: int | None


def record_of(plan: GameDayPlan, acts: Sequence[Act], drilled: Mapping[str, Drilled | str]) -> GameDayRecord:
    """drilled: by directory; a text says why nothing is known of one."""
    closed = next((act for act in reversed(acts) if act.kind == "closed"), None)
    planned = tuple(_drill(drill, acts, drilled, ad_hoc=False) for drill in plan.drills)
    known = {drill.number for drill in plan.drills}
    unplanned = tuple(
        _drill(_unplanned(act, acts), acts, drilled, ad_hoc=True)
        for act in acts
        if act.kind == "started" and act.drill is not None and act.drill not in known
    )
    drills = (*planned, *unplanned)
    commands = {drill.plan.number: drill.command for drill in drills}
    record = GameDayRecord(
        title=plan.title,
        started=plan.zero,
        seconds=round(acts[-1].at, 1) if acts else 0.0,
        complete=closed is not None,
        plan=plan,
        people={**{name: role for role, names in plan.roles.items() for name in names}, **_spoke(acts)},
        prerequisites=tuple(
            _prerequisite(number, text, acts) for number, text in enumerate(plan.prerequisites, start=1)
        ),
        abort_tried=_abort_tried(acts),
        drills=drills,
        timeline=tuple(moment_of(act) for act in acts),
        notes=tuple(Said(at=act.at, who=act.who, text=act.text) for act in acts if act.kind in ("note", "mark")),
        actions=tuple(
            ActionItem(
                text=act.text,
                owner=act.owner,
                due=act.due,
                severity=act.severity,
                who=act.who,
                drill=act.drill,
                retest=commands.get(act.drill or 0, ""),
            )
            for act in acts
            if act.kind == "action"
        ),
        harm=sum(drill.harm or 0 for drill in drills),
        filled=Filled(harness=0, people=0, empty=0),
    )
    return msgspec.structs.replace(record, filled=filled(record))


def _spoke(acts: Sequence[Act]) -> dict[str, str]:
    return {act.who: act.role for act in acts if act.role != "harness"}


def _prerequisite(number: int, text: str, acts: Sequence[Act]) -> Prerequisite:
    ticked = next((act for act in acts if act.kind == "tick" and act.what == number), None)
    return Prerequisite(
        text=text, ticked_by=ticked.who if ticked is not None else "", at=ticked.at if ticked is not None else None
    )


def _abort_tried(acts: Sequence[Act]) -> float | None:
    """That it works is known only where it was tried before anything was broken."""
    first = next((act.at for act in acts if act.kind == "started"), None)
    return next((act.at for act in acts if act.kind == "abort" and (first is None or act.at < first)), None)


def _unplanned(started: Act, acts: Sequence[Act]) -> DrillPlan:
    asked = next((act for act in acts if act.kind == "inject" and act.drill == started.drill), None)
    text = asked.text if asked is not None else ""
    number = started.drill or 0
    dependency = text.partition("@")[0].partition(":")[0].partition("-")[0]
    return DrillPlan(
        number=number,
        name=f"unplanned {number}",
        faults=(text,) if text else (),
        dependencies=(dependency,) if dependency else (),
    )


def _drill(plan: DrillPlan, acts: Sequence[Act], drilled: Mapping[str, Drilled | str], *, ad_hoc: bool) -> DrillRecord:
    own = [act for act in acts if act.drill == plan.number]
    started = next((act for act in own if act.kind == "started"), None)
    if started is None:
        skipped = next((act for act in own if act.kind == "skip"), None)
        if skipped is None:
            why = "the game day ended before it"
            return DrillRecord(plan=plan, ad_hoc=ad_hoc, status="not_run", why=why, command=plan.command)
        why = f"skipped by {skipped.who}"
        return DrillRecord(plan=plan, ad_hoc=ad_hoc, status="skipped", why=why, command=plan.command)
    over = next((act for act in own if act.kind == "over"), None)
    aborted = next((act for act in own if act.kind in ("abort", "end") and act.at > started.at), None)
    found = drilled.get(started.directory, "it has no result")
    record = DrillRecord(
        plan=plan,
        ad_hoc=ad_hoc,
        status="aborted" if aborted is not None else "done",
        why=f"aborted by {aborted.who}" if aborted is not None else "",
        directory=started.directory,
        begun=started.at,
        ended=over.at if over is not None else None,
        observed=tuple(Said(at=act.at, who=act.who, text=act.text) for act in own if act.kind == "observed"),
        command=plan.command,
    )
    if isinstance(found, str):
        return msgspec.structs.replace(record, why="; ".join(filter(None, (record.why, found))))
    return _measured(record, found, own, over.seconds if over is not None and over.seconds is not None else started.at)


def _measured(record: DrillRecord, found: Drilled, own: Sequence[Act], t0_s: float) -> DrillRecord:
    """t0_s: seconds since the day began at which the drill's own clock was at 0."""
    result = found.result
    injected = min((fault.injected_s for fault in result.faults if fault.injected_s is not None), default=None)
    impact = result.impact.start_s if result.impact is not None else None
    recovery = result.recovery
    verified = [fault.undo_verified for fault in result.faults if fault.injected_s is not None]
    detection = result.detection
    return msgspec.structs.replace(
        record,
        answer=ANSWERS[result.verdict],
        verdict=result.verdict,
        reasons=result.reasons,
        proven=all(fault.proven for fault in result.faults) if injected is not None else None,
        undone=all(one is not False for one in verified) if verified else None,
        impact_s=impact - injected if impact is not None and injected is not None else None,
        recovery=recovery.outcome if recovery is not None else None,
        recovery_s=recovery.seconds if recovery is not None else None,
        harm=found.harm,
        responders=_responders(record.plan, result, own, injected, impact, t0_s) if injected is not None else None,
        alerts=tuple(f"{one.alert}: {one.outcome.replace('_', ' ')}" for one in detection.alerts)
        if detection is not None
        else (),
    )


def _responders(
    plan: DrillPlan, result: Result, own: Sequence[Act], injected: float, impact: float | None, t0_s: float
) -> Responders | None:
    """None where no responder said a word of a drill that was not blind."""
    said = [act for act in own if act.kind in ("see", "think", "mitigated")]
    if not said and not plan.blind:
        return None
    zero = t0_s + (impact if impact is not None else injected)
    spoken = tuple(
        Said(
            at=act.at,
            who=act.who,
            text=act.text,
            since_s=round(act.at - zero, 1),
            right=names(act.text, plan) if act.kind == "think" else None,
        )
        for act in said
    )
    noticed = next((act for act in said if act.at >= zero), None)
    right = next((one for one in spoken if one.right), None)
    return Responders(
        counted_from="impact" if impact is not None else "injection",
        noticed_s=round(noticed.at - zero, 1) if noticed is not None else None,
        diagnosed_s=right.since_s if right is not None else None,
        mitigated_s=_well_again(result, impact),
        said=spoken,
    )


def _well_again(result: Result, impact: float | None) -> float | None:
    """Seconds from the impact's start until targets held again: while the fault was on, or after its undo."""
    if impact is None or result.impact is None:
        return None
    if result.impact.mitigated_s is not None:
        return round(result.impact.mitigated_s - impact, 1)
    recovery = result.recovery
    if recovery is None or recovery.outcome != "recovered" or recovery.seconds is None or recovery.zero_s is None:
        return None
    return round(recovery.zero_s + recovery.seconds - impact, 1)


def names(said: str, plan: DrillPlan) -> bool:
    """Whether a diagnosis names what was broken: the dependency, as a word."""
    return any(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", said, re.IGNORECASE) for one in plan.dependencies)


def moment_of(act: Act) -> Moment:
    about = act.text
    if act.kind == "tick" and act.what is not None:
        about = str(act.what)
    elif act.kind in ("begin", "begin_anyway", "skip", "reveal", "started", "over") and act.drill is not None:
        about = str(act.drill)
    elif act.kind == "extend" and act.seconds is not None:
        about = f"by {act.seconds:g} s"
    return Moment(at=act.at, who=act.who, said=f"{DID[act.kind]} {about}".strip(), drill=act.drill)


def filled(record: GameDayRecord) -> Filled:
    """Who has filled the fields of a record that a reader looks for: facts, each drill, each action item."""
    by_harness = [record.title, record.started, record.seconds, record.plan.target_url, record.plan.scenario]
    by_harness += [record.plan.harness, record.plan.machine, record.timeline, record.plan.stack]
    by_people: list[object] = [record.people, *(one.ticked_by for one in record.prerequisites), record.notes]
    by_people.append("" if record.abort_tried is None else "tried")
    for drill in record.drills:
        if drill.status not in ("done", "aborted"):
            continue
        by_harness += [drill.plan.name, drill.plan.faults, drill.begun, drill.ended, drill.answer, drill.reasons]
        by_harness += [drill.proven, drill.undone, drill.recovery, drill.harm, drill.directory]
        by_people += [drill.plan.hypothesis, drill.plan.expect, drill.observed]
        if drill.responders is not None:
            by_harness += [drill.responders.noticed_s, drill.responders.diagnosed_s, drill.responders.mitigated_s]
    for action in record.actions:
        by_people += [action.text, action.owner, action.due, action.severity]
    empty: list[object] = [None, "", (), {}]
    mine, theirs = [one for one in by_harness if one not in empty], [one for one in by_people if one not in empty]
    return Filled(
        harness=len(mine), people=len(theirs), empty=len(by_harness) + len(by_people) - len(mine) - len(theirs)
    )
