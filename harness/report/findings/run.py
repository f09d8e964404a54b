"""Advice about the run itself: what spoils it, and what to try next."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from harness.analysis.verdict.sentences import names_generator
from harness.model.exit_codes import ExitCode
from harness.model.records.plan import Plan
from harness.model.records.result import ErrorResult, GeneratorResult, Result
from harness.plan.fault_text import harder_fault
from harness.report.findings.finding import Finding
from harness.report.sentences import text


def left_behind(plan: Plan, result: Result) -> Iterator[Finding]:
    left = [text.visible(fault.name, 60) for fault in result.faults if fault.undo_verified is False]
    if left or result.exit_code == ExitCode.UNDO_UNVERIFIED:
        yield Finding(
            key="undo-not-verified",
            title="A change may still be in place",
            seen=f"The undo of {', '.join(left) or 'a change'} could not be verified.",
            advice="Before anything else run harness heal RUN_DIR, which is safe to repeat; the reasons above say "
            "what is left and how to mend it by hand.",
        )


def saturated(plan: Plan, result: Result) -> Iterator[Finding]:
    generator = result.generator
    if generator and generator.saturated:
        length = sum(end - start for start, end in generator.saturated)
        late = sum(phase.unsent_by.get("generator", 0) for phase in result.phases)
        unsent = f"; {late:,} arrivals were not sent because of it" if late else ""
        busy = f", its busiest process used {text.percent(generator.cpu)} of a core" if generator.cpu else ""
        yield Finding(
            key="saturated-generator",
            title="The load generator could not keep up",
            seen=f"Saturated for {text.seconds(length)}{busy}; "
            f"arrivals were taken {text.ms(generator.lateness_p99_ms)} late at the 99th percentile{unsent}.",
            advice=f"Numbers from those stretches say as much about the generator as about the service. "
            f"{_generator_advice(generator)}",
        )


BUSY = 0.7
"""Of a core, as the mean over a run: a load process that used less waited for something else."""


def _generator_advice(generator: GeneratorResult) -> str:
    if generator.cpu is None or generator.cpu >= BUSY:
        return "Add load workers (--workers) on cores that are free, use another machine, or lower --scale or --rate."
    return (
        f"It used {text.percent(generator.cpu)} of a core, so more workers would not help: something else kept it "
        "waiting. Look for other work on this machine (the stack runs on it too), a machine that was paused, or a "
        "locustfile whose tasks block."
    )


def baseline(plan: Plan, result: Result) -> Iterator[Finding]:
    broken = [t for t in result.targets if t.phase == "baseline" and t.primary and t.outcome == "broken"]
    # A starved generator misses targets by itself; error replies it does not make up.
    if broken and not (names_generator(result.reasons) and _baseline_errors(result) is None):
        error = _baseline_errors(result)
        most = f' Most often: {error.kind}, "{text.excerpt(error.example, 120)}".' if error is not None else ""
        yield Finding(
            key="baseline-broken",
            title="The service missed its targets before anything was broken",
            seen="In baseline: " + ", ".join(text.visible(t.target, 60) for t in broken) + f".{most}",
            advice=f"A fault on top would prove nothing, so none was injected. {_baseline_advice(plan, result, error)}",
        )


def _baseline_errors(result: Result) -> ErrorResult | None:
    """What most of baseline's failures are, where most requests failed; None where they did not."""
    phase = result.phase("baseline")
    if phase is None or (phase.error_rate or 0.0) < 0.5:
        return None
    return max((e for e in result.errors if e.first_s < phase.end_s), key=lambda e: e.count, default=None)


def _baseline_advice(plan: Plan, result: Result, error: ErrorResult | None) -> str:
    """Less load mends only what load breaks."""
    status = re.search(r"\b[45]\d\d\b", error.example) if error is not None and error.kind == "status" else None
    if error is not None and error.kind == "refused":
        return (
            f"Nothing accepts connections at {text.visible(plan.load.host or result.target_url, 120)}: start the "
            "service, or correct the address; harness stack status says what answers."
        )
    if status is not None and status[0] in ("401", "403"):
        return (
            "The service refuses the requests: give the load its login (tokens, headers, on_start of the locustfile)."
        )
    if status is not None and status[0].startswith("4"):
        return "The service does not accept these requests: do paths and bodies of the locustfile fit this service?"
    if error is not None and error.kind in ("exception", "check", "protocol"):
        return "Nearly every request fails the same way, whatever the load: look at the example, and at the locustfile."
    if error is not None and (phase := result.phase("baseline")) is not None and phase.error_rate == 1:
        return (
            "Not one request succeeded, so the load is not the reason: look at what the requests need (address, path, "
            "credentials)."
        )
    return (
        "Lower the load (--scale, --rate) until baseline is clean, lengthen --warmup if the service starts cold, or "
        "set targets the service can meet."
    )


def unproven(plan: Plan, result: Result) -> Iterator[Finding]:
    for fault in result.faults:
        if fault.injected_s is not None and not fault.proven:
            missing = text.visible(fault.missing, 200) if fault.missing else "some of the evidence"
            yield Finding(
                key="fault-not-proven",
                title=f"{text.visible(fault.name, 60)} was not proven",
                seen=f"Missing: {missing}.",
                advice="A fault counts only when the service really met it. Check that the service's connection "
                "settings point at the proxy and not at the server itself, that nothing reconnects around it, "
                "and that the traffic of this scenario uses the dependency.",
            )


def undecided(plan: Plan, result: Result) -> Iterator[Finding]:
    open_ = [t for t in result.targets if t.primary and t.outcome == "undecided"]
    if open_:
        yield Finding(
            key="undecided",
            title="Too few requests, or too close to the limit, to decide",
            seen="Undecided: " + ", ".join(text.visible(t.target, 60) for t in open_[:6]) + ".",
            advice="Raise the rate (--rate, --scale) or lengthen the phase (--baseline, --fault-for, --hold) so that "
            "more requests speak. When the value sits on the limit itself, repeat the run and "
            "treat the limit as reached.",
        )


def unsent(plan: Plan, result: Result) -> Iterator[Finding]:
    """By cause, and of each only where it was seen. What a starved generator left is said with that (`saturated`)."""
    by: Counter[str] = Counter()
    for phase in result.phases:
        by.update(phase.unsent_by)
    own = []
    if by["task"]:
        own.append(f"{by['task']:,} arrivals were not sent: most users were in a task's own time (waits, own work).")
    if by["task_start"]:
        own.append(f"{by['task_start']:,} arrivals were not sent: no new user could start, {_NOT_THE_SERVICE}.")
    if own:
        wait = "Take the wait out of the task (the schedule decides when the next one starts), raise --max-in-flight, "
        start = "Mend what keeps users from starting: the example among the errors names it. "
        yield Finding(
            key="unsent-task",
            title="Requests found nobody to send them: the locustfile's users were "
            + ("busy with themselves" if by["task"] else "unable to start"),
            seen=f"{' '.join(own)} This is not the service's doing.",
            advice=(start if by["task_start"] else "")
            + (f"{wait}lower --rate, or run --model closed, where users pace themselves." if by["task"] else ""),
        )
    theirs = []
    if by["cap"]:
        theirs.append(
            f"{by['cap']:,} arrivals were not sent: every user was waiting for the service, or still starting."
        )
    if by["cap_start"]:
        theirs.append(f"{by['cap_start']:,} arrivals were not sent: the service kept new users from starting.")
    if theirs:
        longer = "The service held requests open for too long: look for the missing time-out first. Raise "
        longer += f"--max-in-flight (now {plan.load.max_in_flight:,}) only if the service is meant to hold that many."
        yield Finding(
            key="unsent",
            title="Requests found nobody to send them",
            seen=" ".join(theirs),
            advice="Real callers would have been turned away too, so these count as failures. "
            + (longer if by["cap"] else "Look at what users ask for before their first task (on_start)."),
        )


_NOT_THE_SERVICE = "and no request of theirs to the service had failed"


def next_experiment(plan: Plan, result: Result) -> Iterator[Finding]:
    if result.verdict != "pass":
        return
    faults = plan.faults
    if not faults:
        yield Finding(
            key="next-experiment",
            title="Now break something",
            seen="The control run held every target.",
            advice="Run the same scenario with a fault, for example --fault redis-down; harness faults lists them.",
        )
        return
    harder = harder_fault(faults)
    other = f"--fault {text.visible(harder, 80)}" if harder else ""
    yield Finding(
        key="next-experiment",
        title="Make it harder",
        seen=f"The service kept its targets with {', '.join(sorted(text.visible(f.id, 60) for f in faults))}.",
        advice="Try the failure that most often hurts a service which survives this one "
        f"({other or 'two faults at once'}), "
        + ("a larger --scale, " if plan.scale < 1 else "")
        + "a longer --fault-for, and put this run into CI so that it stays so.",
    )
