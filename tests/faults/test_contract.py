"""What every registered fault promises, on every dependency that can have it, against real servers.

Planned without touching anything; proven while it is on and only then; undone from the record by a process that knows
nothing else; undone twice without harm; and seen from outside everything is as it was.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from proxied import outside, proxied

from harness.adapters.probe import path_probe
from harness.fault import Fault, registered
from harness.model.faults import Change, Dependency, Evidence, FaultSpec, UndoRecord
from harness.plan.fault_text import decode_params

SERVERS = {"redis": "valkey_server", "db": "postgres_server", "kafka": "kafka_server"}
KINDS = {"redis": "redis", "db": "postgres", "kafka": "kafka"}

CASES = [
    (kind, name)
    for kind, fault in registered().items()
    for name in SERVERS
    if KINDS[name] in fault.kinds and fault.needs in ("proxy", "postgres", "redis", "nothing")
]

UNDO_ELSEWHERE = """
import sys, msgspec
from harness.fault import registered
from harness.model.faults import UndoRecord
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


def through_json(record: UndoRecord) -> UndoRecord:
    return msgspec.json.decode(msgspec.json.encode(record), type=UndoRecord)


def assert_held(evidence: tuple[Evidence, ...]) -> None:
    assert evidence
    assert all(item.held for item in evidence), [f"{item.expected} <> {item.observed}" for item in evidence]


def test_every_headline_fault_is_registered() -> None:
    assert {"down", "latency", "hang", "connection-limit"} <= set(registered())


@pytest.mark.parametrize(("kind", "fault"), registered().items(), ids=registered())
def test_a_fault_describes_itself_to_people(kind: str, fault: Fault) -> None:
    assert fault.kind == kind
    assert fault.summary and fault.undo_summary and fault.proof_summary
    assert fault.kinds or kind == "none"
    for info in fault.params:
        assert info.help and info.default


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{n}-{k}" for k, n in CASES])
def test_planning_needs_no_running_system(kind: str, name: str) -> None:
    declared = Dependency(name=name, kind=KINDS[name], proxied=True, role="app")  # type: ignore[arg-type]
    change = change_for(registered()[kind], declared)
    assert change.kind == kind
    for sentence in (change.does, change.undoes, change.proves):
        assert sentence and "None" not in sentence
    assert change.resources


@pytest.mark.stack
@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{n}-{k}" for k, n in CASES])
def test_a_fault_is_proven_while_on_and_undone_without_a_trace(
    kind: str, name: str, request: pytest.FixtureRequest
) -> None:
    fault = registered()[kind]
    with dependency_called(name, request) as dependency:
        before = outside(dependency)
        change = change_for(fault, dependency)
        record = through_json(fault.capture(change, f"{name}-{kind}#1"))
        assert outside(dependency) == before, "planning and capturing must write nothing"
        assert not all(item.held for item in fault.prove(record, "injected")), "proven although it is not on"
        try:
            applied = fault.inject(record)
            assert applied.sent <= applied.replied
            assert outside(dependency) != before
            assert_held(fault.prove(record, "injected"))
            assert_held(fault.prove(record, "held"))
            assert not all(item.held for item in fault.verify_undone(record)), "verified although it is on"
            # Recovery's zero comes from probes where they can see the fault, and only there.
            probed = path_probe(dependency)(1.0)
            normal = probed.ok and probed.seconds < float(str(record.healthy["good_below_s"]))
            assert change.blind_probe or not normal, "the probe does not see it, and the change does not say so"
        finally:
            done = subprocess.run(
                [sys.executable, "-c", UNDO_ELSEWHERE],
                input=msgspec.json.encode(record),
                capture_output=True,
                check=False,
            )
        assert done.returncode == 0, done.stderr.decode()
        assert_held(msgspec.json.decode(done.stdout, type=tuple[Evidence, ...]))
        assert outside(dependency) == before
        fault.undo(record)
        assert_held(fault.verify_undone(record))
        assert outside(dependency) == before
        assert not all(item.held for item in fault.prove(record, "held")), "proven although it is undone"


@pytest.mark.stack
@pytest.mark.parametrize("kind", [k for k, f in registered().items() if f.needs == "proxy" and k != "down"])
@pytest.mark.parametrize("direction", ["up", "both"])
def test_a_toxic_in_every_direction_is_proven_and_removed(
    kind: str, direction: str, request: pytest.FixtureRequest
) -> None:
    fault = registered()[kind]
    with dependency_called("redis", request) as dependency:
        before = outside(dependency)
        record = fault.capture(change_for(fault, dependency, direction=direction), "r")
        try:
            fault.inject(record)
            assert_held(fault.prove(record, "injected"))
        finally:
            fault.undo(record)
        assert_held(fault.verify_undone(record))
        assert outside(dependency) == before


@pytest.mark.stack
def test_a_fault_whose_record_was_never_injected_is_undone_without_harm(request: pytest.FixtureRequest) -> None:
    """The run may die between writing the record and injecting."""
    with dependency_called("db", request) as dependency:
        before = outside(dependency)
        for fault in (f for f in registered().values() if "postgres" in f.kinds):
            record = fault.capture(change_for(fault, dependency), "r")
            fault.undo(record)
            assert_held(fault.verify_undone(record))
            assert outside(dependency) == before


def test_the_records_hold_no_secret(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("THE_PASSWORD", "correct horse")
    with dependency_called("db", request) as dependency:
        dependency = msgspec.structs.replace(
            dependency, password_env="THE_PASSWORD", admin_password_env="THE_PASSWORD", probe_login=None
        )
        for fault in (f for f in registered().values() if "postgres" in f.kinds):
            text = msgspec.json.encode(fault.capture(change_for(fault, dependency), "r")).decode()
            assert "correct horse" not in text
            assert "THE_PASSWORD" in text
