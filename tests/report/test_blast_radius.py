"""`harness plan` says what a run will touch, what it locks and what its undo needs."""

from __future__ import annotations

import msgspec

from harness.fault import registered, traits_of
from harness.model.records.faults import (
    Address,
    Credentials,
    Dependency,
    DependencyContainer,
    DependencyFront,
    DependencyProcess,
    DependencyProxy,
)
from harness.model.records.plan import Plan
from harness.report.terminal.plan_blast_radius import blast_radius
from tests.report.sample import plan, planned_fault

PLAN = plan(planned_fault())


def with_dependency(dependency: Dependency, kind: str, host: str) -> Plan:
    fault = PLAN.faults[0]
    change = msgspec.structs.replace(
        fault.change,
        kind=kind,
        traits=tuple(traits_of(registered()[kind])),
        dependency=dependency,
        property=f"role app on {dependency.name}: connection limit",
    )
    load = msgspec.structs.replace(PLAN.load, host=host)
    return msgspec.structs.replace(PLAN, load=load, faults=(msgspec.structs.replace(fault, change=change),))


def test_everything_that_is_reached_locked_and_needed_is_said() -> None:
    db = Dependency(
        name="db",
        kind="postgres",
        proxy=DependencyProxy(url="http://10.0.0.8:8474", name="db"),
        credentials=Credentials(admin="user=root", password_env="APP_PASSWORD", admin_password_env="ROOT_PASSWORD"),
        proxied=True,
        path=Address("127.0.0.1", 1001),
        direct=Address("10.0.0.7", 5432),
    )
    text = blast_radius(with_dependency(db, "connection-limit", "http://10.0.0.9:8000"))
    for said in (
        "http://10.0.0.9:8000",
        "role app on db: connection limit",
        "127.0.0.1:1001",
        "10.0.0.7:5432",
        "http://10.0.0.8:8474",
        "harness-lock",
        "advisory lock",
        "APP_PASSWORD",
        "ROOT_PASSWORD",
    ):
        assert said in text, said
    assert "connection-limit" in registered()


def test_an_envoy_in_front_is_reached_and_named() -> None:
    front = DependencyFront(url="http://127.0.0.1:9901", name="pay")
    risk = Dependency(name="risk", kind="http", front=front, path=Address("127.0.0.1", 18080))
    text = blast_radius(with_dependency(risk, "status", "http://10.0.0.9:8000"))
    assert "its front's listener 127.0.0.1:18080" in text and "Envoy http://127.0.0.1:9901, front pay" in text
    assert "harness-lock" not in text


def test_a_run_on_its_own_stack_locks_nothing() -> None:
    text = blast_radius(with_dependency(Dependency(name="redis", kind="redis", proxied=True), "down", ""))
    assert "the stack is this run's own" in text and "harness-lock" not in text


def test_what_is_the_users_own_is_named_and_no_port_is_chosen_for_it() -> None:
    container = DependencyContainer(engine="unix:///run/docker.sock", id="c" * 64, name="shop-redis-1")
    redis = Dependency(name="redis", kind="redis", runtime="container", container=container)
    text = blast_radius(with_dependency(redis, "pause", "http://10.0.0.9:8000"))
    assert "its container shop-redis-1, by the Docker engine unix:///run/docker.sock" in text
    worker = Dependency(name="worker", kind="tcp", runtime="process", process=DependencyProcess(pid_file="worker.pid"))
    assert "its process, by worker.pid" in blast_radius(with_dependency(worker, "pause", "http://10.0.0.9:8000"))
    for own in (redis, worker, Dependency(name="redis", kind="redis")):
        assert "ports are chosen" not in blast_radius(with_dependency(own, "pause", "http://10.0.0.9:8000"))


def test_control_characters_in_names_are_visible() -> None:
    text = blast_radius(with_dependency(Dependency(name="a\x1b[31m", kind="redis"), "down", ""))
    assert "\x1b" not in text
