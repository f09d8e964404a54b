"""What people write after --fault, and the one clear line they get when it is wrong."""

from __future__ import annotations

import pytest

from harness.model.errors import UsageError
from harness.model.records.faults import ParamInfo
from harness.plan.fault_text import decode_params, parse_fault

DEPENDENCIES = ("redis", "db", "kafka", "db-replica")
KINDS = ("down", "latency", "hang", "connection-limit")
LATENCY = (
    ParamInfo(name="latency", unit="duration", default="300ms", help="", low=0.001, high=60),
    ParamInfo(name="jitter", unit="duration", default="0ms", help="", low=0, high=60),
    ParamInfo(name="direction", unit="choice", default="down", help="", choices=("down", "up", "both")),
)


def test_everything_at_once() -> None:
    spec = parse_fault("kafka-latency:latency=500ms,jitter=50ms@10s+20s", DEPENDENCIES, KINDS)
    assert spec is not None
    assert (spec.dependency, spec.kind, spec.at_s, spec.for_s) == ("kafka", "latency", 10.0, 20.0)
    assert decode_params(spec, LATENCY) == {"latency": 0.5, "jitter": 0.05, "direction": "down"}


def test_the_longest_dependency_name_wins() -> None:
    spec = parse_fault("db-replica-down", DEPENDENCIES, KINDS)
    assert spec is not None and (spec.dependency, spec.kind) == ("db-replica", "down")
    spec = parse_fault("db-connection-limit", DEPENDENCIES, KINDS)
    assert spec is not None and (spec.dependency, spec.kind) == ("db", "connection-limit")


def test_none_is_the_control_run() -> None:
    assert parse_fault("none", DEPENDENCIES, KINDS) is None
    with pytest.raises(UsageError, match="takes no parameters"):
        parse_fault("none@3s", DEPENDENCIES, KINDS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("redis-dwon", "redis-down"),
        ("reddis-down", "redis-down"),
        ("redis", "redis-"),
        ("", "not a fault"),
        (":x=1", "not a fault"),
        ("redis-down@", "start"),
        ("redis-down@10", "start"),
        ("redis-down@-3s", "start"),
        ("redis-down+0s", "duration of 0"),
        ("redis-down+99h", "24 hours"),
        ("redis-down+nan", "duration"),
        ("redis-latency:latency", "not a parameter"),
        ("redis-latency:latency=", "not a parameter"),
        ("redis-latency:latency=1s,latency=2s", "twice"),
    ],
)
def test_nonsense_is_refused_in_one_line(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fault(text, DEPENDENCIES, KINDS)
    message = f"{caught.value} {caught.value.hint or ''}"
    assert says in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("redis-down", "the dependencies here are cache, db"),  # and not db-down, which has the same kind
        ("cahce-down", "did you mean 'cache-down'?"),
        ("cache-dwon", "did you mean 'cache-down'?"),
    ],
)
def test_no_fault_on_another_dependency_is_proposed(text: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_fault(text, ["cache", "db"], KINDS)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ("latncy=1s", "did you mean 'latency'"),
        ("latency=300", "300"),
        ("latency=-1ms", "latency"),
        ("latency=2h", "out of range"),
        ("latency=0ms", "out of range"),
        ("latency=1e400s", "latency"),
        ("direction=sideways", "direction"),
        ("latency=5KB", "latency"),
    ],
)
def test_a_wrong_parameter_says_what_would_be_right(params: str, says: str) -> None:
    spec = parse_fault(f"redis-latency:{params}", DEPENDENCIES, KINDS)
    assert spec is not None
    with pytest.raises(UsageError) as caught:
        decode_params(spec, LATENCY)
    message = f"{caught.value} {caught.value.hint or ''}"
    assert says in message and "\n" not in message


def test_a_fault_without_parameters_says_so() -> None:
    spec = parse_fault("redis-down:x=1", DEPENDENCIES, KINDS)
    assert spec is not None
    with pytest.raises(UsageError, match="takes no parameters"):
        decode_params(spec, ())
