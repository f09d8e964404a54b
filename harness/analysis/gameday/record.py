"""From the plan, what people did, and what the drills found, to the record. Pure."""

from __future__ import annotations

import re
import shlex
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime

import msgspec

from harness.model.one_call import one_call
from harness.model.records import events as ev
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
from harness.model.records.result import FaultResult, Result, Verdict

ANSWERS: dict[Verdict, Answer] = {"pass": "confirmed", "fail": "refuted", "inconclusive": "not decided"}
DID: dict[ActKind, str] = {
    "note": "notes",
    "mark": "marks this moment",
    "tick": "ticks prerequisite",
    "observed": "observes",
    "action": "asks for an action",
    "see": "sees that something is wrong",
    "think": "diagnoses",
    "mitigated": "says that it is mended",
    "reveal": "reveals drill",
    "begin": "begins drill",
    "begin_anyway": "begins drill, at rest or not",
    "skip": "skips drill",
    "inject": "begins an unplanned drill",
    "extend": "extends the fault",
    "clear": "clears the fault",
    "abort": "aborts",
    "end": "ends the game day",
    "keep": "keeps what is there as the new original",
    "restore": "has the original restored",
    "started": "drill started",
    "over": "drill over",
    "closed": "game day closed",
}
"""In the time line."""
ABOUT_A_DRILL: tuple[ActKind, ...] = ("begin", "begin_anyway", "skip", "reveal", "started", "over")


class Drilled(msgspec.Struct, frozen=True, kw_only=True):
    """What a drill found. harm: null where nothing was injected or the raw record is gone."""

    result: Result
    harm: int | None


class Unjudged(msgspec.Struct, frozen=True, kw_only=True):
    """What is on record of a drill without a result. left: a sentence for each change that may still be there. lost:
    the run is known to have died."""

    history: tuple[ev.Event, ...]
    faults: tuple[FaultResult, ...]
    left: tuple[str, ...]
    lost: bool

    @property
    def healed(self) -> ev.Healed | None:
        """Told by whoever undid what a run had changed that was dead by then."""
        return next((event for event in self.history if isinstance(event, ev.Healed)), None)


Known = Mapping[str, Drilled | Unjudged | str]
"""Of drills by directory; a text says why nothing is known of one."""


def record_of(plan: GameDayPlan, acts: Sequence[Act], drilled: Known) -> GameDayRecord:
    by_drill: dict[int, list[Act]] = {}
    for act in acts:
        if act.drill is not None:
            by_drill.setdefault(act.drill, []).append(act)
    complete = any(act.kind == "closed" for act in acts)
    known = {drill.number for drill in plan.drills}
    broken = {one for drill in plan.drills for one in drill.dependencies}
    found = []
    for drill in plan.drills:
        found.append(_drill(drill, by_drill.get(drill.number, ()), drilled, broken, complete=complete))
    for number, own in by_drill.items():
        if number not in known and any(act.kind == "started" for act in own):
            found.append(_drill(_unplanned(plan, number, own), own, drilled, broken, complete=complete, ad_hoc=True))
    drills = _paced(found)
    commands = {drill.plan.number: drill.command for drill in drills}
    record = GameDayRecord(
        title=plan.title,
        started=plan.zero,
        seconds=round(acts[-1].at, 1) if acts else 0.0,
        complete=complete,
        plan=plan,
        people={**{name: role for role, names in plan.roles.items() for name in names}, **_spoke(acts)},
        prerequisites=_prerequisites(plan, acts),
        abort_tried=_abort_tried(acts),
        drills=drills,
        timeline=(*(moment_of(act) for act in acts), *_healed(plan, drills, drilled)),
        notes=tuple(_said(act) for act in acts if act.kind in ("note", "mark")),
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


def _said(act: Act) -> Said:
    return Said(at=act.at, who=act.who, kind=act.kind, text=act.text)


def _prerequisites(plan: GameDayPlan, acts: Sequence[Act]) -> tuple[Prerequisite, ...]:
    ticked = {act.what: act for act in reversed(acts) if act.kind == "tick"}  # the first one counts
    return tuple(
        Prerequisite(text=text, ticked_by=ticked[number].who, at=ticked[number].at)
        if number in ticked
        else Prerequisite(text=text)
        for number, text in enumerate(plan.prerequisites, start=1)
    )


def _abort_tried(acts: Sequence[Act]) -> float | None:
    """That it works is known only where it was tried before anything was broken."""
    for act in acts:
        if act.kind == "started":
            return None
        if act.kind == "abort":
            return act.at
    return None


def _unplanned(day: GameDayPlan, number: int, own: Sequence[Act]) -> DrillPlan:
    text = next((act.text for act in own if act.kind == "inject"), "")
    dependency = text.partition("@")[0].partition(":")[0].partition("-")[0]
    words = ["harness", "run", "--fault", text, "--scenario", day.scenario]
    if day.stack == "external":
        words += ["--host", day.target_url]
    elif day.stack != "embedded":
        words += ["--stack", day.stack]
    return DrillPlan(
        number=number,
        name=f"unplanned {number}",
        faults=(text,) if text else (),
        dependencies=(dependency,) if dependency else (),
        command=shlex.join(words) if text else "",
    )


def _paced(drills: Sequence[DrillRecord]) -> tuple[DrillRecord, ...]:
    """Planned against what happened."""
    at, found = 0.0, []
    ends = sorted(drill.ended for drill in drills if drill.ended is not None)
    for drill in drills:
        planned = None
        if not drill.ad_hoc:
            planned = at + drill.plan.pause_s
            at = planned + drill.plan.seconds
        begun, ended = drill.begun, drill.ended
        before = bisect_right(ends, begun) if begun is not None else 0
        found.append(
            msgspec.structs.replace(
                drill,
                planned_begin=planned,
                late_s=_less(begun, planned),
                paused_s=_less(begun, ends[before - 1] if before else 0.0),
                lasted_s=_less(ended, begun),
            )
        )
    return tuple(found)


def _less(later: float | None, earlier: float | None) -> float | None:
    return round(later - earlier, 1) if later is not None and earlier is not None else None


def _drill(
    plan: DrillPlan,
    own: Sequence[Act],
    drilled: Known,
    broken: Collection[str],
    *,
    complete: bool,
    ad_hoc: bool = False,
) -> DrillRecord:
    """own: acts that are about it. broken: dependencies that the day was to break."""
    command = plan.command if one_call(plan.command) else ""  # people paste it, and the folder may be anybody's
    started = next((act for act in own if act.kind == "started"), None)
    if started is None:
        skipped = next((act for act in own if act.kind == "skip"), None)
        if skipped is not None:
            why = f"skipped by {skipped.who}"
            return DrillRecord(plan=plan, ad_hoc=ad_hoc, status="skipped", why=why, command=command)
        why = "the game day ended before it" if complete else "nothing of it is on record"
        return DrillRecord(plan=plan, ad_hoc=ad_hoc, status="not_run", why=why, command=command)
    over = next((act for act in own if act.kind == "over"), None)
    aborted = next((act for act in own if act.kind in ("abort", "end") and act.at >= started.at), None)
    record = DrillRecord(
        plan=plan,
        ad_hoc=ad_hoc,
        status="aborted" if aborted is not None else "done" if over is not None else "cut_off",
        why=_ended_by(aborted) if aborted is not None else "",
        directory=started.directory,
        begun=started.at,
        ended=over.at if over is not None else None,
        observed=tuple(_said(act) for act in own if act.kind == "observed"),
        command=command,
    )
    found = drilled.get(started.directory, "its result is missing")
    if isinstance(found, str):
        return msgspec.structs.replace(record, why="; ".join(filter(None, (record.why, found))))
    if isinstance(found, Unjudged):
        return _unjudged(record, found)
    t0_s = over.seconds if over is not None and over.seconds is not None else started.at
    return _measured(record, found, own, broken, t0_s)


def _unjudged(record: DrillRecord, found: Unjudged) -> DrillRecord:
    """The run was killed, or goes on. What was undone since then is known all the same."""
    touched = [fault for fault in found.faults if fault.requested_s is not None or fault.injected_s is not None]
    status, why = record.status, record.why
    ordered = next((e for e in found.history if isinstance(e, ev.Ordered) and e.order == "abort"), None)
    if status == "cut_off" and ordered is not None:
        # An act is written down when it is done: a run that was killed meanwhile has it in the drill's history alone.
        status, why = "aborted", f"aborted by {ordered.who}"
    if record.ended is not None:
        lost = "its result is missing"
    elif found.lost:
        lost = "the run was killed, or lost, while it was on"
    else:
        lost = "the run was killed, or is going on"
    return msgspec.structs.replace(
        record,
        status=status,
        why="; ".join(filter(None, (why, lost))),
        reasons=tuple(_what_became(found, touched=bool(touched))),
        proven=all(fault.proven for fault in touched) if touched else None,
        undone=not found.left if touched else None,
    )


def _what_became(found: Unjudged, *, touched: bool) -> Iterator[str]:
    """Of what a drill had changed."""
    phase = next((event.phase for event in reversed(found.history) if isinstance(event, ev.PhaseStarted)), None)
    healed = found.healed
    if phase is not None:
        yield f"The record breaks off in the {phase} phase."
    yield from found.left
    if not touched:
        yield "Nothing had been injected."
    elif not found.left and healed is None:
        yield "What it had changed had been undone and verified by then."
    elif not found.left and healed is not None:
        by = "The keeper" if healed.by == "keeper" else f'"{healed.by}"'
        yield f"{by} undid what it had changed and verified it at {healed.wall}."


def _healed(plan: GameDayPlan, drills: Sequence[DrillRecord], drilled: Known) -> Iterator[Moment]:
    """Who undid what a run had left that was dead by then, on the day's clock."""
    for drill in drills:
        found = drilled.get(drill.directory)
        healed = found.healed if isinstance(found, Unjudged) else None
        if healed is None:
            continue
        did = "undoes what" if drill.undone else "cannot verify the undo of all that"
        try:
            at = (datetime.fromisoformat(healed.wall) - datetime.fromisoformat(plan.zero)).total_seconds()
        except (ValueError, TypeError):
            continue  # a folder may be anybody's
        if at < 0:
            continue
        yield Moment(
            at=round(at, 2), who=healed.by, said=f"{did} drill {drill.plan.number} had changed", drill=drill.plan.number
        )


def _measured(
    record: DrillRecord, found: Drilled, own: Sequence[Act], broken: Collection[str], t0_s: float
) -> DrillRecord:
    """t0_s: seconds since the day began at which the drill's own clock was at 0."""
    result = found.result
    injected = min((fault.injected_s for fault in result.faults if fault.injected_s is not None), default=None)
    impact = result.impact.start_s if result.impact is not None else None
    recovery = result.recovery
    verified = [fault.undo_verified for fault in result.faults if fault.injected_s is not None]
    detection = result.detection
    heard = None
    if injected is not None:
        heard = _responders(record.plan, result, own, broken, impact, t0_s + (injected if impact is None else impact))
    return msgspec.structs.replace(
        record,
        answer=ANSWERS[result.verdict],
        verdict=result.verdict,
        reasons=result.reasons,
        proven=all(fault.proven for fault in result.faults) if injected is not None else None,
        undone=all(one is not False for one in verified) if verified else None,
        mended_s=_mended(result, injected),
        # An impact is placed on the grid of a tenth of a second, an injection is not; and -0.0 is no time.
        impact_s=round(impact - injected, 1) + 0.0 if impact is not None and injected is not None else None,
        recovery=recovery.outcome if recovery is not None else None,
        recovery_s=recovery.seconds if recovery is not None else None,
        harm=found.harm,
        responders=heard,
        alerts=tuple(f"{one.alert}: {one.outcome.replace('_', ' ')}" for one in detection.alerts)
        if detection is not None
        else (),
    )


def _ended_by(act: Act) -> str:
    return f"aborted by the harness: {act.text}" if act.role == "harness" else f"aborted by {act.who}"


def _mended(result: Result, injected: float | None) -> float | None:
    mended = [fault.mended_s for fault in result.faults if fault.mended_s is not None]
    return round(max(mended) - injected, 1) if mended and injected is not None else None


def _responders(
    plan: DrillPlan, result: Result, own: Sequence[Act], broken: Collection[str], impact: float | None, zero: float
) -> Responders | None:
    """None where no responder said a word of a drill that was not blind. zero: what is counted from, since the day
    began."""
    spoken = tuple(
        msgspec.structs.replace(
            _said(act),
            since_s=round(act.at - zero, 1),
            right=right(act.text, plan, broken) if act.kind == "think" else None,
        )
        for act in own
        if act.kind in ("see", "think", "mitigated")
    )
    if not spoken and not plan.blind:
        return None
    after = [one for one in spoken if one.since_s is not None and one.since_s >= 0]
    noticed = next(iter(after), None)
    diagnosed = next((one for one in after if one.right), None)
    return Responders(
        counted_from="impact" if impact is not None else "injection",
        noticed_s=noticed.since_s if noticed is not None else None,
        diagnosed_s=diagnosed.since_s if diagnosed is not None else None,
        mitigated_s=_well_again(result, impact),
        said=spoken,
        noticed_by=noticed.who if noticed is not None else "",
        diagnosed_by=diagnosed.who if diagnosed is not None else "",
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


def right(said: str, plan: DrillPlan, broken: Collection[str]) -> bool | None:
    """Whether a diagnosis names what was broken. False only where it names something else that the day was to break:
    people call a thing by more names than a plan has."""
    if any(_has_word(said, one) for one in plan.dependencies):
        return True
    return False if any(_has_word(said, one) for one in broken) else None


def _has_word(said: str, word: str) -> bool:
    return word.lower() in said.lower() and bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", said, re.IGNORECASE))


def moment_of(act: Act) -> Moment:
    said = DID[act.kind]
    if act.kind == "tick" and act.what is not None:
        said += f" {act.what}"
    elif act.kind in ABOUT_A_DRILL and act.drill is not None:
        said = said.replace("drill", f"drill {act.drill}")
    elif act.kind == "extend" and act.seconds is not None:
        said += f" by {act.seconds:g} s"
    elif act.text:
        said += f": {act.text}"
    return Moment(at=act.at, who=act.who, said=said, drill=act.drill)


def filled(record: GameDayRecord) -> Filled:
    """Who has filled the fields of a record that a reader looks for: facts, each drill, each action item."""
    by_harness = [record.title, record.started, record.seconds, record.plan.target_url, record.plan.scenario]
    by_harness += [record.plan.harness, record.plan.machine, record.timeline, record.plan.stack]
    by_people: list[object] = [record.people, *(one.ticked_by for one in record.prerequisites), record.notes]
    by_people.append("" if record.abort_tried is None else "tried")
    for drill in record.drills:
        if drill.begun is None:
            continue
        by_harness += [drill.plan.name, drill.plan.faults, drill.begun, drill.ended, drill.answer, drill.reasons]
        by_harness += [drill.proven, drill.undone, drill.recovery, drill.harm, drill.directory]
        by_harness += [drill.paused_s, drill.lasted_s]
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
