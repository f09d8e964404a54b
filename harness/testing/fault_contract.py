"""What every kind of fault promises, written once: the project's suite holds its own faults to it, authors theirs.

FaultContract is a class for pytest to collect; the functions are its parts, and need no test runner. An assertion
carries its own words, since pytest rewrites none outside of test files.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from harness.dependencies.probe import path_probe
from harness.fault import Fault
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Change, Dependency, Evidence, FaultSpec, UndoRecord
from harness.plan.consent import planned
from harness.plan.fault_text import decode_params

LOOKS_FOR_S = 10.0
"""One look after an undo may meet a busy machine, so it is repeated for so long, as a run does."""
STAYS_FOR_S = 0.2
ELSEWHERE_LIMIT_S = 180.0
UNDO_ELSEWHERE = """
import sys, msgspec
from harness.fault import registered
from harness.model.records.faults import UndoRecord
record = msgspec.json.decode(sys.stdin.buffer.read(), type=UndoRecord)
fault = registered()[record.kind]
fault.undo(record)
sys.stdout.buffer.write(msgspec.json.encode(fault.verify_undone(record)))
"""

Look = Callable[[Dependency], Any]
"""What a fault may change about a dependency, seen without the fault; two looks are compared with `==`."""
After = Callable[[Any, Any], Any]
"""From the looks before the fault and after the undo: what the second one has to be."""


class FaultContract:
    """Base class of a test class: give it a fault, a fixture `dependency` and `look`, and pytest runs the contract.

    fault: the object behind the entry point; its package has to be installed, for another process undoes by it.
    params: as a person writes them, where the defaults do not suit the server. environment: added to that of the
    process that undoes. The fixture returns a Dependency with its addresses, on a real server.
    """

    fault: Fault
    params: Mapping[str, str] = {}
    environment: Mapping[str, str] = {}

    def look(self, dependency: Dependency) -> Any:
        """Everything the fault may change, read from the server without the fault's own code."""
        raise NotImplementedError(f"{type(self).__name__} has to say how the server is looked at from outside: look()")

    def expected_after(self, before: Any, after: Any) -> Any:
        """What `look` shows once undone: as before, except for what nobody promises to bring back."""
        return before

    def test_it_describes_itself(self) -> None:
        assert_described(self.fault)

    def test_planning_is_pure(self, dependency: Dependency) -> None:
        assert_planned(self.fault, dependency, self.params)

    def test_it_is_proven_while_on_and_undone_without_a_trace(self, dependency: Dependency) -> None:
        assert_fault_contract(
            self.fault,
            dependency,
            look=self.look,
            params=self.params,
            expected_after=self.expected_after,
            environment=self.environment,
        )


def change_for(fault: Fault, dependency: Dependency, **params: str) -> Change:
    """Plan it as `run --fault DEPENDENCY-KIND:params` does. Raises UsageError, and Refused."""
    spec = FaultSpec(
        name=f"{dependency.name}-{fault.kind}", dependency=dependency.name, kind=fault.kind, params=params, text="test"
    )
    return planned(fault, dependency, decode_params(spec, fault.params))


def through_json(record: UndoRecord) -> UndoRecord:
    """As another process reads it from the journal."""
    return msgspec.json.decode(msgspec.json.encode(record), type=UndoRecord)


def held(evidence: tuple[Evidence, ...]) -> bool:
    return bool(evidence) and all(item.held for item in evidence)


def assert_held(evidence: tuple[Evidence, ...]) -> None:
    assert evidence, "no evidence"
    against = [f"{item.expected} <> {item.observed}" for item in evidence if not item.held]
    assert not against, "; ".join(against)


def assert_described(fault: Fault) -> None:
    """It has the methods, and says to people what it is."""
    assert isinstance(fault, Fault), f"{fault!r} lacks a part of harness.api.Fault"
    assert fault.summary and fault.undo_summary and fault.proof_summary, f"{fault.kind}: an empty summary"
    for info in fault.params:
        # A name has no default where only a person knows it; planning without it is refused.
        assert info.help and (info.default or info.unit == "name"), (
            f"{fault.kind}: parameter {info.name} lacks help or default"
        )


def assert_planned(fault: Fault, dependency: Dependency, params: Mapping[str, str] | None = None) -> None:
    """Planning opens no connection, says the same again, says all that people and locks need, and takes no parameter
    that it does not know."""
    params = params or {}
    with _no_connections():
        change = change_for(fault, dependency, **params)
        assert change_for(fault, dependency, **params) == change, "planned twice, and differently"
    assert change.kind == fault.kind, f"the change is of kind {change.kind}, the fault of {fault.kind}"
    assert change.one_shot == fault.one_shot, "fault and change disagree on one_shot"
    for sentence in (change.does, change.undoes, change.proves):
        assert sentence and "None" not in sentence, f"not a sentence for people: {sentence!r}"
    assert change.resources, "no resource to lock against other runs"
    try:
        change_for(fault, dependency, **params, no_such_parameter="1")
    except UsageError:
        return
    raise AssertionError("a parameter that it does not have was taken")


def assert_refused(fault: Fault, dependency: Dependency) -> None:
    """Planning it there is refused, in words that name the dependency and say what would do."""
    try:
        change_for(fault, dependency)
    except Refused as refused:
        assert dependency.name in str(refused), f"does not name {dependency.name}: {refused}"
        assert refused.hint, f"no hint at what would do: {refused}"
        return
    raise AssertionError(f"{fault.kind} on {dependency.name} was not refused")


def assert_fault_contract(
    fault: Fault,
    dependency: Dependency,
    *,
    look: Look,
    params: Mapping[str, str] | None = None,
    expected_after: After = lambda before, after: before,
    environment: Mapping[str, str] | None = None,
) -> None:
    """One life of a fault on a real server: captured, undone before it was on, on and proven, undone by a process that
    has only the record, undone again."""
    before = look(dependency)
    change = change_for(fault, dependency, **(params or {}))
    record = through_json(fault.capture(change, f"{dependency.name}-{fault.kind}#1"))
    assert look(dependency) == before, "planning and capturing must write nothing"
    assert_no_secret(record)
    assert_by_hand(fault, record)
    assert not held(fault.prove(record, "injected")), "proven although it is not on"
    # The run may die between writing the record and injecting.
    fault.undo(record)
    assert look(dependency) == before, "undoing what was never injected must change nothing"
    try:
        applied = fault.inject(record)
        assert applied.sent <= applied.replied, "the reply came before the statement was sent"
        evidence = applied.evidence + fault.prove(record, "injected")
        assert_held(evidence)
        missing = {"control", "probe"} - {item.source for item in evidence}
        assert not missing, f"no evidence of source {', '.join(sorted(missing))}"
        if not change.one_shot:
            _assert_stays(fault, change, record, look, before)
    finally:
        verified = undo_elsewhere(record, environment or {})
    _assert_verified(fault, record, verified)
    after = look(dependency)
    assert after == expected_after(before, after), f"undone, and not as before: {before!r} is {after!r}"
    fault.undo(record)
    _assert_verified(fault, record, fault.verify_undone(record))
    assert look(dependency) == after, "undoing again must change nothing"
    if not change.one_shot:
        assert not held(fault.prove(record, "held")), "proven although it is undone"


def _assert_verified(fault: Fault, record: UndoRecord, verified: tuple[Evidence, ...]) -> None:
    """What is undone is seen to be, or soon: an answer may be late on a busy machine."""
    until = time.monotonic() + LOOKS_FOR_S
    while not held(verified) and time.monotonic() < until:
        time.sleep(0.2)
        verified = fault.verify_undone(record)
    assert_held(verified)


def _assert_stays(fault: Fault, change: Change, record: UndoRecord, look: Look, before: Any) -> None:
    """What is not one-shot is on until it is undone."""
    on = look(record.dependency)
    assert on != before, "injected, and nothing is different"
    assert_held(fault.prove(record, "held"))
    time.sleep(STAYS_FOR_S)
    assert look(record.dependency) == on, "it must last"
    assert not held(fault.verify_undone(record)), "verified although it is on"
    if change.blind_probe:
        return
    # Recovery's zero comes from probes where they can see the fault, and only there.
    probed = path_probe(record.dependency)(1.0)
    normal = probed.ok and probed.seconds < float(str(record.healthy.get("good_below_s", "inf")))
    assert not normal, "a probe does not see it: blind_probe is to be True"


def assert_no_secret(record: UndoRecord) -> None:
    """The record names the variables that hold secrets, and has the value of none."""
    of = record.dependency
    variables = {
        *record.secrets.values(),
        of.credentials.password_env,
        of.credentials.admin_password_env,
        of.credentials.probe_password_env,
        of.credentials.pooler_password_env,
    } - {None}
    text = msgspec.json.encode(record).decode()
    for variable in sorted(str(name) for name in variables):
        value = os.environ.get(variable)
        assert not value or value not in text, f"the record has the value of {variable}"


def assert_by_hand(fault: Fault, record: UndoRecord) -> None:
    """What a person is to do where the undo cannot be carried out, if the fault says it, is one line."""
    by_hand = getattr(fault, "by_hand", None)
    if by_hand is not None:
        said = by_hand(record)
        assert isinstance(said, str) and said.strip() and "\n" not in said, f"by_hand is not one line: {said!r}"


def undo_elsewhere(record: UndoRecord, environment: Mapping[str, str]) -> tuple[Evidence, ...]:
    """Undo and verify in another process, which finds the kind as the keeper does: by its entry point."""
    done = subprocess.run(
        [sys.executable, "-c", UNDO_ELSEWHERE],
        input=msgspec.json.encode(record),
        env={**os.environ, **environment},
        capture_output=True,
        check=False,
        timeout=ELSEWHERE_LIMIT_S,
    )
    assert done.returncode == 0, f"undone in another process: {done.stderr.decode(errors='replace')}"
    return msgspec.json.decode(done.stdout, type=tuple[Evidence, ...])


@contextmanager
def _no_connections() -> Iterator[None]:
    """Python's own sockets refuse to connect meanwhile; what a library does in C is not seen."""

    def refuse(*_: object) -> None:
        raise AssertionError("planning opened a connection")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.socket.connect_ex = refuse  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        del socket.socket.connect, socket.socket.connect_ex
