"""Advice about the service: what the numbers of the fault and of the recovery point to."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.plan import Plan
from harness.model.result import Result
from harness.report import text
from harness.report.finding import Finding, dependencies, errors_in, phase_named, real_faults, rose, share
from harness.report.story import is_control


def down(plan: Plan, result: Result) -> Iterator[Finding]:
    fault = rose(result)
    if fault and (n := errors_in(result, fault, ("refused",))):
        yield Finding(
            key="target-down",
            title="The service itself refused connections",
            seen=f"{n:,} requests were refused by the service, not by its dependency.",
            advice=f"Losing {dependencies(plan)} took the process down or out of service. Look for a start-up or "
            "health check that insists on the dependency, an unhandled exception in a connection callback, and the "
            "supervisor's restarts. A request that needs the dependency may fail; the process should not.",
        )


def fallback(plan: Plan, result: Result) -> Iterator[Finding]:
    fault = rose(result)
    if fault is None or is_control(plan):
        return
    kinds = ("status", "check", "protocol", "reset", "refused")
    n = errors_in(result, fault, kinds)
    if n and n >= 0.3 * max(1, fault.failures):
        example = next((e.example for e in result.errors if e.kind in kinds and e.example), "")
        shown = f' Example: "{text.visible(example, 120)}".' if example else ""
        yield Finding(
            key="no-fallback",
            title=f"No fallback for {dependencies(plan)}",
            seen=f"{text.percent(fault.error_rate)} of requests failed during the fault, answered with an error "
            f"rather than left waiting.{shown}",
            advice="The error of the dependency reaches the caller. Catch it where the dependency is called and go on "
            "without: skip the cache, serve a stale or default answer, queue the write. A circuit breaker "
            "keeps the failing call from costing time on every request.",
        )


def timeout(plan: Plan, result: Result) -> Iterator[Finding]:
    fault = rose(result)
    if fault is None:
        return
    n = errors_in(result, fault, ("timeout", "unfinished"))
    if n and n >= 0.1 * max(1, fault.failures):
        yield Finding(
            key="missing-timeout",
            title=f"Missing time-out on calls to {dependencies(plan)}",
            seen=f"{n:,} requests got no answer within {plan.load.request_timeout_s:g}s, the load's own limit.",
            advice="Somewhere a call waits for as long as the dependency likes. Set connect and read time-outs on the "
            "client, on taking a connection from its pool, and a total budget per request, well below what "
            "callers accept (a cache: tens of milliseconds). Then decide what is answered when it strikes.",
        )


def synchronous(plan: Plan, result: Result) -> Iterator[Finding]:
    fault, baseline = phase_named(result, "fault"), phase_named(result, "baseline")
    if not fault or not baseline or fault.p95_ms is None or baseline.p95_ms is None:
        return
    for planned in real_faults(plan):
        latency = planned.change.params.get("latency")
        if planned.spec.kind != "latency" or not isinstance(latency, int | float) or latency <= 0:
            continue
        injected, added = latency * 1000, fault.p95_ms - baseline.p95_ms
        trips = added / injected
        if trips < 0.6:
            continue
        name = text.visible(planned.spec.dependency, 40)
        many = f", about {round(trips)} round trips one after the other" if trips >= 1.6 else ""
        yield Finding(
            key="synchronous-call",
            title=f"{name} is called on the request path",
            seen=f"p95 rose by {text.ms(added)} while {text.ms(injected)} were injected into {name}{many}.",
            advice="Each request waits for the dependency. If the answer does not need it (events, audit, metrics), "
            "hand it to a bounded queue and a background task. If it does, bound it with a time-out, "
            "make independent calls concurrently, and fetch in one round trip instead of several.",
        )


def limit(plan: Plan, result: Result) -> Iterator[Finding]:
    kinds = {fault.spec.kind for fault in real_faults(plan)}
    if rose(result) and kinds & {"connection-limit", "connection-hog"}:
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
    if after is None:
        return "The service did not recover while the run lasted", ".", ""
    later = text.seconds(after.seconds)
    if after.outcome == "as_in_baseline":
        more = " What it needs to come back is less load: shed it, or let callers pause longer between attempts."
        return "The service does not come back under this load", f"; {later} after the end of load it was well.", more
    answer = "it gave no answer" if after.outcome == "no_answer" else "it was not as in baseline"
    more = " If only a restart helps, a restart is the incident's real length."
    return "The service did not come back by itself", f"; {later} after the end of load {answer}.", more


def slow_recovery(plan: Plan, result: Result) -> Iterator[Finding]:
    recovery = result.recovery
    if recovery is None or is_control(plan):
        return
    if recovery.outcome == "not_recovered":
        title, seen, more = _not_recovered(result)
        yield Finding(
            key="slow-recovery",
            title=title,
            seen="The dependency was whole again, and the targets were still broken when the run gave up waiting"
            + seen,
            advice="Look for connections that are never replaced (a pool that hands out dead ones or lost its slots "
            "to leaks), a circuit breaker that never closes, a backlog that grows faster than it drains, and "
            f"retries that keep the load up.{more}",
        )
    elif recovery.outcome == "recovered" and recovery.seconds is not None and recovery.seconds > 5:
        yield Finding(
            key="slow-recovery",
            title="Recovery is slow",
            seen=f"{text.seconds(recovery.seconds)} passed between the dependency's return and healthy answers.",
            advice="Cap the pause between reconnects (a few hundred milliseconds, with jitter), let the circuit "
            "breaker probe often, validate pooled connections when they are taken, and bound queues so that no "
            "backlog has to be worked off. A cold cache needs request coalescing.",
        )
    if recovery.relapses:
        yield Finding(
            key="relapse",
            title="It recovered and fell again",
            seen=f"{len(recovery.relapses)} relapse(s), the first at {text.moment(recovery.relapses[0][0])}.",
            advice="Retries arriving in step, an expiring cache, or a breaker that closes on one lucky call all look "
            "like this. Add jitter to retries and expiry, and let the breaker close gradually.",
        )


def one_endpoint(plan: Plan, result: Result) -> Iterator[Finding]:
    rows = [row for row in result.requests if row.phase == "fault"]
    failures = sum(row.failures for row in rows)
    if len(rows) < 2 or failures < 20 or not rose(result):
        return
    worst = max(rows, key=lambda row: row.failures)
    if share(worst.failures, failures) >= 0.8 > share(worst.requests, sum(row.requests for row in rows)):
        yield Finding(
            key="one-endpoint",
            title=f"Nearly all failures come from {text.visible(worst.name, 60)}",
            seen=f"{worst.failures:,} of {failures:,} failures in the fault phase.",
            advice="The others cope, so the remedy probably exists in the code already: compare how this one "
            "calls the dependency.",
        )


def cold(plan: Plan, result: Result) -> Iterator[Finding]:
    after, baseline = phase_named(result, "after"), phase_named(result, "baseline")
    if not after or not baseline or not after.p95_ms or not baseline.p95_ms or is_control(plan):
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
        yield Finding(
            key="cpu",
            title="The service is short of CPU",
            seen=f"{text.percent(share)} of what its workers can use, in {text.visible(phase, 20)}.",
            advice="More worker processes up to the number of cores, cheaper serialisation, batching, caching; then "
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
