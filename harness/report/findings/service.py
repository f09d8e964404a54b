"""Advice about the service: what the numbers of the fault and of the recovery point to."""

from __future__ import annotations

from collections.abc import Iterator

from harness.analysis.verdict.after_load import LONG_S
from harness.model.records.plan import Plan
from harness.model.records.result import PhaseResult, Result
from harness.report.findings.finding import Finding, begins_in, counted, dependencies, errors_in, of_target, rose
from harness.report.sentences import text
from harness.report.sentences.by_request_name import all_slowed, alone, failing, is_health_check, slowed, starved
from harness.report.sentences.recovery_words import relapse_words

REPLIES = ("status", "check", "protocol", "reset")
"""Failures in which the service itself answered, or broke off."""

QUICK_MS = 1000.0
LEAST_TIMEOUTS = 5
"""An error that came later than this left the caller waiting."""


def down(plan: Plan, result: Result) -> Iterator[Finding]:
    """Refused connections, where there were none before and they are a good part of what failed."""
    fault = rose(result)
    if fault is None or plan.control_run:
        return
    errors = errors_in(result, fault, ("refused",))
    n = counted(errors)
    if all(begins_in(error, fault) for error in errors) and n and n >= 0.1 * max(1, fault.failures):
        yield Finding(
            key="target-down",
            title="The service itself refused connections",
            seen=f"{n:,} connections to the address of the service were refused, none before the fault.",
            advice="Nothing accepted connections there: look in the service's log and its supervisor's whether the "
            "process ended, restarted, or closed its port. A request that needs the dependency may fail; the process "
            "should not. Usual causes are a start-up or health check that insists on the dependency, and an unhandled "
            "exception in a connection callback.",
        )


def itself(plan: Plan, result: Result) -> Iterator[Finding]:
    """The service was ended or stopped on purpose, and its callers noticed."""
    fault = result.phase("fault")
    if not of_target(plan) or fault is None or (rose(result) is None and not all_slowed(result)):
        return
    slow = "" if fault.p95_ms is None else f", and of those that did not, 5 % took {text.ms(fault.p95_ms)} or longer"
    failed = text.percent(fault.error_rate)
    yield Finding(
        key="one-instance",
        title="Nobody answered in the service's place",
        seen=f"While it was ended or stopped on purpose, {failed} of the requests failed{slow}.",
        advice="What ends a process ends a service that has only one. Where callers must not notice, run more than one "
        "instance behind something that sees quickly that one is gone: short health checks, a short connect time-out, "
        "one retry on another instance. Else what counts is how long it takes to start.",
    )


def health(plan: Plan, result: Result) -> Iterator[Finding]:
    """Only the health check fails: no caller is hurt yet, and a supervisor would make an outage of it."""
    found = failing(result)
    if plan.control_run or not found or not all(is_health_check(one.name) for one in found):
        return
    if found[0].phase == "fault":
        yield Finding(
            key="health-check",
            title="Only the health check failed",
            seen=f"{found[0].said}; no other request name did.",
            advice="Where a load balancer or a supervisor goes by it, it takes a service out of use, or restarts it, "
            'that still answers everything else. Separate "am I alive" from "are my dependencies well".',
        )


def fallback(plan: Plan, result: Result) -> Iterator[Finding]:
    """Requests other than the health check were answered with errors: of one name that fails, or of the phase."""
    fault = result.phase("fault")
    if fault is None or plan.control_run:
        return
    hurt = tuple(one for one in failing(result) if one.phase == "fault" and not is_health_check(one.name))
    errors = tuple(e for e in errors_in(result, fault, REPLIES) if not is_health_check(e.name or ""))
    named = {one.name for one in hurt}
    n = counted(tuple(e for e in errors if e.name in named) or errors)
    most = sum(one.failures for one in hurt) if hurt else fault.failures
    if (not hurt and rose(result) is None) or not n or n < 0.3 * max(1, most):
        return
    example = next((e.example for e in sorted(errors, key=lambda e: -e.count) if e.example), "")
    shown = f' Example: "{text.excerpt(example, 160)}".' if example else ""
    one = f"{hurt[0].said}. " if hurt else ""
    yield Finding(
        key="no-fallback",
        title=f"No fallback for {dependencies(plan)}",
        seen=f"{one}{text.percent(fault.error_rate)} of all requests failed during the fault{_waited(fault)}.{shown}",
        advice="Callers get an error where the dependency is in trouble. Catch that where the dependency is called and "
        "go on without: skip the cache, serve a stale or default answer, queue the write. A circuit breaker "
        "keeps the failing call from costing time on every request. Where the error is meant, say so: may_fail_with.",
    )


def _waited(fault: PhaseResult) -> str:
    """How long callers waited for the error: nothing where that is not on record."""
    p50, p95 = fault.failed_p50_ms, fault.failed_p95_ms
    if p50 is None or p95 is None:
        return ""
    if p95 < QUICK_MS:
        return f", answered with an error rather than left waiting (half in {text.ms(p50)}, 95 % in {text.ms(p95)})"
    if p50 < QUICK_MS:
        return f": half of the errors came within {text.ms(p50)}, 5 % of them after {text.ms(p95)} or longer"
    return f", and callers waited for the error (half of them {text.ms(p50)} or longer, 5 % {text.ms(p95)} or longer)"


def all_wait(plan: Plan, result: Result) -> Iterator[Finding]:
    if plan.control_run or not all_slowed(result):
        return
    rows = {(row.name, row.phase): row for row in result.requests}
    name = slowed(result)[0]
    before, now = rows[name, "baseline"], rows[name, "fault"]
    slow = max(now.p95_ms or 0.0, now.failed_p95_ms or 0.0)
    yield Finding(
        key="everything-waits",
        title="Every request got slower",
        seen=f"All {len(slowed(result))} names slowed down in the fault phase, {text.visible(name, 80)} for one: "
        f"p95 {text.ms(before.p95_ms)} before, {text.ms(slow)} during it.",
        advice=f"Does one of them not use {dependencies(plan)}? Then they share something that one slow call holds up: "
        "look for a blocking call in an event loop, a pool of threads or workers that all wait, a lock, one connection "
        "for everybody. Where all of them do use it, bound the call with a time-out.",
    )


def timeout(plan: Plan, result: Result) -> Iterator[Finding]:
    fault = rose(result)
    if fault is None or plan.control_run:
        return
    n = counted(errors_in(result, fault, ("timeout", "unfinished")))
    # A fault that ends soon lets most of those that wait have an error before the load gives them up.
    waited = n >= LEAST_TIMEOUTS and (fault.failed_p50_ms or 0.0) >= QUICK_MS
    if n and (waited or n >= 0.1 * max(1, fault.failures)):
        yield Finding(
            key="missing-timeout",
            title=f"No bound on the wait for {dependencies(plan)}",
            seen=f"{n:,} requests got no answer within {plan.load.request_timeout_s:g}s, the load's own limit.",
            advice="Either a call has no time-out: set connect and read time-outs on the client, on taking a "
            "connection from its pool, and a total budget per request, well below what callers accept (a cache: tens "
            "of milliseconds). Or calls have one, and requests queue behind them for a thread or a worker: bound that "
            "queue. Then decide what is answered when it strikes.",
        )


def synchronous(plan: Plan, result: Result) -> Iterator[Finding]:
    fault, baseline = result.phase("fault"), result.phase("baseline")
    if not fault or not baseline or fault.p95_ms is None or baseline.p95_ms is None or starved(result):
        return
    for planned in plan.faults:
        if not planned.change.delays_s:
            continue
        injected, added = planned.change.delays_s * 1000, fault.p95_ms - baseline.p95_ms
        trips = added / injected
        if trips < 0.6:
            continue
        name = text.visible(planned.spec.dependency, 40)
        many = f", {trips:.1f} times over: round trips one after the other, or a queue" if trips >= 1.6 else ""
        yield Finding(
            key="synchronous-call",
            title=f"{name} is called on the request path",
            seen=f"p95 rose by {text.ms(added)} while {text.ms(injected)} were injected into {name}{many}.",
            advice="Each request waits for the dependency. If the answer does not need it (events, audit, metrics), "
            "hand it to a bounded queue and a background task. If it does, bound it with a time-out, "
            "make independent calls concurrently, and fetch in one round trip instead of several.",
        )


def limit(plan: Plan, result: Result) -> Iterator[Finding]:
    if rose(result) and any("limits_connections" in fault.change.traits for fault in plan.faults):
        yield Finding(
            key="pool",
            title="The connection pool does not cope with fewer connections",
            seen="Requests failed while the number of database connections was limited.",
            advice="Let a request wait a short, bounded time for one of the connections that are left instead of "
            "opening a new one and failing; retry a refused login with a growing pause; keep the pool's maximum, "
            "summed over all processes, under the server's limit; answer reads from the cache meanwhile.",
        )


def _not_recovered(result: Result) -> tuple[str, str, str]:
    """(title, what else was seen, further advice): only what was seen after the end of load is said of it."""
    after = result.after_load
    if after is None or (after.outcome != "as_in_baseline" and after.seconds < LONG_S):
        return "The service did not recover while the run lasted", ".", ""
    later = text.seconds(after.seconds)
    if after.outcome == "as_in_baseline":
        more = " What it needs to come back is less load: shed it, or let callers pause longer between attempts."
        return "The service does not come back under this load", f"; {later} after the end of load it was well.", more
    answer = "it gave no answer" if after.outcome == "no_answer" else "it was not as in baseline"
    more = " If only a restart helps, a restart is the incident's real length."
    return "The service did not come back by itself", f"; {later} after the end of load {answer}.", more


def stayed_down(plan: Plan, result: Result) -> Iterator[Finding]:
    """What needs somebody to mend it is worse than whatever the fault did while it was on."""
    recovery = result.recovery
    stayed = recovery is not None and recovery.outcome == "not_recovered" and bad_at_end(result)
    if stayed and not plan.control_run:
        title, seen, more = _not_recovered(result)
        yield Finding(
            key="slow-recovery",
            title=title,
            seen=f"{_whose(plan).capitalize()} was whole again, and the targets were still broken when the load ended"
            + seen,
            advice="Look for connections that are never replaced (a pool that hands out dead ones or lost its slots "
            "to leaks), a circuit breaker that never closes, a backlog that grows faster than it drains, and "
            f"retries that keep the load up.{more}",
        )


def slow_recovery(plan: Plan, result: Result) -> Iterator[Finding]:
    recovery = result.recovery
    if recovery is None or plan.control_run:
        return
    if recovery.outcome == "not_recovered" and not bad_at_end(result):
        yield Finding(
            key="slow-recovery",
            title="The service did not come back in time",
            seen=f"Targets were last broken at {text.moment(_last_broken(result))}; when the load ended they were not.",
            advice="Look at what kept it: long pauses between reconnects, a breaker that opens again, a backlog, "
            "a cache that fills one miss at a time. A longer --recovery-limit shows whether it stays well.",
        )
    elif recovery.outcome == "recovered" and recovery.seconds is not None and recovery.seconds > 5:
        yield Finding(
            key="slow-recovery",
            title="Recovery is slow",
            seen=f"{text.seconds(recovery.seconds)} passed between the return of {_whose(plan)} and healthy answers.",
            advice="Cap the pause between reconnects (a few hundred milliseconds, with jitter), let the circuit "
            "breaker probe often, validate pooled connections when they are taken, and bound queues so that no "
            "backlog has to be worked off. A cold cache needs request coalescing.",
        )
    if recovery.relapses:
        told = relapse_words(recovery)
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        yield Finding(
            key="relapse",
            title="It recovered and fell again" if len(told) == 1 else f"It recovered and fell again {len(told)} times",
            seen=f"Broken again: {'; '.join(told[:3])}{more}.",
            advice="Retries arriving in step, an expiring cache, or a breaker that closes on one lucky call all look "
            "like this. Add jitter to retries and expiry, and let the breaker close gradually.",
        )


def _whose(plan: Plan) -> str:
    return "the service's process" if of_target(plan) else "the dependency"


def bad_at_end(result: Result) -> bool:
    """Whether a target was broken within the last 5 s of load, the longest window: what was seen last."""
    end = max((phase.end_s for phase in result.phases), default=0.0)
    last = _last_broken(result)
    return last is None or last >= end - 5.0


def _last_broken(result: Result) -> float | None:
    return max((end for _, end in result.impact.violating), default=None) if result.impact else None


def one_endpoint(plan: Plan, result: Result) -> Iterator[Finding]:
    found = alone(result)
    if not found or plan.control_run or all(is_health_check(one.name) for one in found):
        return
    names = found[0].name if len(found) == 1 else f"{len(found)} of the request names"
    more = f"; {found[1].times}" if len(found) > 1 else ""
    yield Finding(
        key="one-endpoint",
        title=f"Only {text.visible(names, 60)} failed",
        seen=f"{found[0].times} during the fault{more}; every other request name failed in less than 1 % of cases.",
        advice=f"The others do without {dependencies(plan)}, or do not use it. Where they use it, the remedy exists in "
        "the code already: compare how they call it.",
    )


def cold(plan: Plan, result: Result) -> Iterator[Finding]:
    after, baseline = result.phase("after"), result.phase("baseline")
    if not after or not baseline or not after.p95_ms or not baseline.p95_ms or plan.control_run:
        return
    if starved(result, "after"):
        return
    if after.p95_ms > 1.5 * baseline.p95_ms and after.p95_ms - baseline.p95_ms > 5:
        yield Finding(
            key="slower-afterwards",
            title="Slower after the fault than before it",
            seen=f"p95 {text.ms(baseline.p95_ms)} in baseline, {text.ms(after.p95_ms)} after recovery.",
            advice="A cold cache warms up, a leak does not: run again with a longer --soak and see whether it falls.",
        )


def signals(plan: Plan, result: Result) -> Iterator[Finding]:
    """The service's own word for it, where the dependency's own counters were not there to tell."""
    told = {one.kind for one in result.signatures}
    lag = result.signals.get("kafka_consumer_lag")
    if lag and "consumer_lag" not in told and {"baseline", "after"} <= lag.by_phase.keys():
        before, now = lag.by_phase["baseline"], lag.by_phase["after"]
        if now > max(10.0, 2 * before):
            yield Finding(
                key="consumer-lag",
                title="Consumers are behind",
                seen=f"kafka_consumer_lag was {text.number(before)} in baseline and {text.number(now)} afterwards.",
                advice="The backlog of the fault has not been worked off. Add partitions and consumers, commit in "
                "batches, and make sure that consumers rejoin at once.",
            )
    hits = result.signals.get("cache_hit_rate")
    if hits and "cold_cache" not in told and {"baseline", "after"} <= hits.by_phase.keys():
        before, now = hits.by_phase["baseline"], hits.by_phase["after"]
        if before > 0.05 and now < 0.7 * before:
            yield Finding(
                key="cold-cache",
                title="The cache is colder than before",
                seen=f"cache_hit_rate was {text.number(before)} in baseline and {text.number(now)} afterwards.",
                advice="Check that the cache client reconnects and that writes resumed; warm the cache gently, with "
                "one load per key at a time.",
            )


def resources(plan: Plan, result: Result) -> Iterator[Finding]:
    busy = {phase: share for phase, share in result.cpu_by_phase.items() if share > 0.8}
    if busy:
        phase, share = max(busy.items(), key=lambda item: item[1])
        cores = plan.provenance.cpus if plan.provenance else None
        spare = cores is not None and plan.target_workers < cores
        more = f"More worker processes (it has {plan.target_workers} on {cores} cores), cheaper" if spare else "Cheaper"
        yield Finding(
            key="cpu",
            title="The service is short of CPU",
            seen=f"{text.percent(share)} of what its workers can use, in {text.visible(phase, 20)}.",
            advice=f"{more} serialisation, batching, caching; then "
            "profile. Close to the ceiling every fault hurts more than it need.",
        )
    memory = result.memory
    if memory and memory.outcome == "growing":
        yield Finding(
            key="memory",
            title="Memory grows",
            seen=f"By {text.in_unit(memory.slope, 'per_h')}. {text.visible(memory.why)}".strip(),
            advice="Run longer with --soak. Look for caches without a bound, queues that outgrow their consumer, and "
            "per-request state kept in a global.",
        )
    elif memory and memory.retained and memory.retained > 0:
        yield Finding(
            key="memory",
            title="Memory was kept after the fault",
            seen=f"{text.size(memory.retained)} more after recovery than before the fault.",
            advice="Often a buffer that grew while the dependency was away. Harmless once; run flapping faults "
            "(repeat) to see whether it adds up.",
        )
