"""What to look at next: each piece of advice appears when its evidence is there, and not otherwise."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from harness.model.records.faults import Change
from harness.model.records.plan import Plan
from harness.model.records.result import ErrorResult, GeneratorResult, MemoryResult, Result, SignalResult
from harness.report.findings import dependency as dependency_findings
from harness.report.findings import run as run_findings
from harness.report.findings import service as service_findings
from harness.report.findings.rules import findings

from .sample import Kind, plan, plan_of, planned_fault, result

DOCS = Path(__file__).parents[2] / "docs" / "interpreting.md"


def keys(plan_: Plan, result_: Result) -> list[str]:
    return [finding.key for finding in findings(plan_, result_)]


def found(kind: Kind) -> list[str]:
    return keys(plan_of(kind), result(kind))


def test_error_replies_in_the_fault_phase_mean_no_fallback() -> None:
    assert "no-fallback" in found("fail")
    assert "no-fallback" not in found("pass")
    first = findings(plan_of("fail"), result("fail"))[0]
    assert first.title == "No fallback for redis"
    assert "503" in first.seen


def errors(*kinds: str) -> Result:
    failed = result("fail")
    made = tuple(
        ErrorResult(kind=kind, name="GET /x", count=1500 // len(kinds), first_s=73.0, last_s=130.0, example="")
        for kind in kinds
    )
    return msgspec.structs.replace(failed, errors=made)


def test_time_outs_mean_a_missing_time_out() -> None:
    found = keys(plan_of("fail"), errors("timeout"))
    assert "missing-timeout" in found
    assert "no-fallback" not in found


@pytest.mark.parametrize(("waited_ms", "found"), [(5900.0, True), (40.0, False), (None, False)])
def test_some_time_outs_are_enough_where_most_callers_waited(waited_ms: float | None, found: bool) -> None:
    """A hang of little more than the load's own limit ends before it gives up most of those that wait."""
    failed = result("fail")
    few = tuple(
        ErrorResult(kind=kind, name="GET /x", count=count, first_s=73.0, last_s=130.0, example="")
        for kind, count in (("timeout", 18), ("status", 1400))
    )
    phases = tuple(
        msgspec.structs.replace(one, failed_p50_ms=waited_ms) if one.name == "fault" else one for one in failed.phases
    )
    changed = msgspec.structs.replace(failed, errors=few, phases=phases)
    assert ("missing-timeout" in keys(plan_of("fail"), changed)) is found


def test_refusals_mean_that_the_service_itself_went_down() -> None:
    assert "target-down" in keys(plan_of("fail"), errors("refused"))
    assert "one-instance" not in keys(plan_of("fail"), errors("refused"))


@pytest.mark.parametrize("kind", ["refused", "timeout", "status"])
def test_of_a_service_that_was_ended_on_purpose_no_dependency_is_blamed(kind: str) -> None:
    planned = plan_of("fail")
    killed = msgspec.structs.replace(planned.faults[0], change=_on_target(planned.faults[0].change))
    found = keys(msgspec.structs.replace(planned, faults=(killed,)), errors(kind))
    assert "one-instance" in found
    assert not {"target-down", "missing-timeout", "no-fallback", "everything-waits", "one-endpoint"} & set(found)
    both = msgspec.structs.replace(planned, faults=(killed, *planned.faults))
    assert "one-instance" not in keys(both, errors(kind))


def _on_target(change: Change) -> Change:
    return msgspec.structs.replace(change, dependency=msgspec.structs.replace(change.dependency, target=True))


def test_errors_outside_the_fault_are_not_blamed_on_it() -> None:
    before = msgspec.structs.replace(errors("timeout").errors[0], first_s=20.0, last_s=40.0)
    assert "missing-timeout" not in keys(plan_of("fail"), msgspec.structs.replace(result("fail"), errors=(before,)))


def with_p95(fault_ms: float) -> Result:
    passed = result("pass")
    phases = tuple(
        msgspec.structs.replace(phase, p95_ms=fault_ms) if phase.name == "fault" else phase for phase in passed.phases
    )
    return msgspec.structs.replace(passed, phases=phases)


def test_latency_that_arrives_in_full_means_a_call_on_the_request_path() -> None:
    slow = plan(planned_fault("kafka-latency", latency=0.3))
    assert "synchronous-call" in keys(slow, with_p95(24.1 + 300))
    assert "synchronous-call" not in keys(slow, with_p95(30.0))
    late = GeneratorResult(cpu=0.9, lateness_p99_ms=180, unsent=0, saturated=((80.0, 90.0),))
    assert "synchronous-call" not in keys(slow, msgspec.structs.replace(with_p95(24.1 + 300), generator=late))
    twice = next(f for f in findings(slow, with_p95(24.1 + 600)) if f.key == "synchronous-call")
    assert "2.0 times over: round trips one after the other, or a queue" in twice.seen


def test_no_recovery_and_slow_recovery() -> None:
    failed = result("fail")
    assert failed.recovery is not None
    for changes, expected in (
        ({"outcome": "not_recovered", "seconds": None}, True),
        ({"seconds": 14.0, "upper_s": 14.2}, True),
        ({}, False),
    ):
        recovery = msgspec.structs.replace(failed.recovery, **changes)
        changed = msgspec.structs.replace(failed, recovery=recovery)
        assert ("slow-recovery" in keys(plan_of("fail"), changed)) is expected
    stayed = msgspec.structs.replace(failed.recovery, outcome="not_recovered", seconds=None)
    end = max(phase.end_s for phase in failed.phases)
    assert failed.impact is not None
    impact = msgspec.structs.replace(failed.impact, violating=((70.0, end),))
    both = msgspec.structs.replace(errors("status"), recovery=stayed, impact=impact)
    found = keys(plan_of("fail"), both)
    assert list(found)[:2] == ["slow-recovery", "no-fallback"], "what does not come back by itself is the worst of it"
    relapsed = msgspec.structs.replace(failed.recovery, relapses=((140.0, 141.0),))
    assert "relapse" in keys(plan_of("fail"), msgspec.structs.replace(failed, recovery=relapsed))


def test_a_saturated_generator_comes_before_everything_it_spoils() -> None:
    saturated = GeneratorResult(cpu=0.97, lateness_p99_ms=180, unsent=3, saturated=((80.0, 90.0),))
    found = keys(plan_of("fail"), msgspec.structs.replace(result("fail"), generator=saturated))
    assert found[0] == "saturated-generator"
    assert "unsent" not in found


UNSENT = {
    "cap": ("unsent", "every user was waiting for the service"),
    "cap_start": ("unsent", "the service kept new users from starting"),
    "task": ("unsent-task", "most users were in a task's own time"),
    "task_start": ("unsent-task", "no new user could start"),
    "generator": ("saturated-generator", "7 arrivals were not sent because of it"),
}


@pytest.mark.parametrize("cause", UNSENT)
@pytest.mark.parametrize("saturated", [False, True])
def test_why_nobody_was_found_is_said_by_cause_and_only_where_it_was_seen(cause: str, saturated: bool) -> None:
    failed = result("fail")
    phases = tuple(
        msgspec.structs.replace(p, unsent=7, unsent_by={cause: 7}) if p.name == "fault" else p for p in failed.phases
    )
    stretches = ((80.0, 90.0),) if saturated or cause == "generator" else ()
    made = GeneratorResult(cpu=0.97, lateness_p99_ms=180, unsent=7, saturated=stretches)
    told = findings(plan_of("fail"), msgspec.structs.replace(failed, phases=phases, generator=made))
    said = {one.key: f"{one.title}. {one.seen} {one.advice}" for one in told}
    for other, (key, words) in UNSENT.items():
        assert (words in said.get(key, "")) is (other == cause), (other, said.get(key))
    assert ("time-out first" in said.get("unsent", "")) is (cause == "cap")
    assert ("busy with themselves" in said.get("unsent-task", "")) is (cause == "task")


def test_a_change_left_behind_comes_first_of_all() -> None:
    failed = result("fail")
    left = msgspec.structs.replace(failed.faults[0], undo_verified=False)
    first = findings(plan_of("fail"), msgspec.structs.replace(failed, faults=(left,)))[0]
    assert first.key == "undo-not-verified"
    assert "harness heal" in first.advice


def test_memory_cpu_lag_and_cache() -> None:
    strained = msgspec.structs.replace(
        result("pass"),
        memory=MemoryResult(outcome="growing", slope=0.4, retained=None, why="12 MB in 5 minutes"),
        cpu_by_phase={"baseline": 0.93},
        signals={
            "kafka_consumer_lag": SignalResult(by_phase={"baseline": 3.0, "after": 900.0}, counter=False),
            "cache_hit_rate": SignalResult(by_phase={"baseline": 0.8, "after": 0.1}, counter=False),
        },
    )
    assert {"memory", "cpu", "consumer-lag", "cold-cache"} <= set(keys(plan_of("pass"), strained))
    assert not {"memory", "cpu", "consumer-lag", "cold-cache"} & set(found("pass"))


def test_an_unproven_fault_and_an_undecided_target_say_what_to_do() -> None:
    assert found("inconclusive")[:2] == ["fault-not-proven", "undecided"]


def test_a_pass_names_the_next_experiment() -> None:
    assert found("pass") == ["next-experiment"]
    assert found("control") == ["next-experiment"]


def test_every_finding_is_explained_in_the_docs() -> None:
    """Each key is an anchor of docs/interpreting.md, so that neither can drift away."""
    modules = (run_findings, service_findings, dependency_findings)
    source = "\n".join(Path(m.__file__).read_text(encoding="utf-8") for m in modules)
    text = DOCS.read_text(encoding="utf-8")
    used = {line.split('"')[1] for line in source.splitlines() if line.strip().startswith('key="')}
    used |= {kind.replace("_", "-") for kind in dependency_findings._WORDS}
    assert len(used) > 12
    assert not [key for key in sorted(used) if f'<a id="{key}"></a>' not in text]


def test_slower_afterwards_is_not_said_where_the_generator_was_late_then() -> None:
    phases = tuple(msgspec.structs.replace(p, p95_ms=95.0) if p.name == "after" else p for p in result("pass").phases)
    slower = msgspec.structs.replace(result("pass"), phases=phases)
    after = next(p for p in phases if p.name == "after")
    assert "slower-afterwards" in keys(plan_of("pass"), slower)
    late = GeneratorResult(cpu=0.9, lateness_p99_ms=180, unsent=0, saturated=((after.start_s + 1, after.start_s + 2),))
    assert "slower-afterwards" not in keys(plan_of("pass"), msgspec.structs.replace(slower, generator=late))
