"""What every registered fault promises, on every dependency that can have it and on the target, on real servers.

Two systems: the embedded stack as `harness stack up` brings it up, and one of the user's own, declared in harness.toml.
Planned without touching anything; proven while it is on and only then; undone from the record by a process that knows
nothing else; undone twice without harm; and seen from outside everything is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from worlds import Embedded, Own, World, declared_in_file, kept_sound, mark, outside

from harness.fault import Fault, registered
from harness.model.errors import Refused
from harness.model.records.faults import Dependency
from harness.testing import (
    assert_described,
    assert_fault_contract,
    assert_held,
    assert_planned,
    assert_refused,
    change_for,
)
from tests.support.servers.proxied import outside as seen_outside
from tests.support.servers.proxied import proxied

with TemporaryDirectory() as _folder:
    DECLARED = {"embedded": Embedded.declared, "own": declared_in_file(Path(_folder))}

SERVERS = {"redis": "valkey_server", "db": "postgres_server", "kafka": "kafka_server"}

LOSES_DATA = {("redis", "flush"), ("redis", "kill"), ("redis", "restart")}
"""What these take with them does not come back: nobody promises that."""


@contextmanager
def dependency_called(name: str, request: pytest.FixtureRequest) -> Iterator[Dependency]:
    servers = [request.getfixturevalue(f) for f in ("toxiproxy_server", "toxiproxy_process", SERVERS[name])]
    with proxied(*servers) as dependency:
        yield dependency


def possible(fault: Fault, dependency: Dependency) -> bool:
    """Planning is the judge of that, and knows it from the declaration alone."""
    try:
        change_for(fault, dependency)
    except Refused:
        return False
    return True


PAIRS = [
    (world, kind, dependency)
    for world, dependencies in DECLARED.items()
    for dependency in dependencies
    for kind, fault in registered().items()
]
CASES = [(world, kind, one) for world, kind, one in PAIRS if possible(registered()[kind], one)]
REFUSED = [(world, kind, one) for world, kind, one in PAIRS if not possible(registered()[kind], one)]


def ids(cases: list[tuple[str, str, Dependency]]) -> list[str]:
    return [f"{world}-{dependency.name}-{kind}" for world, kind, dependency in cases]


@pytest.fixture(scope="module")
def worlds() -> Iterator[dict[str, World]]:
    """Those that are up by now; each is brought up when a test first needs it."""
    up: dict[str, World] = {}
    yield up
    for world in up.values():
        world.close()


Use = Callable[[str], AbstractContextManager[World]]


@pytest.fixture
def use(worlds: dict[str, World], request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Use:
    def bring_up(name: str) -> World:
        folder = tmp_path_factory.mktemp(name)
        return Embedded(folder) if name == "embedded" else Own(folder, request.getfixturevalue("toxiproxy_server"))

    return lambda name: kept_sound(worlds, name, bring_up)


def test_every_headline_fault_is_registered() -> None:
    headline = {"down", "latency", "hang", "connection-limit", "pause", "kill", "restart"}
    assert headline <= set(registered())


def test_the_target_itself_can_be_hurt_on_both_systems() -> None:
    for name, target in (("embedded", "api"), ("own", "shop")):
        kinds = {kind for world, kind, one in CASES if world == name and one.name == target}
        assert kinds >= {"pause", "kill", "restart"}


@pytest.mark.parametrize(("kind", "fault"), registered().items(), ids=registered())
def test_a_fault_describes_itself_to_people(kind: str, fault: Fault) -> None:
    assert fault.kind == kind
    assert_described(fault)


@pytest.mark.parametrize(("name", "kind", "dependency"), CASES, ids=ids(CASES))
def test_planning_needs_no_running_system(name: str, kind: str, dependency: Dependency) -> None:
    assert_planned(registered()[kind], dependency)


@pytest.mark.parametrize(("name", "kind", "dependency"), REFUSED, ids=ids(REFUSED))
def test_what_a_system_cannot_do_is_refused_with_what_would_do(name: str, kind: str, dependency: Dependency) -> None:
    assert_refused(registered()[kind], dependency)


def another_way(name: str, kind: str, on: str) -> bool:
    """A toxic is put on a proxy of one's own as on one of the embedded stack, where every pair is tried; and on an HTTP
    upstream's as on a server's."""
    return (name == "own" or on == "risk") and registered()[kind].needs == "proxy" and kind != "down"


@pytest.mark.stack
@pytest.mark.parametrize(
    ("name", "kind", "declared"),
    [
        pytest.param(*case, id=id, marks=pytest.mark.thorough if another_way(case[0], case[1], case[2].name) else ())
        for case, id in zip(CASES, ids(CASES), strict=True)
    ],
)
def test_a_fault_is_proven_while_on_and_undone_without_a_trace(
    name: str, kind: str, declared: Dependency, use: Use
) -> None:
    with use(name) as world:
        assert_contract(world, registered()[kind], declared)


def assert_contract(
    world: World,
    fault: Fault,
    declared: Dependency,
    outside: Callable[[Dependency], dict[str, object]] = outside,
) -> None:
    dependency = world.dependency(declared.name)
    mark(dependency)
    assert_fault_contract(
        fault,
        dependency,
        look=outside,
        expected_after=lambda before, after: expected_after(before, after, dependency, fault.kind),
        environment=world.env,
    )


def expected_after(
    before: dict[str, object], after: dict[str, object], dependency: Dependency, kind: str
) -> dict[str, object]:
    """As before, except that who was killed runs in a new process, and that a cache's content may be lost with it."""
    expected = dict(before)
    if kind in ("kill", "restart"):
        assert after["pid"] not in (None, before["pid"])
        expected["pid"] = after["pid"]
    if (dependency.kind, kind) in LOSES_DATA:
        expected["mark"] = "$-1"
    return expected


@pytest.mark.stack
@pytest.mark.parametrize("kind", [k for k, f in registered().items() if f.needs == "proxy" and k != "down"])
@pytest.mark.parametrize("direction", ["up", "both"])
def test_a_toxic_in_every_direction_is_proven_and_removed(
    kind: str, direction: str, request: pytest.FixtureRequest
) -> None:
    fault = registered()[kind]
    with dependency_called("redis", request) as dependency:
        before = seen_outside(dependency)
        record = fault.capture(change_for(fault, dependency, direction=direction), "r")
        try:
            fault.inject(record)
            assert_held(fault.prove(record, "injected"))
        finally:
            fault.undo(record)
        assert_held(fault.verify_undone(record))
        assert seen_outside(dependency) == before


def test_the_records_hold_no_secret(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("THE_PASSWORD", "correct horse")
    with dependency_called("db", request) as dependency:
        dependency = dependency.but(
            credentials={"password_env": "THE_PASSWORD", "admin_password_env": "THE_PASSWORD", "probe_login": None}
        )
        changes = []
        for fault in (f for f in registered().values() if f.needs not in ("runtime", "container")):
            with suppress(Refused):  # another kind of server's
                changes.append((fault, change_for(fault, dependency)))
        assert {"down", "bandwidth", "connection-limit", "connection-hog"} <= {fault.kind for fault, _ in changes}
        for fault, change in changes:
            text = msgspec.json.encode(fault.capture(change, "r")).decode()
            assert "correct horse" not in text
            assert "THE_PASSWORD" in text
