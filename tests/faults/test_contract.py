"""What every registered fault promises, on every dependency that can have it and on the target, on real servers.

Two systems: the embedded stack as `harness stack up` brings it up, and one of the user's own, declared in harness.toml.
Planned without touching anything; proven while it is on and only then; undone from the record by a process that knows
nothing else; undone twice without harm; and seen from outside everything is as it was.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from worlds import Embedded, Own, World, declared_in_file, kept_sound, mark, outside

from harness.adapters.probing.probe import path_probe
from harness.fault import Fault, registered
from harness.model.errors import Refused
from harness.model.records.faults import Change, Dependency, Evidence, FaultSpec, UndoRecord
from harness.plan.fault_text import decode_params
from tests.support.servers.proxied import outside as seen_outside
from tests.support.servers.proxied import proxied

with TemporaryDirectory() as _folder:
    DECLARED = {"embedded": Embedded.declared, "own": declared_in_file(Path(_folder))}

SERVERS = {"redis": "valkey_server", "db": "postgres_server", "kafka": "kafka_server"}

LOSES_DATA = {("redis", "flush"), ("redis", "kill"), ("redis", "restart")}
"""What these take with them does not come back: nobody promises that."""

LOOKS_FOR_S = 10.0
UNDO_ELSEWHERE = """
import sys, msgspec
from harness.fault import registered
from harness.model.records.faults import UndoRecord
record = msgspec.json.decode(sys.stdin.buffer.read(), type=UndoRecord)
fault = registered()[record.kind]
fault.undo(record)
sys.stdout.buffer.write(msgspec.json.encode(fault.verify_undone(record)))
"""


@contextmanager
def dependency_called(name: str, request: pytest.FixtureRequest) -> Iterator[Dependency]:
    servers = [request.getfixturevalue(f) for f in ("toxiproxy_server", "toxiproxy_process", SERVERS[name])]
    with proxied(*servers) as dependency:
        yield dependency


def change_for(fault: Fault, dependency: Dependency, **params: str) -> Change:
    spec = FaultSpec(
        name=f"{dependency.name}-{fault.kind}", dependency=dependency.name, kind=fault.kind, params=params, text="test"
    )
    return fault.plan(dependency, decode_params(spec, fault.params))


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


def through_json(record: UndoRecord) -> UndoRecord:
    return msgspec.json.decode(msgspec.json.encode(record), type=UndoRecord)


def held(evidence: tuple[Evidence, ...]) -> bool:
    return bool(evidence) and all(item.held for item in evidence)


def assert_held(evidence: tuple[Evidence, ...]) -> None:
    assert evidence
    assert all(item.held for item in evidence), [f"{item.expected} <> {item.observed}" for item in evidence]


def undo_elsewhere(record: UndoRecord, env: dict[str, str]) -> tuple[Evidence, ...]:
    done = subprocess.run(
        [sys.executable, "-c", UNDO_ELSEWHERE],
        input=msgspec.json.encode(record),
        env={**os.environ, **env},
        capture_output=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=tuple[Evidence, ...])


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
    assert fault.summary and fault.undo_summary and fault.proof_summary
    assert fault.kinds or kind == "none"
    for info in fault.params:
        assert info.help and info.default


@pytest.mark.parametrize(("name", "kind", "dependency"), CASES, ids=ids(CASES))
def test_planning_needs_no_running_system(name: str, kind: str, dependency: Dependency) -> None:
    change = change_for(registered()[kind], dependency)
    assert change.kind == kind
    for sentence in (change.does, change.undoes, change.proves):
        assert sentence and "None" not in sentence
    assert change.resources


@pytest.mark.parametrize(("name", "kind", "dependency"), REFUSED, ids=ids(REFUSED))
def test_what_a_system_cannot_do_is_refused_with_what_would_do(name: str, kind: str, dependency: Dependency) -> None:
    with pytest.raises(Refused) as refused:
        change_for(registered()[kind], dependency)
    assert dependency.name in str(refused.value)
    assert refused.value.hint


def another_way(name: str, kind: str) -> bool:
    """A toxic is put on a proxy of one's own as on one of the embedded stack, where every pair is tried."""
    return name == "own" and registered()[kind].needs == "proxy" and kind != "down"


@pytest.mark.stack
@pytest.mark.parametrize(
    ("name", "kind", "declared"),
    [
        pytest.param(*case, id=id, marks=pytest.mark.thorough if another_way(case[0], case[1]) else ())
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
    kind = fault.kind
    dependency = world.dependency(declared.name)
    mark(dependency)
    before = outside(dependency)
    change = change_for(fault, dependency)
    record = through_json(fault.capture(change, f"{dependency.name}-{kind}#1"))
    assert outside(dependency) == before, "planning and capturing must write nothing"
    assert not held(fault.prove(record, "injected")), "proven although it is not on"
    # The run may die between writing the record and injecting.
    fault.undo(record)
    assert outside(dependency) == before, "undoing what was never injected must change nothing"
    try:
        applied = fault.inject(record)
        assert applied.sent <= applied.replied
        assert_held(applied.evidence + fault.prove(record, "injected"))
        if not change.one_shot:
            on = outside(dependency)
            assert on != before
            assert_held(fault.prove(record, "held"))
            time.sleep(0.2)
            assert outside(dependency) == on, "it must last"
            assert not held(fault.verify_undone(record)), "verified although it is on"
            # Recovery's zero comes from probes where they can see the fault, and only there.
            probed = path_probe(dependency)(1.0)
            normal = probed.ok and probed.seconds < float(str(record.healthy["good_below_s"]))
            assert change.blind_probe or not normal, "the probe does not see it, and the change does not say so"
    finally:
        verified = undo_elsewhere(record, world.env)
    # As a run does: it looks until all is normal again, for one look may meet a busy machine.
    until = time.monotonic() + LOOKS_FOR_S
    while not held(verified) and time.monotonic() < until:
        time.sleep(0.2)
        verified = fault.verify_undone(record)
    assert_held(verified)
    after = outside(dependency)
    assert after == expected_after(before, after, dependency, kind)
    fault.undo(record)
    assert_held(fault.verify_undone(record))
    assert outside(dependency) == after, "undoing again must change nothing"
    if not change.one_shot:
        assert not held(fault.prove(record, "held")), "proven although it is undone"


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
        dependency = msgspec.structs.replace(
            dependency, password_env="THE_PASSWORD", admin_password_env="THE_PASSWORD", probe_login=None
        )
        elsewhere = ("runtime", "container")
        for fault in (f for f in registered().values() if "postgres" in f.kinds and f.needs not in elsewhere):
            text = msgspec.json.encode(fault.capture(change_for(fault, dependency), "r")).decode()
            assert "correct horse" not in text
            assert "THE_PASSWORD" in text
