"""From options to a plan: scale and floors, phases, overlaps, what is refused before anything is touched."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.fault import registered
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Credentials, Dependency, DependencyProxy
from harness.model.records.load import Locustfile, TaskInfo, UserClass
from harness.model.records.plan import Plan
from harness.plan.experiment import Experiment
from harness.plan.planner import build_plan

FILE = Locustfile(
    path="/tmp/anomaly.py",
    sha256="0" * 64,
    classes=(
        UserClass(
            name="AnomalyDetectionUser",
            tasks=(
                TaskInfo(name="predict", share=0.5),
                TaskInfo(name="batch", share=0.25),
                TaskInfo(name="query", share=0.15),
                TaskInfo(name="health", share=0.1),
            ),
            wait_s=(1, 3),
        ),
        UserClass(name="HighThroughputUser", tasks=(TaskInfo(name="rapid", share=1.0),), wait_s=(0.1, 0.5)),
    ),
)
DEPENDENCIES = (
    Dependency(name="redis", kind="redis", proxy=DependencyProxy(name="redis"), proxied=True),
    Dependency(name="kafka", kind="kafka", proxy=DependencyProxy(name="kafka"), proxied=True),
    Dependency(
        name="db",
        kind="postgres",
        proxy=DependencyProxy(name="db"),
        credentials=Credentials(role="anomaly_api"),
        proxied=True,
    ),
)


def make(created: str = "2026-01-02T03:04:05.678Z", **options: Any) -> Plan:
    settings: dict[str, Any] = {"scenario": "target", "stack": "embedded", **options}
    return build_plan(
        Experiment(**settings),
        describe=lambda: FILE,
        dependencies=DEPENDENCIES,
        faults=registered(),
        host="http://127.0.0.1:1",
        created=created,
    )


def test_target_at_the_default_scale_is_200_rps() -> None:
    plan = make(faults=("redis-down",))
    assert plan.load.rate == 200 and plan.load.users == 100 and plan.load.ramp_s == 10
    assert plan.load.max_in_flight == 2000 and plan.load.model == "open"
    assert plan.phases.warmup_s == 20 and plan.phases.baseline_s == 60 and plan.phases.hold_s == 15
    assert plan.phases.recovery_limit_s == 600 - 140
    assert plan.experiment == "20260102T030405Z-redis-down-target"
    assert plan.load.limits_ms == (100.0, 200.0, 500.0)


@pytest.mark.parametrize(("rate", "seconds"), [(2000.0, 1.0), (200.0, 5.0), (100.0, 10.0), (20.0, 50.0)])
def test_the_phase_of_a_one_shot_lasts_until_its_targets_can_be_decided(rate: float, seconds: float) -> None:
    assert make(faults=("redis-flush",), rate=rate).phases.fault_s == seconds
    assert make(faults=("redis-flush@5s",), rate=rate).phases.fault_s == 5 + seconds


def test_a_one_shot_beside_a_lasting_fault_adds_nothing_to_it() -> None:
    assert make(faults=("redis-flush@5s", "kafka-down@0s+20s"), rate=100.0).phases.fault_s == 20


def test_floors_keep_a_small_scale_meaningful() -> None:
    plan = make(scenario="baseline", scale=0.001)
    assert plan.load.rate == 20 and plan.load.users == 10
    assert plan.phases.hold_s == 50, "1,000 arrivals at 20 RPS"


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 0.02),
        ({"rate": 50.0}, 0.005),
        ({"scenario": "baseline", "scale": 0.001}, 0.02),
        ({"scenario": "stress", "users": 500}, 0.05),
        ({"rate": 10_000.0}, 1.0),
    ],
)
def test_the_plan_says_what_share_of_the_full_load_it_really_is(options: dict[str, Any], share: float) -> None:
    assert make(**options).scale == share


def test_classes_without_a_share_of_the_arrivals_are_refused_in_the_open_model() -> None:
    """Locust keeps a class of weight 0 that has a fixed_count; a schedule has no use for it."""
    file = msgspec.structs.replace(FILE, classes=(UserClass(name="Lonely", weight=0.0, fixed_count=2),))

    def build(**options: Any) -> Plan:
        return build_plan(
            Experiment(stack="embedded", **options),
            describe=lambda: file,
            dependencies=DEPENDENCIES,
            faults=registered(),
            host="http://127.0.0.1:1",
            created="2026-01-02T03:04:05.678Z",
        )

    with pytest.raises(UsageError, match="Lonely: weight 0"):
        build(scenario="target")
    assert build(scenario="target", model="closed").load.classes[0].fixed_count == 2


def test_an_external_target_gets_the_full_load_by_default() -> None:
    plan = make(stack="external", host="http://127.0.0.1:1")
    assert plan.scale == 1 and plan.load.rate == 10_000 and plan.load.max_in_flight == 20_000


def test_stress_is_closed_and_uses_its_one_class() -> None:
    plan = make(scenario="stress")
    assert plan.load.model == "closed" and plan.load.rate is None
    assert [c.name for c in plan.load.classes] == ["HighThroughputUser"]


def test_spike_jumps_from_a_tenth_of_the_users() -> None:
    plan = make(scenario="spike")
    assert plan.load.jump_from == 10 and plan.load.users == 100
    assert plan.phases.baseline_s == 30 and plan.phases.fault_s == 30


def test_the_same_request_gives_the_same_plan_byte_for_byte() -> None:
    assert msgspec.json.encode(make(faults=("redis-down",), seed=7)) == msgspec.json.encode(
        make(faults=("redis-down",), seed=7)
    )


def test_a_plan_survives_json() -> None:
    plan = make(faults=("redis-down", "kafka-latency:latency=500ms@5s+20s", "db-connection-limit"))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


def test_overlapping_changes_of_one_property_are_refused() -> None:
    with pytest.raises(Refused, match="both set"):
        make(faults=("redis-down", "redis-down"))
    apart = make(faults=("redis-down@0s+10s", "redis-down@20s+10s"))
    assert [fault.id for fault in apart.faults] == ["redis-down", "redis-down#2"]
    assert apart.phases.fault_s == 30
    make(faults=("redis-latency", "redis-latency:latency=50ms"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scenario": "targt"}, "target"),
        ({"faults": ("redis-dwon",)}, "redis-down"),
        ({"faults": ("none", "redis-down")}, "control run"),
        ({"faults": ("redis-connection-limit",)}, "PostgreSQL"),
        ({"faults": ("db-connection-limit:limit=-1",)}, "limit"),
        ({"scale": 0.0}, "scale "),
        ({"scale": 2.0}, "scale "),
        ({"scale": float("nan")}, "scale "),
        ({"rate": -5.0}, "rate -5 "),
        ({"rate": float("inf")}, "rate inf "),
        ({"users": 0}, "users "),
        ({"users": -1}, "users "),
        ({"spawn_rate": 0.0}, "spawn_rate 0 "),
        ({"workers": 0}, "workers 0 "),
        ({"request_timeout_s": 0.0}, "request_timeout_s 0 "),
        ({"baseline_s": 5.0}, "baseline_s 5s "),
        ({"fault_s": 5.0}, "fault_s 5s "),
        ({"hold_s": 3.0}, "hold_s 3s "),
        ({"recovery_limit_s": 0.0}, "recovery_limit_s 0s "),
        ({"soak_s": 1e9}, "soak_s "),
        ({"scenario": "stress", "model": "open"}, "--rate"),
        ({"scenario": "spike", "model": "open", "rate": 10.0}, "closed model"),
        ({"model": "closed", "rate": 10.0}, "--rate"),
        ({"user_classes": ("NobodyUser",)}, "AnomalyDetectionUser"),
        ({"targets": ("p95 <",)}, "p95"),
        ({"targets": ("p59 < 200ms",)}, "p5"),
        ({"targets": ("p95 < 200",)}, "200"),
    ],
)
def test_absurd_options_are_refused_in_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(**options)
    message = f"{caught.value} {caught.value.hint or ''}"
    assert says in message and "\n" not in message


def test_a_target_that_cannot_be_decided_is_a_warning() -> None:
    plan = make(scenario="baseline", scale=0.001, targets=("fault: p99.9 < 1s",))
    assert any("p99.9" in warning and "requests to be decided" in warning for warning in plan.warnings)


def test_a_plan_longer_than_the_run_time_that_was_asked_for_says_so() -> None:
    assert any("run time" in warning for warning in make(run_time_s=60.0).warnings)
    assert make().phases.fault_s > 0 and not any("run time" in warning for warning in make().warnings)


def test_what_two_looks_need_is_told_with_what_a_phase_that_goes_on_can_have() -> None:
    options: dict[str, Any] = {"targets": ("p99.9 < 1s",), "scenario": "baseline", "scale": 0.05}
    plan = make(**options)
    (told,) = [w for w in plan.warnings if "'after: p99.9 < 1s'" in w]
    assert "needs 3688 requests" in told and "where the phase goes on" in told
    (once,) = [w for w in make(**options, extend=False).warnings if "'after: p99.9 < 1s'" in w]
    assert "needs 2995 requests" in once and "goes on" not in once


def test_a_comparison_of_few_failures_is_warned_of_and_another_proposed() -> None:
    plan = make(targets=("error_rate < 2x baseline",))
    assert any("'after: error_rate < 2x baseline'" in w and "max(2x baseline, 0.5%)" in w for w in plan.warnings)
    for text in ("error_rate < max(2x baseline, 0.5%)", "p95 < 2x baseline", "error_rate < 1%"):
        assert not any("compares two counts" in w for w in make(targets=(text,)).warnings), text


def test_a_recovery_limit_below_the_recovery_target_is_refused() -> None:
    """A search that ends before the target's time would call a service late that nobody waited for."""
    with pytest.raises(UsageError, match="shorter than target"):
        make(recovery_limit_s=15.0)
    assert make(recovery_limit_s=15.0, targets=("recovery < 10s",)).phases.recovery_limit_s == 15.0
    assert make(recovery_limit_s=15.0, targets=("~recovery < 30s",)).phases.recovery_limit_s == 15.0


def test_a_hold_of_fewer_than_a_thousand_arrivals_may_be_asked_for() -> None:
    short = {"scenario": "baseline", "scale": 0.02, "targets": ("p99.9 < 1s",)}
    assert make(**short).load.rate == 20 and make(**short).phases.hold_s == 50.0
    plan = make(**short, hold_s=25.0)
    assert plan.phases.hold_s == 25.0
    assert any("'after: p99.9 < 1s'" in warning for warning in plan.warnings), "what it cannot decide is told"
    with pytest.raises(UsageError, match="hold_s 20s is too short"):
        make(**short, hold_s=20.0)
