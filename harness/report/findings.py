"""What to look at next: rules that turn a result into advice.

Each rule reads the result alone and answers with its evidence; nothing is guessed that the numbers do not show.
The order is the order of usefulness: what spoils the run first, then what broke, then what merely shows strain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from harness.model.exit_codes import ExitCode
from harness.model.plan import Plan, PlannedFault
from harness.model.result import PhaseResult, Result
from harness.report import text
from harness.report.story import is_control


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """key: anchor in docs/interpreting.md. seen: the evidence. advice: what usually mends it."""

    key: str
    title: str
    seen: str
    advice: str


Rule = Callable[[Plan, Result], Iterator[Finding]]


def findings(plan: Plan, result: Result) -> tuple[Finding, ...]:
    """Every rule's findings, at most one a rule and dependency, in order of usefulness."""
    return tuple(finding for rule in _RULES for finding in rule(plan, result))


def _phase(result: Result, name: str) -> PhaseResult | None:
    return next((phase for phase in result.phases if phase.name == name), None)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _faults(plan: Plan) -> tuple[PlannedFault, ...]:
    return tuple(fault for fault in plan.faults if fault.spec.kind != "none")


def _named(plan: Plan) -> str:
    names = dict.fromkeys(fault.spec.dependency for fault in _faults(plan))
    return " and ".join(text.visible(name, 40) for name in names) or "the dependency"


def _errors_in(result: Result, phase: PhaseResult, kinds: tuple[str, ...]) -> int:
    """Errors of these kinds that began before the phase's end and went on after its start."""
    return sum(
        error.count
        for error in result.errors
        if error.kind in kinds and error.first_s < phase.end_s and error.last_s >= phase.start_s
    )


def _rose(result: Result) -> PhaseResult | None:
    """The fault phase, where its error rate is over 1 % and clearly above baseline's."""
    fault, baseline = _phase(result, "fault"), _phase(result, "baseline")
    if fault is None or fault.error_rate is None:
        return None
    before = (baseline.error_rate if baseline else None) or 0.0
    return fault if fault.error_rate > max(0.01, 2 * before) else None


def _left_behind(plan: Plan, result: Result) -> Iterator[Finding]:
    left = [text.visible(fault.name, 60) for fault in result.faults if fault.undo_verified is False]
    if left or result.exit_code == ExitCode.UNDO_UNVERIFIED:
        yield Finding(
            key="undo-not-verified",
            title="A change may still be in place",
            seen=f"The undo of {', '.join(left) or 'a change'} could not be verified.",
            advice="Before anything else run `harness heal RUN_DIR`, which is safe to repeat; the reasons above say "
            "what is left and how to mend it by hand.",
        )


def _saturated(plan: Plan, result: Result) -> Iterator[Finding]:
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
            "workers (--workers), put them on another machine (harness worker), or lower --scale or --rate.",
        )


def _baseline(plan: Plan, result: Result) -> Iterator[Finding]:
    broken = [t for t in result.targets if t.phase == "baseline" and t.primary and t.outcome == "broken"]
    if broken:
        yield Finding(
            key="baseline-broken",
            title="The service missed its targets before anything was broken",
            seen="In baseline: " + ", ".join(text.visible(t.target, 60) for t in broken) + ".",
            advice="A fault on top would prove nothing, so none was injected. Lower the load (--scale, --rate) until "
            "baseline is clean, lengthen --warmup if the service starts cold, or set targets the service can meet.",
        )


def _unproven(plan: Plan, result: Result) -> Iterator[Finding]:
    for fault in result.faults:
        if fault.injected_s is not None and not fault.proven:
            missing = text.visible(fault.missing, 200) if fault.missing else "some of the evidence"
            yield Finding(
                key="fault-not-proven",
                title=f"{text.visible(fault.name, 60)} was not proven",
                seen=f"Missing: {missing}.",
                advice="A fault counts only when the service really met it. Check that the service's connection "
                "settings point at the proxy and not at the server itself, that nothing reconnects around it, "
                "and that the traffic of this scenario uses the dependency. harness doctor checks the wiring.",
            )


def _undecided(plan: Plan, result: Result) -> Iterator[Finding]:
    open_ = [t for t in result.targets if t.primary and t.outcome == "undecided"]
    if open_:
        yield Finding(
            key="undecided",
            title="Too few requests, or too close to the limit, to decide",
            seen="Undecided: " + ", ".join(text.visible(t.target, 60) for t in open_[:6]) + ".",
            advice="Raise the rate (--rate, --scale) or lengthen the phase (--baseline, --fault-for, --hold) so that "
            "more requests speak. When the value sits on the limit itself, repeat the run (--repeat) and "
            "treat the limit as reached.",
        )


def _down(plan: Plan, result: Result) -> Iterator[Finding]:
    fault = _rose(result)
    if fault and (n := _errors_in(result, fault, ("refused",))):
        yield Finding(
            key="target-down",
            title="The service itself refused connections",
            seen=f"{n:,} requests were refused by the service, not by its dependency.",
            advice=f"Losing {_named(plan)} took the process down or out of service. Look for a start-up or health "
            "check that insists on the dependency, an unhandled exception in a connection callback, and the "
            "supervisor's restarts. A request that needs the dependency may fail; the process should not.",
        )


def _fallback(plan: Plan, result: Result) -> Iterator[Finding]:
    fault = _rose(result)
    if fault is None or is_control(plan):
        return
    kinds = ("status", "check", "protocol", "reset", "refused")
    n = _errors_in(result, fault, kinds)
    if n and n >= 0.3 * max(1, fault.failures):
        example = next((e.example for e in result.errors if e.kind in kinds and e.example), "")
        shown = f' Example: "{text.visible(example, 120)}".' if example else ""
        yield Finding(
            key="no-fallback",
            title=f"No fallback for {_named(plan)}",
            seen=f"{text.percent(fault.error_rate)} of requests failed during the fault, answered with an error "
            f"rather than left waiting.{shown}",
            advice="The error of the dependency reaches the caller. Catch it where the dependency is called and go on "
            "without: skip the cache, serve a stale or default answer, queue the write. A circuit breaker "
            "keeps the failing call from costing time on every request.",
        )


def _timeout(plan: Plan, result: Result) -> Iterator[Finding]:
    fault = _rose(result)
    if fault is None:
        return
    n = _errors_in(result, fault, ("timeout", "unfinished"))
    if n and n >= 0.1 * max(1, fault.failures):
        yield Finding(
            key="missing-timeout",
            title=f"Missing time-out on calls to {_named(plan)}",
            seen=f"{n:,} requests got no answer within {plan.load.request_timeout_s:g}s, the load's own limit.",
            advice="Somewhere a call waits for as long as the dependency likes. Set connect and read time-outs on the "
            "client, on taking a connection from its pool, and a total budget per request, well below what "
            "callers accept (a cache: tens of milliseconds). Then decide what is answered when it strikes.",
        )


def _unsent(plan: Plan, result: Result) -> Iterator[Finding]:
    unsent = sum(phase.unsent for phase in result.phases)
    if unsent and not (result.generator and result.generator.saturated):
        yield Finding(
            key="unsent",
            title="Requests found nobody to send them",
            seen=f"{unsent:,} arrivals were not sent: all {plan.load.max_in_flight:,} users waited for the service.",
            advice="Real callers would have been turned away too, so these count as failures. The service holds "
            "requests open for too long: look for the missing time-out first. Raise --max-in-flight only if "
            "the service is meant to hold that many.",
        )


def _synchronous(plan: Plan, result: Result) -> Iterator[Finding]:
    fault, baseline = _phase(result, "fault"), _phase(result, "baseline")
    if not fault or not baseline or fault.p95_ms is None or baseline.p95_ms is None:
        return
    for planned in _faults(plan):
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


def _limit(plan: Plan, result: Result) -> Iterator[Finding]:
    kinds = {fault.spec.kind for fault in _faults(plan)}
    if _rose(result) and kinds & {"connection-limit", "connection-hog"}:
        yield Finding(
            key="pool",
            title="The connection pool does not cope with fewer connections",
            seen="Requests failed while the number of database connections was limited.",
            advice="Let a request wait a short, bounded time for one of the connections that are left instead of "
            "opening a new one and failing; retry a refused login with a growing pause; keep the pool's maximum, "
            "summed over all processes, under the server's limit; answer reads from the cache meanwhile.",
        )


def _slow_recovery(plan: Plan, result: Result) -> Iterator[Finding]:
    recovery = result.recovery
    if recovery is None or is_control(plan):
        return
    if recovery.outcome == "not_recovered":
        yield Finding(
            key="slow-recovery",
            title="The service did not come back by itself",
            seen="The dependency was whole again, and the targets were still broken when the run gave up waiting.",
            advice="Look for connections that are never replaced (a pool that hands out dead ones or lost its slots "
            "to leaks), a circuit breaker that never closes, a backlog that grows faster than it drains, and "
            "retries that keep the load up. If only a restart helps, a restart is the incident's real length.",
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


def _one_endpoint(plan: Plan, result: Result) -> Iterator[Finding]:
    rows = [row for row in result.requests if row.phase == "fault"]
    failures = sum(row.failures for row in rows)
    if len(rows) < 2 or failures < 20 or not _rose(result):
        return
    worst = max(rows, key=lambda row: row.failures)
    if _share(worst.failures, failures) >= 0.8 > _share(worst.requests, sum(row.requests for row in rows)):
        yield Finding(
            key="one-endpoint",
            title=f"Nearly all failures come from {text.visible(worst.name, 60)}",
            seen=f"{worst.failures:,} of {failures:,} failures in the fault phase.",
            advice="The others cope, so the remedy probably exists in the code already: compare how this one "
            "calls the dependency.",
        )


def _cold(plan: Plan, result: Result) -> Iterator[Finding]:
    after, baseline = _phase(result, "after"), _phase(result, "baseline")
    if not after or not baseline or not after.p95_ms or not baseline.p95_ms or is_control(plan):
        return
    if after.p95_ms > 1.5 * baseline.p95_ms and after.p95_ms - baseline.p95_ms > 5:
        yield Finding(
            key="slower-afterwards",
            title="Slower after the fault than before it",
            seen=f"p95 {text.ms(baseline.p95_ms)} in baseline, {text.ms(after.p95_ms)} after recovery.",
            advice="A cold cache warms up, a leak does not: run again with a longer --soak and see whether it falls.",
        )


def _signals(plan: Plan, result: Result) -> Iterator[Finding]:
    lag = result.signals.get("kafka_consumer_lag")
    if lag and {"baseline", "after"} <= lag.by_phase.keys():
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
    if hits and {"baseline", "after"} <= hits.by_phase.keys():
        before, now = hits.by_phase["baseline"], hits.by_phase["after"]
        if before > 0.05 and now < 0.7 * before:
            yield Finding(
                key="cold-cache",
                title="The cache is colder than before",
                seen=f"cache_hit_rate was {text.number(before)} in baseline and {text.number(now)} afterwards.",
                advice="Check that the cache client reconnects and that writes resumed; warm the cache gently, with "
                "one load per key at a time.",
            )


def _resources(plan: Plan, result: Result) -> Iterator[Finding]:
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


def _next_experiment(plan: Plan, result: Result) -> Iterator[Finding]:
    if result.verdict != "pass":
        return
    faults = _faults(plan)
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


_RULES: tuple[Rule, ...] = (
    _left_behind,
    _saturated,
    _baseline,
    _unproven,
    _undecided,
    _down,
    _fallback,
    _timeout,
    _unsent,
    _synchronous,
    _limit,
    _slow_recovery,
    _one_endpoint,
    _cold,
    _signals,
    _resources,
    _next_experiment,
)
