"""Advice about the run itself: what spoils it, and what to try next."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.exit_codes import ExitCode
from harness.model.plan import Plan
from harness.model.result import Result
from harness.report import text
from harness.report.finding import Finding, real_faults


def left_behind(plan: Plan, result: Result) -> Iterator[Finding]:
    left = [text.visible(fault.name, 60) for fault in result.faults if fault.undo_verified is False]
    if left or result.exit_code == ExitCode.UNDO_UNVERIFIED:
        yield Finding(
            key="undo-not-verified",
            title="A change may still be in place",
            seen=f"The undo of {', '.join(left) or 'a change'} could not be verified.",
            advice="Before anything else run `harness heal RUN_DIR`, which is safe to repeat; the reasons above say "
            "what is left and how to mend it by hand.",
        )


def saturated(plan: Plan, result: Result) -> Iterator[Finding]:
    generator = result.generator
    if generator and generator.saturated:
        length = sum(end - start for start, end in generator.saturated)
        busy = f", its busiest process used {text.percent(generator.cpu)} of a core" if generator.cpu else ""
        yield Finding(
            key="saturated-generator",
            title="The load generator could not keep up",
            seen=f"Saturated for {text.seconds(length)}{busy}; "
            f"arrivals were taken {text.ms(generator.lateness_p99_ms)} late at the 99th percentile.",
            advice="Numbers from those stretches say as much about the generator as about the service. Add load "
            "workers (--workers), or lower --scale or --rate.",
        )


def baseline(plan: Plan, result: Result) -> Iterator[Finding]:
    broken = [t for t in result.targets if t.phase == "baseline" and t.primary and t.outcome == "broken"]
    if broken:
        yield Finding(
            key="baseline-broken",
            title="The service missed its targets before anything was broken",
            seen="In baseline: " + ", ".join(text.visible(t.target, 60) for t in broken) + ".",
            advice="A fault on top would prove nothing, so none was injected. "
            + (
                "Not one request succeeded, so the load is not the reason: look at what the requests need (address, "
                "path, credentials)."
                if any(phase.name == "baseline" and phase.error_rate == 1 for phase in result.phases)
                else "Lower the load (--scale, --rate) until baseline is clean, lengthen --warmup if the service "
                "starts cold, or set targets the service can meet."
            ),
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
    own = sum(phase.unsent_task for phase in result.phases)
    if own:
        yield Finding(
            key="unsent-task",
            title="Requests found nobody to send them: the locustfile's users were busy with themselves",
            seen=f"{own:,} arrivals were not sent because users were in a task's own time (waits, work between "
            "requests) or could not start; the example among the errors says which. This is not the service's doing.",
            advice="Take the wait out of the task (the schedule decides when the next one starts), raise "
            "--max-in-flight, lower --rate, or run --model closed, where users pace themselves.",
        )
    unsent = sum(phase.unsent for phase in result.phases) - own
    if unsent and not (result.generator and result.generator.saturated):
        yield Finding(
            key="unsent",
            title="Requests found nobody to send them",
            seen=f"{unsent:,} arrivals were not sent: all {plan.load.max_in_flight:,} users waited for the service.",
            advice="Real callers would have been turned away too, so these count as failures. The service holds "
            "requests open for too long: look for the missing time-out first. Raise --max-in-flight only if "
            "the service is meant to hold that many.",
        )


def next_experiment(plan: Plan, result: Result) -> Iterator[Finding]:
    if result.verdict != "pass":
        return
    faults = real_faults(plan)
    if not faults:
        yield Finding(
            key="next-experiment",
            title="Now break something",
            seen="The control run held every target.",
            advice="Run the same scenario with a fault, for example --fault redis-down; `harness faults` lists them.",
        )
        return
    name = text.visible(faults[0].spec.dependency, 40)
    kinds = {fault.spec.kind for fault in faults}
    harder = next((kind for kind in ("hang", "latency", "down") if kind not in kinds), None)
    other = f"--fault {name}-{harder}" if harder else ""
    yield Finding(
        key="next-experiment",
        title="Make it harder",
        seen=f"The service kept its targets with {', '.join(sorted(text.visible(f.id, 60) for f in faults))}.",
        advice="Try the failure that most often hurts a service which survives this one "
        f"({other or 'two faults at once'}), "
        + ("a larger --scale, " if plan.scale < 1 else "")
        + "a longer --fault-for, and put this run into CI so that it stays so.",
    )
