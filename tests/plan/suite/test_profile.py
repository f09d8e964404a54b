"""The suites that are made from what is declared."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from harness.fault import registered
from harness.model.errors import UsageError
from harness.model.records.faults import Dependency
from harness.plan.suite.items import Suite
from harness.plan.suite.profile import profile
from harness.stack.embedded import EmbeddedStack


def declared() -> tuple[Dependency, ...]:
    return tuple(EmbeddedStack(logs=None).describe())  # type: ignore[arg-type]


def made(name: str, *, ours: bool = True, allow: tuple[str, ...] = ()) -> Suite:
    return profile(name, declared(), registered(), ours=ours, allow=allow)


def test_the_standard_suite_of_the_embedded_stack() -> None:
    suite = made("standard")
    names = [item.name for item in suite.items]
    assert len(names) == len(set(names)) == 37
    of = Counter(name.partition("-")[0] for name in names)
    assert of["redis"] == 8 and of["api"] == 2 and names[-1] == "control"
    of_each = ("down", "hang", "latency", "reset", "pause", "kill", "restart")
    for dependency in ("redis", "kafka", "db", "risk"):
        assert {f"{dependency}-{kind}" for kind in of_each} <= {*names}
    assert {"redis-flush", "api-kill", "api-pause", "db-connection-limit", "db-connection-hog"} <= {*names}
    assert {f"risk-{kind}" for kind in (*of_each, "status", "delay", "slow-body")} == {n for n in names if "risk" in n}
    assert not suite.shared and not [one for one in suite.left if one.name in names]


def test_the_quick_suite_of_the_embedded_stack() -> None:
    suite = made("quick")
    wanted = [f"{d}-{k}" for d in ("redis", "kafka", "db") for k in ("down", "hang", "latency", "kill")]
    assert sorted(item.name for item in suite.items) == sorted([*wanted, "risk-status", "control"])
    assert suite.shared == {"baseline_s": 15.0, "fault_s": 10.0}


@pytest.mark.parametrize("allow", [(), ("redis-flush",)])
def test_what_loses_data_is_not_tried_on_somebody_s_stack_unless_allowed(allow: tuple[str, ...]) -> None:
    suite = made("standard", ours=False, allow=allow)
    tried = "redis-flush" in [item.name for item in suite.items]
    left = [one.name for one in suite.left]
    assert tried == bool(allow) and ("redis-flush" in left) == (not allow)
    assert [one.why for one in suite.left if one.name == "redis-flush"] == (
        [] if allow else ["it cannot be undone, and the stack is not ours"]
    )


def test_what_cannot_be_done_to_a_dependency_is_told() -> None:
    redis = next(one for one in declared() if one.name == "redis")
    bare = [msgspec.structs.replace(redis, proxied=False, startable=False, runtime=None)]
    suite = profile("quick", bare, registered(), ours=True)
    assert [item.name for item in suite.items] == ["control"]
    assert {one.name for one in suite.left} == {f"redis-{kind}" for kind in ("down", "hang", "latency", "kill")}
    assert all("redis" in one.why for one in suite.left)


def test_an_http_upstream_without_an_envoy_has_the_usual_faults() -> None:
    risk = next(one for one in declared() if one.name == "risk")
    bare = [msgspec.structs.replace(risk, front=None)]
    quick = profile("quick", bare, registered(), ours=True)
    assert [item.name for item in quick.items] == ["risk-down", "risk-hang", "risk-latency", "risk-kill", "control"]
    standard = profile("standard", bare, registered(), ours=True)
    assert not {"risk-status", "risk-delay", "risk-slow-body"} & {item.name for item in standard.items}


def test_without_any_dependency_there_is_the_control_run() -> None:
    assert [item.name for item in profile("standard", [], registered(), ours=False).items] == ["control"]


def test_an_unknown_profile_says_what_there_is() -> None:
    with pytest.raises(UsageError, match="profile"):
        made("standrad")
