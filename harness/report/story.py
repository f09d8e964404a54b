"""The sentences of a report: what happened, for someone who has one minute."""

from __future__ import annotations

import msgspec

from harness.analysis.spans import one_shots
from harness.model.exit_codes import ExitCode
from harness.model.plan import Plan
from harness.model.result import FaultResult, RequestResult, Result
from harness.report import text
from harness.report.assessment import Line, assess_result, interval
from harness.report.ending import alarm, at_the_end

PHASE_WORDS = {
    "baseline": "before the fault",
    "fault": "during the fault",
    "after": "after recovery",
}

_MODEL_WORDS = {"open": "open model", "closed": "closed model"}


def lines_of(plan: Plan, result: Result) -> tuple[Line, ...]:
    return assess_result(plan.targets, plan.load.rate, result)


def fault_names(plan: Plan) -> str:
    """`redis-down`, `redis-down and kafka-latency`; `no fault` for a control run."""
    names = list(dict.fromkeys(text.visible(fault.id, 60) for fault in plan.faults if fault.spec.kind != "none"))
    if not names:
        return "no fault"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def is_control(plan: Plan) -> bool:
    return all(fault.spec.kind == "none" for fault in plan.faults)


def undo_words(plan: Plan, fault: FaultResult) -> str:
    """`undone at 132.4s and verified`, or what is the case instead."""
    if fault.undone_s is None and fault.undo_verified is not False and fault.name in one_shots(plan):
        return "nothing to undo (one-shot)" + (", and verified" if fault.undo_verified else "")
    undone = "undo not recorded" if fault.undone_s is None else f"undone at {text.moment(fault.undone_s)}"
    return undone + {True: " and verified", False: ", NOT VERIFIED", None: ", not verified yet"}[fault.undo_verified]


def headline(plan: Plan, result: Result) -> str:
    """One sentence a manager understands, two when a change was left behind. Begins with the verdict's word."""
    left = " A change may still be in place: see the reasons." if result.exit_code == ExitCode.UNDO_UNVERIFIED else ""
    return _sentence(plan, result) + left


def _sentence(plan: Plan, result: Result) -> str:
    subject = "without any fault" if is_control(plan) else f"with {fault_names(plan)}"
    broken = [line for line in lines_of(plan, result) if line.outcome == "broken" and line.primary]
    match result.verdict:
        case "pass":
            violating = result.impact.violating_s if result.impact else 0.0
            if result.after_load is not None and (bad := alarm(result)):
                after = f"{bad} {text.seconds(result.after_load.seconds)} after the load had ended"
                return f"PASS, but {after}; {subject} it kept every target over each phase."
            if violating > 0:
                return (
                    f"PASS, but targets were broken for {text.seconds(violating)} {subject}; over each phase they held."
                )
            ending = "" if is_control(plan) else _recovered_clause(result)
            return f"PASS: {subject}, the service kept every target{ending}."
        case "fail":
            if result.acknowledged is not None and result.acknowledged.lost:
                more = f" Also, {broken_clause(broken[0])}." if broken else ""
                return f"FAIL: {subject}, the service lost {result.acknowledged.lost:,} acknowledged writes.{more}"
            if not broken:
                return f"FAIL: {_first_reason(result)}"
            shown = "; ".join(broken_clause(line) for line in broken[:2])
            more = f"; and {len(broken) - 2} more targets were broken" if len(broken) > 2 else ""
            return f"FAIL: {subject}, {shown}{more}{at_the_end(result)}."
        case "inconclusive":
            if any(t.phase == "baseline" and t.primary and t.outcome == "broken" for t in result.targets):
                missed = "INCONCLUSIVE: the service missed its targets"
                if is_control(plan):
                    return f"{missed} although nothing was broken: mend that before a run with a fault."
                return f"{missed} before anything was broken, so this run says nothing about the fault."
            why = _first_reason(result)
            # A long reason is listed below the sentence; in it, it would bury the point.
            return "INCONCLUSIVE: this run cannot say whether the service copes." + (
                f" {why}" if len(why) < 160 else ""
            )


def other_reasons(result: Result, first: str) -> tuple[str, ...]:
    """The reasons that the first sentence does not give in its own words already."""
    shown = (text.visible(reason, 600) for reason in result.reasons)
    said = first.lower()
    return tuple(r for r in shown if not r.startswith("PASS") and r.rstrip(".").lower() not in said)


def _recovered_clause(result: Result) -> str:
    if result.recovery is None:
        return ""
    match result.recovery.outcome:
        case "no_impact":
            return ", and its users saw no impact"
        case "recovered" if result.recovery.seconds is not None:
            return f" and recovered in {text.seconds(result.recovery.seconds)}"
        case _:
            return ""


def _first_reason(result: Result) -> str:
    if not result.reasons:
        return "No reason was recorded."
    reason = text.visible(result.reasons[0], 300)
    reason = reason[:1].upper() + reason[1:]
    return reason if reason.endswith(".") else f"{reason}."


def broken_clause(line: Line) -> str:
    """`12.4% of requests failed during the fault (target: <1%)`."""
    worst = line.worst
    when = PHASE_WORDS.get(worst.phase or "", "")
    target = f"(target: {line.limit})"
    match worst.metric:
        case "error_rate" if worst.observed is not None:
            words = f"{line.observed} of requests failed"
        case "rps" if worst.observed is not None:
            few = "only " if ">" in line.limit else ""
            words = f"{few}{line.observed} requests a second were answered"
        case "recovery":
            if worst.observed is None:
                return f"it did not recover {target}"
            return f"it took {line.observed} to recover {target}"
        case "violating":
            words = f"targets were broken for {line.observed}"
        case _ if worst.observed is not None:
            words = f"{line.label.removesuffix(' Target')} was {line.observed}"
        case _:
            words = f"{line.label.removesuffix(' Target')} had no successful request to measure"
    return " ".join(part for part in (words, when, target) if part)


def recovery_sentence(plan: Plan, result: Result) -> str:
    """How long recovery took, with its interval and what it is counted from."""
    recovery = result.recovery
    if is_control(plan):
        return "No fault was injected, so there was nothing to recover from."
    if recovery is None:
        return "Recovery was not judged."
    why = f": {text.visible(recovery.why, 300).rstrip('.')}" if recovery.why else ""
    match recovery.outcome:
        case "no_impact":
            upper = f" (at most {text.seconds(recovery.upper_s)})" if recovery.upper_s is not None else ""
            return f"Targets held from the moment the undo was verified: no recovery was needed{upper}{why}."
        case "recovered":
            between = interval(recovery)
            return (
                f"Recovered {text.seconds(recovery.seconds)} after the undo took effect"
                + (f", {between}" if between else "")
                + (
                    f"; {text.seconds(recovery.from_undo_requested_s)} after the undo was requested"
                    if recovery.from_undo_requested_s is not None
                    else ""
                )
                + (_relapses(len(recovery.relapses)) if recovery.relapses else "")
                + f"{why}."
            )
        case "not_recovered":
            waited = f" within {text.seconds(recovery.lower_s)}" if recovery.lower_s is not None else ""
            return f"Did not recover{waited} after the undo took effect{why}."
        case "undecided":
            return f"Whether it recovered is undecided{why}."
        case "not_judged":
            return f"Recovery was not judged{why}."


def _relapses(n: int) -> str:
    return f"; it relapsed {n} time{'s' if n > 1 else ''}, and the last recovery counts"


def scale_sentence(plan: Plan) -> str | None:
    """None at full scale or above."""
    if plan.scale >= 1:
        return None
    return (
        f"This run was at {plan.scale * 100:g} % of the {plan.scenario.name} load; "
        "this does not show that the full load holds."
    )


def load_sentence(plan: Plan) -> str:
    """`200 requests a second, open model, 100 users at most ...`."""
    load = plan.load
    if load.rate is not None:
        return f"{load.rate:,g} arrivals a second ({_MODEL_WORDS[load.model]}, {load.arrivals})"
    return f"{load.users:,} users as fast as they go ({_MODEL_WORDS[load.model]})"


def reproduce(plan: Plan) -> str:
    """The command that repeats this run exactly, seed included."""
    command = plan.provenance.command if plan.provenance else ""
    if not command:
        faults = " ".join(f"--fault {fault.spec.text or fault.spec.name}" for fault in plan.faults) or "--fault none"
        command = f"harness run {faults} --scenario {plan.scenario.name} --scale {plan.scale:g}"
    return command if "--seed" in command else f"{command} --seed {plan.seed}"


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run in Locust's terms. Percentiles are None when the result does not carry them."""

    requests: int
    failures: int
    unsent: int
    error_rate: float | None
    rps: float | None
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None


AGGREGATED = "Aggregated"


def totals(result: Result) -> Totals:
    """Of every phase, warm-up included, as a Locust summary is."""
    whole = next((row for row in result.totals if row.name == AGGREGATED), None)
    requests = sum(phase.requests for phase in result.phases)
    failures = sum(phase.failures for phase in result.phases)
    unsent = sum(phase.unsent for phase in result.phases)
    if whole is not None:
        return Totals(
            requests=whole.requests,
            failures=whole.failures,
            unsent=unsent,
            error_rate=whole.failures / whole.requests if whole.requests else None,
            rps=whole.rps,
            mean_ms=whole.mean_ms,
            p50_ms=whole.p50_ms,
            p95_ms=whole.p95_ms,
            p99_ms=whole.p99_ms,
            max_ms=whole.max_ms,
        )
    length = sum(phase.end_s - phase.start_s for phase in result.phases)
    weighed = [(p.mean_ms, p.requests - p.failures) for p in result.phases if p.mean_ms is not None]
    weight = sum(n for _, n in weighed)
    return Totals(
        requests=requests,
        failures=failures,
        unsent=unsent,
        error_rate=failures / requests if requests else None,
        rps=requests / length if length > 0 else None,
        mean_ms=sum(mean * n for mean, n in weighed) / weight if weight else None,
        p50_ms=None,
        p95_ms=None,
        p99_ms=None,
        max_ms=max((p.max_ms for p in result.phases if p.max_ms is not None), default=None),
    )


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
    if plan.scale < 1:
        said.append(
            f"Full load: this run used {plan.scale * 100:g} % of the {plan.scenario.name} load. "
            "Saturation, queueing and pool exhaustion at full load were not exercised."
        )
    if plan.stack in ("embedded", "compose"):
        said.append(
            "Your production system: service, dependencies and load shared one machine, so absolute latencies "
            "are not those of a deployment."
        )
    if is_control(plan):
        said.append("Any fault: this was a control run.")
    else:
        said.append(f"Any fault but {fault_names(plan)}, and any combination or longer duration than the one shown.")
    said.append("Latency of failed requests: percentiles are of successful requests; failures count in the error rate.")
    said.append(
        "Correctness beyond the checks in the locustfile; HTTP error injection, DNS, packet loss, full disks, "
        "clock skew."
    )
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
