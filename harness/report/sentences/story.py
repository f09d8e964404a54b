"""The sentences of a report: what happened, for someone who has one minute."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec

from harness.analysis.record.spans import one_shots
from harness.analysis.verdict.sentences import bad_times, failed_of, names_generator
from harness.model.exit_codes import ExitCode
from harness.model.one_call import one_call
from harness.model.records.metrics import ALLOWED_OVER, Origin
from harness.model.records.plan import Plan
from harness.model.records.result import FaultResult, NameResult, RecoveryResult, RequestResult, Result
from harness.model.records.targets import Target
from harness.plan.warnings import is_scaled
from harness.report.sentences import text
from harness.report.sentences.after_load import alarm, at_the_end
from harness.report.sentences.assessment import Line, assess, interval
from harness.report.sentences.by_request_name import PHASE_WORDS, failing, slowed
from harness.report.sentences.moved import moved
from harness.report.sentences.shrunk import shrunk

RESENT_LEAST = 10
RESENT_TIMES = 4.0
"""So many times as often as in baseline, where a server may close connections that were idle."""


def lines_of(plan: Plan, result: Result, extra: Sequence[Target] = ()) -> tuple[Line, ...]:
    """One line a target. extra: targets that were asked for beside those of the plan."""
    return assess((*extra, *plan.targets), result.targets, rate=plan.load.rate, recovery=result.recovery)


def fault_names(plan: Plan) -> str:
    """`redis-down`, `redis-down and kafka-latency`; `no fault` for a control run."""
    names = list(dict.fromkeys(text.visible(fault.id, 60) for fault in plan.faults))
    if not names:
        return "no fault"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def title(plan: Plan) -> str:
    """What a run is called where its faults stand: of one without any that it is a control run."""
    return "control run, no fault" if plan.control_run else fault_names(plan)


def undo_words(plan: Plan, fault: FaultResult) -> str:
    """`undone at 132.4s and verified`, or what is the case instead."""
    if fault.undone_s is None and fault.undo_verified is not False and fault.name in one_shots(plan):
        return "nothing to undo (one-shot)" + (", and verified" if fault.undo_verified else "")
    if fault.mended_s is not None:
        return f"ended by hand at {text.moment(fault.mended_s)}" + (" and verified" if fault.undo_verified else "")
    undone = "undo not recorded" if fault.undone_s is None else f"undone at {text.moment(fault.undone_s)}"
    return undone + {True: " and verified", False: ", NOT VERIFIED", None: ", not verified yet"}[fault.undo_verified]


def headline(plan: Plan, result: Result) -> str:
    """One sentence a manager understands, two when a change was left behind. Begins with the verdict's word."""
    left = " A change may still be in place: see the reasons." if result.exit_code == ExitCode.UNDO_UNVERIFIED else ""
    return _sentence(plan, result) + left


def _sentence(plan: Plan, result: Result) -> str:
    control = plan.control_run
    subject = "in a control run, without any fault" if control else f"with {fault_names(plan)}"
    broken = by_harm(lines_of(plan, result), result)
    match result.verdict:
        case "pass":
            return _passed(plan, result, subject)
        case "fail":
            if result.acknowledged is not None and result.acknowledged.lost:
                more = f" Also, {broken_clause(broken[0], result, control)}." if broken else ""
                return f"FAIL: {subject}, the service lost {result.acknowledged.lost:,} acknowledged writes.{more}"
            if not broken:
                return f"FAIL: {_first_reason(result)}"
            shown = "; ".join(broken_clause(line, result, control) for line in broken[:2])
            left = len(broken) - 2
            more = f"; and {left} more {'targets were' if left > 1 else 'target was'} broken" if left > 0 else ""
            return f"FAIL: {subject}, {shown}{more}{at_the_end(result)}."
        case "inconclusive":
            what = "this control run, without any fault, cannot say whether the service keeps its targets"
            if not control:
                what = "this run cannot say whether the service copes"
            if names_generator(result.reasons):
                # Before anything that the service seems to have done: it may be the generator's doing.
                return f"INCONCLUSIVE: the load generator could not keep up, so {what}."
            if any(t.phase == "baseline" and t.primary and t.outcome == "broken" for t in result.targets):
                missed = "INCONCLUSIVE: the service missed its targets"
                if control:
                    return f"{missed} in a control run, although nothing was broken: mend that before a fault."
                return f"{missed} before anything was broken, so this run says nothing about the fault."
            if bad := alarm(result):
                kept = all(t.outcome in ("held", "not_judged") for t in result.targets if t.primary)
                return f"INCONCLUSIVE: {bad}" + (f"; {subject} it kept every target over each phase." if kept else ".")
            why = _first_reason(result)
            # A long reason is listed below the sentence; in it, it would bury the point.
            return f"INCONCLUSIVE: {what}." + (f" {why}" if len(why) < 160 else "")


def _passed(plan: Plan, result: Result, subject: str) -> str:
    """What held, and with it whatever a caller noticed all the same: "no impact" only where nothing did."""
    violating = result.impact.violating_s if result.impact else 0.0
    hurt = hurt_clause(result)
    if violating > 0:
        also = f"; {hurt}" if hurt else ""
        return (
            f"PASS, but targets were broken for {text.seconds(violating)} {subject}; over each phase they held{also}."
        )
    if plan.control_run:
        return f"PASS: {subject}, the service kept every target."
    if hurt:
        return f"PASS: {subject}, the targets held, but {hurt}."
    return f"PASS: {subject}, the service kept every target{_recovered_clause(result)}."


def hurt_clause(result: Result) -> str:
    """What callers noticed although targets held: names that failed, who was not let in, what the service gave instead;
    else empty."""
    found = failing(result)
    if found:
        more = f", and {len(found) - 1} more request names failed" if len(found) > 1 else ""
        allowed = {n.name for t in result.targets for n in t.names if n.outcome == "allowed" and t.phase == "fault"}
        declared = ", which is allowed" if found[0].name in allowed else ""
        return f"{found[0].said}{declared}{more}"
    if result.impact is not None and result.impact.by_name:
        (name, bad), *others = result.impact.by_name.items()
        more = f", and {len(others)} more request names were hurt" if others else ""
        return f"{text.visible(name, 80)} {bad_times(bad, result.impact.by_name_failed.get(name))}{more}"
    if newcomers := _newcomers(result):
        return newcomers
    if twice := _sent_twice(result):
        return twice
    if small := shrunk(result):
        more = f", and those to {len(small) - 1} more request names shrank as well" if len(small) > 1 else ""
        return f"{small[0].said}{more}"
    if changed := moved(result)[:2]:
        return f"not as before: {', '.join(one.said for one in changed)}"
    return ""


def _sent_twice(result: Result) -> str:
    """Requests that went well only because the load, as a browser would, sent them once more."""
    before, fault = result.phase("baseline"), result.phase("fault")
    if before is None or fault is None or not before.requests or fault.resent < RESENT_LEAST:
        return ""
    if fault.resent / fault.requests < RESENT_TIMES * before.resent / before.requests:
        return ""
    return (
        f"{fault.resent:,} of {fault.requests:,} requests were answered only when they were sent once more, after the "
        "service had closed their connection"
    )


def _newcomers(result: Result) -> str:
    """Who had no connection, or was no user yet: the requests that are judged do not have them."""
    injected = min((fault.injected_s for fault in result.faults if fault.injected_s is not None), default=0.0)
    shut = sum(max(0.0, end - max(start, injected)) for start, end in result.fresh_connections or ())
    if shut > 0:
        return f"new connections failed for {text.seconds(shut)} while open ones were served"
    failed, asked = sum(row.failures for row in result.setup), sum(row.requests for row in result.setup)
    if failed:
        return f"{failed:,} of {asked:,} requests outside of tasks (on_start) failed"
    return ""


def by_harm(lines: tuple[Line, ...], result: Result) -> list[Line]:
    """The broken primary targets, the one that hurt the largest share of the requests first."""
    broken = [line for line in lines if line.outcome == "broken" and line.primary]
    return sorted(broken, key=lambda line: -_harm(line, result))


def _harm(line: Line, result: Result) -> float:
    """The share of requests that a broken target stands for, as far as the result shows it. A name that is broken by
    itself comes before all: nobody would look for it."""
    worst = line.worst
    if not _whole_broken(line):
        return 2.0
    traits = worst.traits
    if traits.share:
        return worst.observed if worst.observed is not None else 1.0
    if traits.origin is Origin.RECOVERY:
        never = result.recovery is not None and result.recovery.outcome == "not_recovered"
        return 0.5 if never else 0.3
    if traits.of_plan and worst.observed is not None and worst.limit:
        return max(0.0, 1 - worst.observed / worst.limit)
    if worst.metric in ALLOWED_OVER:
        phase = result.phase(worst.phase)
        if worst.observed is None and phase is not None and phase.error_rate is not None:
            return 1 - phase.error_rate  # nothing succeeded: the failed share says so better
        if worst.observed is None or phase is None or worst.limit is None:
            return 0.9
        # At least so many of the successful requests are as slow as the percentile.
        known = (phase.p50_ms, 0.5), (phase.p95_ms, 0.05), (phase.p99_ms, 0.01)
        slow = [over for q, over in known if q is not None and q >= worst.limit]
        return max([ALLOWED_OVER[worst.metric], *slow]) * (1 - (phase.error_rate or 0.0))
    return 0.0


def _broken_names(line: Line) -> list[NameResult]:
    return [found for found in line.worst.names if found.outcome == "broken"]


def _whole_broken(line: Line) -> bool:
    """Over all requests, and not only of a name that is judged by itself."""
    worst = line.worst
    if not _broken_names(line) or worst.observed is None or worst.limit is None:
        return True
    return worst.observed >= worst.limit


def other_reasons(result: Result, first: str) -> tuple[str, ...]:
    """The reasons that the first sentence does not give in its own words already."""
    shown = (text.visible(reason, 600) for reason in result.reasons)
    said = first.lower()
    return tuple(r for r in shown if not r.startswith("PASS") and r.rstrip(".").lower() not in said)


def _recovered_clause(result: Result) -> str:
    recovery, impact = result.recovery, result.impact
    if recovery is None:
        return ""
    match recovery.outcome:
        case "no_impact" if impact is not None and impact.start_s is None and not impact.by_name:
            if impact.failed_requests:
                few = impact.failed_requests
                return f"; {few:,} request{'s' if few > 1 else ''} failed from the injection on"
            slow = slowed(result)
            if slow:
                return f"; {len(slow)} request names got slower, {text.visible(slow[0], 80)} for one"
            return ", and its users saw no impact"
        case "recovered" if recovery.seconds is not None and not recovery.graded:
            return f" and recovered in {text.seconds(recovery.seconds)}"
        case "recovered" if recovery.graded:
            return f" and came back by degrees, {interval(recovery)} after the undo"
        case _:
            return ""


def _first_reason(result: Result) -> str:
    if not result.reasons:
        return "No reason was recorded."
    reason = text.visible(result.reasons[0], 300)
    reason = reason[:1].upper() + reason[1:]
    return reason if reason.endswith(".") else f"{reason}."


def broken_clause(line: Line, result: Result, control: bool = False) -> str:
    """`12.4% of requests failed during the fault (target: <1%)`; of a target of one name, or one that only some names
    break, that name's own numbers."""
    worst = line.worst
    words = _CONTROL_WORDS if control else PHASE_WORDS
    when = words.get(worst.phase or "", "")
    target = f"(target: {line.limit})"
    names = _broken_names(line)
    if names and not _whole_broken(line):
        more = f", and {len(names) - 1} more request names broke it" if len(names) > 1 else ""
        bad = bad_times(names[0].bad, failed_of(names[0], worst), names[0].n)
        said = f"{text.visible(names[0].name, 80)} {bad}"
        return " ".join(part for part in (said, when, f"(target: {line.limit}, of every request name)") if part) + more
    of = f" of {text.visible(line.of, 80)}" if line.of else ""
    metric = line.label.removesuffix(" Target").partition(" {")[0].removesuffix(" Target")
    if worst.traits.origin is Origin.RECOVERY:
        return f"{_recovery_words(line, result.recovery)} {target}"
    if worst.observed is None and worst.traits.origin is Origin.REQUESTS:
        said = f"not one request{of} succeeded, so there is no {metric}"
    elif worst.observed is None:
        said = f"{metric}{of}: {text.visible(worst.why, 300) or 'there is none'}"
    else:
        few, the = "only " if ">" in line.limit else "", "the " if of else ""
        said = worst.traits.headline.format(metric=metric, seen=line.observed, of=of, few=few, the=the)
        if worst.traits.share and names and names[0].bad / names[0].n >= 1.5 * worst.observed:
            when = f"{when}, {text.visible(names[0].name, 80)} {names[0].bad:,} of {names[0].n:,} times".strip(", ")
    return " ".join(part for part in (said, when, target) if part)


_CONTROL_WORDS = {"baseline": "in baseline", "fault": "in the fault phase", "after": "at the end"}


def _recovery_words(line: Line, recovery: RecoveryResult | None) -> str:
    if recovery is not None and recovery.outcome == "not_recovered":
        waited = f" within {text.seconds(recovery.lower_s)}" if recovery.lower_s is not None else ""
        return f"it did not recover{waited} after the undo"
    if line.worst.observed is None:
        return "it took too long to recover"
    return f"it took {line.observed} to recover"


def scale_sentence(plan: Plan) -> str | None:
    """None at full scale or above."""
    if not is_scaled(plan):
        return None
    return (
        f"This run was at {plan.scale * 100:g} % of the {plan.scenario.name} load; "
        "this does not show that the full load holds."
    )


def load_sentence(plan: Plan) -> str:
    """`200 requests a second, open model, 100 users at most ...`."""
    load = plan.load
    if load.rate is not None:
        return f"{load.rate:,g} arrivals a second ({load.model} model, {load.arrivals})"
    return f"{load.users:,} users as fast as they go ({load.model} model)"


def reproduce(plan: Plan) -> str:
    """The command that repeats this run exactly, seed included. People paste it, and the record may be anybody's: what
    is no single call of the harness is not repeated."""
    command = plan.provenance.command if plan.provenance else ""
    if not one_call(command):
        faults = [word for fault in plan.faults for word in ("--fault", fault.spec.text or fault.spec.name)]
        words = [*(faults or ["--fault", "none"]), "--scenario", plan.scenario.name, "--scale", f"{plan.scale:g}"]
        command = shlex.join(["harness", "run", *words])
    return command if "--seed" in command else f"{command} --seed {plan.seed}"


AGGREGATED = "Aggregated"


def totals(result: Result) -> RequestResult:
    """Of every phase, warm-up included, in Locust's terms. Percentiles are None when the result does not carry them."""
    whole = next((row for row in result.totals if row.name == AGGREGATED), None)
    if whole is not None:
        rate = whole.failures / whole.requests if whole.requests else None
        return msgspec.structs.replace(whole, error_rate=rate)
    requests = sum(phase.requests for phase in result.phases)
    failures = sum(phase.failures for phase in result.phases)
    length = sum(phase.end_s - phase.start_s for phase in result.phases)
    weighed = [(p.mean_ms, p.requests - p.failures) for p in result.phases if p.mean_ms is not None]
    weight = sum(n for _, n in weighed)
    return RequestResult(
        name=AGGREGATED,
        phase="all",
        requests=requests,
        failures=failures,
        unfinished=0,
        backfilled=0,
        error_rate=failures / requests if requests else None,
        rps=requests / length if length > 0 else None,
        mean_ms=sum(mean * n for mean, n in weighed) / weight if weight else None,
        p50_ms=None,
        p95_ms=None,
        p99_ms=None,
        max_ms=max((p.max_ms for p in result.phases if p.max_ms is not None), default=None),
    )


def unsent(result: Result) -> int:
    return sum(phase.unsent for phase in result.phases)


def request_rows(result: Result) -> tuple[RequestResult, ...]:
    """By request name: the whole run where the result has it, else the phase the verdict is about."""
    if result.totals:
        return tuple(row for row in result.totals if row.name != AGGREGATED)
    phases = {row.phase for row in result.requests}
    shown = next((phase for phase in ("fault", "baseline", "warmup") if phase in phases), None)
    return tuple(row for row in result.requests if row.phase == shown)


def not_measured(plan: Plan, result: Result) -> tuple[str, ...]:
    """What this run says nothing about, plainly."""
    said: list[str] = []
    if is_scaled(plan):
        said.append(
            f"Full load: this run used {plan.scale * 100:g} % of the {plan.scenario.name} load. "
            "Saturation, queueing and pool exhaustion at full load were not exercised."
        )
    if plan.stack in ("embedded", "compose"):
        said.append(
            "Your production system: service, dependencies and load shared one machine, so absolute latencies "
            "are not those of a deployment."
        )
    if plan.control_run:
        said.append("Any fault: this was a control run.")
    else:
        said.append(f"Any fault but {fault_names(plan)}, and any combination or longer duration than the one shown.")
    if any(p.failures for p in result.phases) and all(p.failed_p50_ms is None for p in result.phases):
        said.append("How long failed requests took: percentiles are of successful requests.")
    errors = "" if any(fault.spec.kind == "status" for fault in plan.faults) else "HTTP error injection, "
    said.append(f"Correctness beyond the checks in the locustfile; {errors}DNS, packet loss, full disks, clock skew.")
    if result.memory is None or result.memory.outcome == "not_judged":
        why = f": {text.visible(result.memory.why)}" if result.memory and result.memory.why else ""
        said.append(f"Memory growth{why}. A leak needs a longer run (see --soak).")
    if not result.signals:
        said.append("The service's own metrics: none were read.")
    if not result.cpu_by_phase:
        said.append("CPU and memory of the service: its processes were not visible to the harness.")
    skipped = [line.name for line in lines_of(plan, result) if line.outcome == "not_judged"]
    if skipped:
        said.append(f"Targets not judged: {', '.join(skipped)}.")
    return tuple(said)
