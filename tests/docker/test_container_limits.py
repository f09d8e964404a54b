"""cpu and memory on a real engine: what was set before is there again afterwards, as the kernel has it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from small_container import answers, ask, docker, inspect, limits, small

from harness.adapters.docker.engine import connect
from harness.fault import Fault, registered
from harness.model.errors import Refused
from harness.model.records.faults import Dependency, UndoRecord
from harness.safety.healing.undo import undo_record
from tests.support.servers.real import wait_until

pytestmark = pytest.mark.docker


def captured(kind: str, dependency: Dependency, **params: Any) -> tuple[Fault, UndoRecord]:
    fault = registered()[kind]
    record = fault.capture(fault.plan(dependency, params), "r1")
    return fault, msgspec.json.decode(msgspec.json.encode(record), type=UndoRecord)


def kernel_limit(dependency: Dependency) -> int:
    with connect(str(dependency.container.engine)) as engine:
        return engine.stats(str(dependency.container.id)).memory_stats.limit


def throttled(dependency: Dependency) -> int:
    with connect(str(dependency.container.engine)) as engine:
        return engine.stats(str(dependency.container.id)).cpu_stats.throttling_data.throttled_periods


@pytest.mark.parametrize(
    ("options", "set_now"),
    [
        ((), {"nano": 0, "quota": 20_000, "period": 100_000}),
        (("--cpus", "1.5"), {"nano": 200_000_000, "quota": -1, "period": 100_000}),
        (("--cpu-quota", "80000"), {"nano": 0, "quota": 20_000, "period": 100_000}),
        (("--cpu-period", "50000", "--cpu-quota", "40000"), {"nano": 0, "quota": 10_000, "period": 50_000}),
        (("--cpu-period", "50000"), {"nano": 0, "quota": 10_000, "period": 50_000}),
    ],
)
def test_a_cpu_limit_is_set_as_the_old_one_was_and_put_back(options: tuple[str, ...], set_now: dict[str, int]) -> None:
    with small(*options) as dependency:
        container = str(dependency.container.id)
        assert dependency.direct is not None
        before = limits(container)
        fault, record = captured("cpu", dependency, cpus=0.2)
        ask(dependency.direct, "burn")
        fault.inject(record)
        assert {key: limits(container)[key] for key in set_now} == set_now
        evidence = fault.prove(record, "injected")
        assert all(item.held for item in evidence), evidence
        assert all(item.held for item in fault.prove(record, "held"))
        assert not all(item.held for item in fault.verify_undone(record))
        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        assert limits(container) == before
        assert undo_record(record).state == "verified"


def test_without_anything_to_do_no_cpu_fault_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faults.containers.cpu.THROTTLED_WITHIN_S", 1.0)
    with small() as dependency:
        fault, record = captured("cpu", dependency, cpus=0.5)
        fault.inject(record)
        control, probe = fault.prove(record, "injected")
        assert control.held
        assert not probe.held
        assert "nothing to do" in probe.observed or "never needed more" in probe.observed
        assert undo_record(record).state == "verified"


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--cpus", "0.1"), "limited to 0.1 CPUs"), (("--cpu-quota", "10000"), "limited to 0.1 CPUs")],
)
def test_a_cpu_limit_that_changes_nothing_is_refused(options: tuple[str, ...], words: str) -> None:
    with small(*options) as dependency, pytest.raises(Refused, match=words):
        captured("cpu", dependency, cpus=0.2)


def test_more_cpus_than_the_engine_has_are_refused() -> None:
    with small() as dependency, pytest.raises(Refused, match="changes nothing"):
        captured("cpu", dependency, cpus=64.0)


@pytest.mark.parametrize("kind", ["cpu", "memory"])
def test_what_somebody_else_set_is_left_and_both_values_are_told(kind: str) -> None:
    with small("--memory", "256m", "--cpus", "1") as dependency:
        container = str(dependency.container.id)
        params: dict[str, Any] = {"cpus": 0.2} if kind == "cpu" else {"memory": 64_000_000}
        fault, record = captured(kind, dependency, **params)
        fault.inject(record)
        docker("update", *(("--cpus", "0.7") if kind == "cpu" else ("-m", "128m", "--memory-swap", "128m")), container)
        assert not fault.prove(record, "held")[0].held
        outcome = undo_record(record)
        assert outcome.state == "unverified"
        words = ("0.2", "0.7", "limit of 1") if kind == "cpu" else ("64MB", "134.2MB", "268.4MB")
        assert all(word in str(outcome.left) for word in words), outcome.left
        # What it says to do by hand does it.
        assert outcome.mend is not None
        docker(*outcome.mend.partition("docker ")[2].partition(" ;")[0].split())
        assert undo_record(record).state == "verified"


@pytest.mark.parametrize(
    "options", [("-m", "256m"), ("-m", "256m", "--memory-swap", "300m"), ("-m", "256m", "--memory-swap", "-1")]
)
def test_a_memory_limit_is_enforced_and_put_back(options: tuple[str, ...]) -> None:
    with small(*options) as dependency:
        container = str(dependency.container.id)
        before, kernel = limits(container), kernel_limit(dependency)
        fault, record = captured("memory", dependency, memory=64_000_000)
        fault.inject(record)
        assert limits(container)["memory"] == 64_000_000
        assert kernel_limit(dependency) == 64_000_000
        evidence = fault.prove(record, "held")
        assert all(item.held for item in evidence), evidence
        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        assert limits(container) == before
        assert kernel_limit(dependency) == kernel
        # Nobody has felt anything of it, and that is what it says.
        assert outcome.applied is not None
        (met,) = outcome.applied.evidence
        assert not met.held and "a lower one would bite" in met.observed


def test_a_memory_limit_that_was_met_without_ending_anything_is_a_proof() -> None:
    with small("-m", "256m") as dependency:
        fault, record = captured("memory", dependency, memory=64_000_000)
        fault.inject(record)
        # Pages of a file count, and can be taken away again.
        docker(
            "exec",
            str(dependency.container.id),
            "sh",
            "-c",
            "head -c 100000000 /dev/zero > /tmp/big; cat /tmp/big > /dev/null",
        )
        outcome = undo_record(record)
        assert outcome.state == "verified" and outcome.applied is not None
        (met,) = outcome.applied.evidence
        assert met.held, met


def test_a_container_that_its_restart_policy_starts_over_and_over_is_proven_and_comes_back_at_once() -> None:
    with small("-m", "256m", "--restart", "always") as dependency:
        container = str(dependency.container.id)
        assert dependency.direct is not None
        before = limits(container)
        fault, record = captured("memory", dependency, memory=64_000_000)
        fault.inject(record)
        docker("exec", container, "touch", "/tmp/hungry")
        with pytest.raises((OSError, AssertionError)):
            assert ask(dependency.direct, "eat 200") == "ok"
        # By then the engine waits for seconds between two starts.
        wait_until("it is started again and again", lambda: inspect(container)["RestartCount"] >= 6)
        wait_until("it waits for the next", lambda: inspect(container)["State"]["Restarting"])
        evidence = fault.prove(record, "held")
        assert all(item.held for item in evidence), evidence
        outcome = undo_record(record)
        assert outcome.state == "verified" and outcome.applied is not None, outcome
        assert all(item.held for item in outcome.applied.evidence)
        assert limits(container) == before and answers(dependency.direct)


def test_memory_where_there_is_no_limit_is_refused_with_what_would_help() -> None:
    with small() as dependency:
        with pytest.raises(Refused, match="no memory limit") as refused:
            captured("memory", dependency, memory=64_000_000)
        assert "mem_limit" in str(refused.value.hint)
        assert limits(str(dependency.container.id))["memory"] == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-m", "50m"), "changes nothing"),
        (("-m", "256m", "--memory-reservation", "128m"), "reserved"),
        (("-m", "256m", "--rm"), "--rm"),
    ],
)
def test_a_memory_limit_that_could_not_be_had_is_refused(options: tuple[str, ...], words: str) -> None:
    with small(*options) as dependency, pytest.raises(Refused, match=words):
        captured("memory", dependency, memory=64_000_000)


def test_what_the_memory_limit_ended_is_started_again() -> None:
    with small("-m", "256m") as dependency:
        assert dependency.direct is not None
        fault, record = captured("memory", dependency, memory=64_000_000)
        fault.inject(record)
        with pytest.raises((OSError, AssertionError)):
            assert ask(dependency.direct, "eat 200") == "ok"
        # The connection is gone before the engine has heard of it.
        wait_until("its end is seen", lambda: not inspect(str(dependency.container.id))["State"]["Running"])
        assert inspect(str(dependency.container.id))["State"]["OOMKilled"]
        evidence = fault.prove(record, "held")
        assert all(item.held for item in evidence), evidence
        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        assert outcome.applied is not None and [item.held for item in outcome.applied.evidence] == [True]
        assert answers(dependency.direct)
        assert limits(str(dependency.container.id))["memory"] == 256 * 2**20


@pytest.mark.parametrize("kind", ["cpu", "memory"])
def test_limits_hold_over_a_restart_by_somebody_and_are_put_back(kind: str) -> None:
    with small("-m", "256m") as dependency:
        container = str(dependency.container.id)
        before = limits(container)
        params: dict[str, Any] = {"cpus": 0.2} if kind == "cpu" else {"memory": 64_000_000}
        fault, record = captured(kind, dependency, **params)
        fault.inject(record)
        docker("restart", "-t", "1", container)
        assert fault.prove(record, "held")[0].held
        assert undo_record(record).state == "verified"
        assert limits(container) == before
