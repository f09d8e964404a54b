"""The verdict: ordered rules over everything that was found, each reason a sentence.

    0  FAIL          acknowledged data was lost, or the user's abort condition fired with a proven fault
    1  INCONCLUSIVE  the run cannot be trusted: baseline broken, a fault not proven, a recording gap, a lost worker,
                     clock doubt above what is claimed; saturation (below)
    2  FAIL          a primary target broken in a judged phase, or recovery did not come in time
    3  INCONCLUSIVE  a primary target undecided, or not judged though it applies
    4  PASS          missing data never passes

Saturation of the generator in baseline is rule 1. Later it takes away any PASS, and those failures of the phases it
touched that a slow generator could have made up; a failure proven by the target's own acts stays a FAIL.

Exit code: 5 (an undo not verified), then 130 (interrupted), then 4 (no baseline was judged), then the verdict's own.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.analysis.record.spans import Span, phase_at, span_of
from harness.analysis.rules.detection import nothing_to_detect
from harness.analysis.rules.generator import clocks
from harness.analysis.verdict import sentences
from harness.analysis.verdict.after_load import NOTHING, Ending
from harness.model.exit_codes import ExitCode
from harness.model.records import events as ev
from harness.model.records.load import STEP_S
from harness.model.records.metrics import Origin
from harness.model.records.plan import Plan
from harness.model.records.result import FaultResult, ImpactResult, RecoveryResult, TargetResult, Verdict
from harness.model.units import format_duration, format_percent

HURT_WITHIN_S = 10.0
"""What a fault does to a service that uses the path shows within this many seconds."""
RECOVERY = "recovery"
"""Among the texts of targets that a starved generator may have made up: that of the run's own recovery."""
MIX_POINTS = 0.02
"""A class's share of the arrivals sent may differ from its planned share by two points."""

_STOPPED: dict[str, str] = {
    "silent": "The load went silent in the {phase} phase: {text}",
    "lost_load": "The load was lost in the {phase} phase: {text}",
    "lost_keeper": "The process that guards the undo was lost in the {phase} phase: {text}",
    "baseline_broken": "The service did not meet its targets before any fault, so nothing was injected",
    "nothing_works": "Nothing worked in the {phase} phase, so nothing was injected: {text}",
    "file_quit": "The locustfile ended the run in the {phase} phase: {text}",
    "not_calm": "Nothing was injected: {text}",
    "error": "The harness failed in the {phase} phase: {text}",
    "abort": "The run was aborted in the {phase} phase: {text}",
    "by_hand": "It was aborted in the {phase} phase {text}",
}

WITHOUT_BASELINE: tuple[ev.StopWhy, ...] = ("nothing_works", "file_quit", "not_calm", "by_hand")
"""Ends before a baseline that are no failure of the harness."""


@dataclass(frozen=True)
class Case:
    """Everything the rules look at. tainted: texts of broken targets that saturation may have made up, "recovery"
    for the run's recovery. gaps: steps with a recording gap. mix: phase -> (class, planned share, sent share).
    left: sentences about changes that may still be there. violating_s: violating time of the whole run.
    lost: (arrivals without an end on record, arrivals scheduled) from where a lost worker's record breaks off. cut_s:
    seconds of baseline left out because the generator could not keep up in them. before_s: how long before the first
    injection the service had begun to fail by itself. by_name: request names hurt by themselves, with how many
    of their requests, and how many of these failed. over_before: what the fault broke held again before the undo.
    violating: stretches (start_s, end_s) in which targets were broken. ending: what was seen of the target at the end
    of load and after it. fell: the outage of a control run between the last judged phase and the end of load; in a
    run with a fault recovery tells of it. unasked: sentences about what was asked in baseline and no longer later on.
    """

    plan: Plan
    history: Sequence[ev.Event]
    spans: Sequence[Span]
    targets: Sequence[TargetResult]
    faults: Sequence[FaultResult]
    recovery: RecoveryResult
    baseline_judged: bool
    saturated: Sequence[tuple[float, float]] = ()
    tainted: frozenset[str] = frozenset()
    gaps: Sequence[int] = ()
    mix: Sequence[tuple[str, str, float, float]] = ()
    left: Sequence[str] = ()
    violating_s: float = 0.0
    lost: tuple[int, int] = (0, 0)
    cut_s: float = 0.0
    before_s: float | None = None
    impact: ImpactResult | None = None
    by_name: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    over_before: bool = False
    violating: Sequence[tuple[float, float]] = ()
    ending: Ending = NOTHING
    fell: tuple[float, float] | None = None
    unasked: Sequence[str] = ()


@dataclass(frozen=True)
class Ruling:
    verdict: Verdict
    exit_code: ExitCode
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def rule(case: Case) -> Ruling:
    """Apply the ordered rules. Every reason is listed, the one that decided first."""
    fatal = _fatal(case)
    distrust = _distrust(case)
    failed, doubtful = _failures(case)
    undecided = _undecided(case)
    weak = _takes_pass_away(case)
    verdict: Verdict
    if fatal:
        verdict, reasons = "fail", [*fatal, *failed, *distrust, *weak, *_would(doubtful)]
    elif distrust:
        verdict, reasons = "inconclusive", [*distrust, *weak, *_would([*failed, *doubtful]), *undecided]
    elif failed:
        verdict, reasons = "fail", [*failed, *weak, *_would(doubtful), *undecided]
    elif undecided or weak:
        verdict, reasons = "inconclusive", [*weak, *_would(doubtful), *undecided]
    else:
        verdict, reasons = "pass", _passed(case)
    if case.ending.last_word and verdict != "pass":
        reasons = [*reasons, case.ending.last_word]
    code = _exit_code(case, verdict)
    if code in (ExitCode.INTERRUPTED, ExitCode.HARNESS_FAILED):
        verdict = "inconclusive"
    if code == ExitCode.INTERRUPTED:
        # Whatever was seen until then, the person who stopped it decided first.
        reasons = [*_early_end(case), *(r for r in reasons if r not in _early_end(case))]
    if code == ExitCode.HARNESS_FAILED and not _early_end(case):
        reasons = ["No baseline was judged: nothing was recorded.", *reasons]
    return Ruling(verdict, code, (*case.left, *dict.fromkeys([*reasons, *_healed(case)])), tuple(_warnings(case)))


def _fatal(case: Case) -> list[str]:
    found = []
    for event in case.history:
        if isinstance(event, ev.DataLost) and event.count > 0:
            such_as = f", such as {', '.join(event.examples[:3])}" if event.examples else ""
            found.append(f"{event.count:,} acknowledged writes were gone after recovery{such_as}.")
    aborted = _abort(case)
    if aborted is not None and any(fault.proven for fault in case.faults):
        condition = f" ({aborted.expression})" if aborted.expression else ""
        phase = phase_at(case.spans, aborted.at)
        found.append(f"The run was aborted in the {phase} phase because the abort condition was met{condition}.")
    return found


def _distrust(case: Case) -> list[str]:
    """Rule 1."""
    found = list(_early_end(case))
    if _abort(case) is not None and any(fault.proven for fault in case.faults):
        found = []  # rule 0 has said it already
    found += _lost_workers(case)
    found += [
        f"The clock of worker {clock.worker} was uncertain by {format_duration(clock.doubt_s)}, more than the "
        f"{format_duration(STEP_S)} that this result claims."
        for clock in clocks(case.history)
        if clock.doubt_s > STEP_S
    ]
    found += [
        f"{event.who} began the baseline though the target was not at rest, so nothing can be compared with it."
        for event in case.history
        if isinstance(event, ev.Ordered) and event.order == "begin_anyway"
    ]
    found += [_broken_in_baseline(t, case) for t in case.targets if _baseline_broken(t)]
    found += [
        f"The fault {fault.name} was not proven: {fault.missing}."
        for fault in case.faults
        if not fault.proven and not (fault.requested_s is None and _early_end(case))
    ]
    if case.gaps:
        low, high = min(case.gaps), max(case.gaps) + 1
        found.append(
            f"{format_duration(len(case.gaps) * STEP_S)} of the run have fewer requests recorded than were planned "
            f"(between {format_duration(low * STEP_S)} and {format_duration(high * STEP_S)})."
        )
    if case.before_s is not None:
        found.append(
            f"The service was failing {format_duration(case.before_s)} before the injection, so what followed is not "
            "the fault's doing alone."
        )
    own = case.recovery.outcome == "not_recovered" and "recovery" not in case.tainted
    if _baseline_starved(case) and not own:
        # The party at fault comes first: with a generator that starved nothing said about the service can be trusted.
        found.insert(0, f"{_saturated(case)} Baseline was touched, so nothing can be compared with it.")
    return found


def _baseline_starved(case: Case) -> bool:
    """More of baseline was saturated than can be left out."""
    baseline = span_of(case.spans, "baseline")
    return baseline is not None and baseline.overlaps(case.saturated) and not case.cut_s


def _baseline_broken(target: TargetResult) -> bool:
    return target.primary and target.phase == "baseline" and target.outcome == "broken"


def _broken_in_baseline(target: TargetResult, case: Case) -> str:
    said = sentences.broken(target, control=case.plan.control_run)
    if _baseline_starved(case) and target.target in case.tainted:
        return f"What was seen meanwhile may be the generator's doing: {said[0].lower()}{said[1:]}"
    return said


def _lost_workers(case: Case) -> list[str]:
    lost = [event for event in case.history if isinstance(event, ev.LoadLost)]
    if any(isinstance(e, ev.Stopped) and e.why == "lost_load" for e in case.history):
        lost = [event for event in lost if event.worker is not None]
    found = []
    for event in lost:
        who = f"The load worker {event.worker}" if event.worker else "The load process"
        share = f" It had 1/{case.plan.load.workers} of the load." if event.worker else ""
        found.append(
            f"{who} was lost in the {phase_at(case.spans, event.at)} phase: {event.reason.rstrip('.')}.{share}"
        )
    missing, scheduled = case.lost
    if missing and found:
        found.append(f"{missing:,} of the {scheduled:,} arrivals scheduled from there on are not on record.")
    return found


def _early_end(case: Case) -> tuple[str, ...]:
    stopped = next((event for event in case.history if isinstance(event, ev.Stopped)), None)
    if stopped is not None:
        phase = phase_at(case.spans, stopped.at)
        if stopped.why == "interrupt":
            # The text says where as well ("SIGTERM in warmup").
            by = stopped.text.partition(" in ")[0].rstrip(". ")
            return (f"interrupted in {phase}{f' ({by})' if by else ''}.",)
        if stopped.why == "baseline_broken" and not any(_baseline_broken(t) for t in case.targets):
            return (f"Nothing was injected: {stopped.text.rstrip('.')}.",)
        if stopped.why == "baseline_broken" and _baseline_starved(case):
            return ("Targets were missed in baseline, so the run ended there.",)
        if stopped.why == "error" and stopped.text.startswith(ev.NOT_INJECTED):
            # What it met was there before: nothing of the harness has failed.
            return (f"{stopped.text[:1].upper()}{stopped.text[1:].rstrip('. :')}.",)
        return (_STOPPED[stopped.why].format(phase=phase, text=stopped.text).rstrip(". :") + ".",)
    if not any(isinstance(event, ev.Started) for event in case.history):
        return ("The load never started, so nothing was measured.",)
    if not any(isinstance(event, ev.LoadEnded) for event in case.history):
        written = list(itertools.takewhile(lambda event: not isinstance(event, ev.Healed), case.history))
        last = max(event.at for event in written)
        return (
            f"The record breaks off in the {phase_at(case.spans, last)} phase, {format_duration(max(0.0, last))} after "
            "the start: the run was killed or could no longer write.",
            *_healed(case),
        )
    return ()


def _healed(case: Case) -> tuple[str, ...]:
    """What became of the changes of a run that was killed, where somebody undid them."""
    healed = next((event for event in case.history if isinstance(event, ev.Healed)), None)
    if healed is None or case.left:
        return ()
    by = "The keeper" if healed.by == "keeper" else f'"{healed.by}"'
    return (f"{by} undid what the run had changed and verified it at {healed.wall}.",)


def _failures(case: Case) -> tuple[list[str], list[str]]:
    """(failures that stand, failures that a saturated generator may have made up)."""
    stand: list[str] = []
    doubtful: list[str] = []
    for target in case.targets:
        if not target.primary or target.outcome != "broken" or target.phase == "baseline":
            continue
        if target.traits.origin is Origin.RECOVERY and case.recovery.outcome == "not_recovered":
            continue  # said below, in better words
        (doubtful if target.target in case.tainted else stand).append(
            sentences.broken(target, control=case.plan.control_run)
        )
    if case.recovery.outcome == "not_recovered":
        # First: how it ended is what people ask about a service that did not come back.
        said = sentences.not_recovered(case.recovery, case.ending.not_recovered)
        (doubtful if RECOVERY in case.tainted else stand).insert(0, said)
    return stand, doubtful


def _undecided(case: Case) -> list[str]:
    """Rule 3. A target that does not apply to a control run is no missing data."""
    found = []
    for target in case.targets:
        if not target.primary or target.outcome in ("held", "broken"):
            continue
        if target.traits.origin is Origin.RECOVERY and case.plan.control_run:
            continue
        if target.outcome == "not_judged" and nothing_to_detect(target.metric, case.impact):
            continue
        if target.outcome == "not_judged" and _early_end(case):
            continue  # that the run ended early is the reason
        if target.phase == "after" and target.outcome == "not_judged" and case.recovery.outcome == "not_recovered":
            continue
        found.append(sentences.undecided(target))
    told = any(
        t.primary and t.traits.origin is Origin.RECOVERY and t.outcome not in ("held", "broken") for t in case.targets
    )
    if case.recovery.outcome == "undecided" and not told and not _early_end(case):
        # As `not recovered` fails whatever its target's rank: nobody knows whether the service is well again.
        found.append(sentences.recovery_undecided(case.recovery))
    return found


def _takes_pass_away(case: Case) -> list[str]:
    baseline = span_of(case.spans, "baseline")
    later = [s for s in case.saturated if baseline is None or s[1] > baseline.end_s]
    found = []
    if later and not _baseline_starved(case):
        found.append(_saturated(case))
    for phase, name, planned, sent in case.mix:
        found.append(
            f"In the {phase} phase {name} made up {format_percent(sent)} of the arrivals sent, not the planned "
            f"{format_percent(planned)}: the mix was not the one asked for."
        )
    return [*found, *case.unasked, *_unchecked(case), *_paths_unproven(case), *_not_well_at_the_end(case)]


def _not_well_at_the_end(case: Case) -> list[str]:
    """No phase is judged there, and a service that is dead at the end has not passed all the same."""
    found = []
    if case.fell is not None:
        low, high = (format_duration(at) for at in case.fell)
        found.append(f"Targets were broken from {low} to {high}, between the last judged phase and the end of load.")
    if case.ending.alarming:
        found.append(case.ending.last_word)
    return found


def _paths_unproven(case: Case) -> list[str]:
    """Nobody was seen on the path that a fault changed, and nothing began to fail with it either."""
    found = []
    for event in case.history:
        if not isinstance(event, ev.PathUnproven):
            continue
        fault = next((one for one in case.faults if one.name == event.fault), None)
        if fault is None or fault.injected_s is None or hurt_with(case, fault):
            continue
        found.append(
            f"Nothing shows that the application uses the path that {fault.name} changed: {event.missing.rstrip('.')}."
        )
    return found


def hurt_with(case: Case, fault: FaultResult) -> bool:
    """The service began to break a target when this fault came on: then it does use what was changed."""
    injected = fault.injected_s or 0.0
    end = min(fault.undone_s if fault.undone_s is not None else injected + HURT_WITHIN_S, injected + HURT_WITHIN_S)
    return case.before_s is None and any(injected - STEP_S <= start <= end for start, _ in case.violating)


def _unchecked(case: Case) -> list[str]:
    """Missing data never passes: promised, chosen to be read back, and nobody knows."""
    told = next((event for event in reversed(case.history) if isinstance(event, ev.ReadBack)), None)
    if told is None or _early_end(case) or not (told.unchecked or told.why):
        return []
    why = f": {told.why.rstrip('.')}" if told.why else ""
    if not told.chosen:
        return [f"The acknowledged writes could not be read back{why}."]
    return [f"{told.unchecked:,} of {told.chosen:,} acknowledged writes could not be read back{why}."]


def _saturated(case: Case) -> str:
    parts = ", ".join(f"{format_duration(a)} to {format_duration(b)}" for a, b in case.saturated[:3])
    more = " and later" if len(case.saturated) > 3 else ""
    return f"{sentences.GENERATOR} ({parts}{more})."


def _would(failures: Sequence[str]) -> list[str]:
    return [f"It would have failed: {text}" for text in failures]


def _passed(case: Case) -> list[str]:
    named = next((f"{name!r} {sentences.bad_times(*bad)}" for name, bad in case.by_name.items()), "")
    if case.violating_s > 0:
        more = f", and {named}" if named else ""
        first = f"PASS, but targets were broken for {format_duration(case.violating_s)}{more}."
    elif case.plan.control_run:
        first = "PASS: every primary target held in this control run (no fault was injected)."
    else:
        names = ", ".join(fault.name for fault in case.faults)
        first = f"PASS: every primary target held with {names} and after it{f', though {named}' if named else ''}."
    assumed = {fault.change.dependency.name for fault in case.plan.faults if fault.change.dependency.path_assumed}
    if assumed:
        what = (
            f"that the application uses the path to {', '.join(sorted(assumed))} is assumed (harness.toml), not proven"
        )
        first = f"PASS, but {what}: {first.removeprefix('PASS, but ').removeprefix('PASS: ')}"
    how = sentences.recovered(case.recovery, hurt=case.over_before)
    return [first, how] if how else [first]


def _warnings(case: Case) -> list[str]:
    cut = (
        [f"The load generator could not keep up for {format_duration(case.cut_s)} of baseline, which are left out."]
        if case.cut_s
        else []
    )
    stand: list[str] = []
    doubtful: list[str] = []
    for target in case.targets:
        if not target.primary and target.outcome == "broken":
            said = sentences.broken(target, control=case.plan.control_run)
            (doubtful if target.target in case.tainted else stand).append(said)
    return [*cut, *stand, *(f"This may be the load generator's doing: {text}" for text in doubtful)]


def _abort(case: Case) -> ev.Stopped | None:
    return next((e for e in case.history if isinstance(e, ev.Stopped) and e.why == "abort"), None)


def _exit_code(case: Case, verdict: Verdict) -> ExitCode:
    if case.left:
        return ExitCode.UNDO_UNVERIFIED
    if any(isinstance(e, ev.Stopped) and e.why == "interrupt" for e in case.history):
        return ExitCode.INTERRUPTED
    if any(isinstance(e, ev.Stopped) and e.why in WITHOUT_BASELINE for e in case.history):
        return ExitCode.INCONCLUSIVE
    if not case.baseline_judged:
        return ExitCode.HARNESS_FAILED
    return {"pass": ExitCode.PASS, "fail": ExitCode.FAIL, "inconclusive": ExitCode.INCONCLUSIVE}[verdict]
