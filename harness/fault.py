"""The Fault protocol: the door through which every fault comes, ours and those of users' packages.

A kind of fault is an object registered in the entry-point group `harness.faults` under its kind's name
("down", "latency", "connection-limit"). `harness` never imports `faults` by name.

    plan(dependency, params) -> Change          pure; raises Refused where this dependency cannot have it
    capture(change) -> UndoRecord               reads the running system, writes nothing there
    inject(record) -> Applied                   once, never retried blindly; raises OutcomeUnknown when unsure
    prove(record, stage) -> Evidence, ...       repeatable; stage "injected" right after, "held" later on
    undo(record) -> Applied                     compare and set; raises UndoUnverified when it is not ours to undo
    verify_undone(record) -> Evidence, ...      configuration read back, and a protocol probe on the data path

Everything after `capture` needs nothing but the record: it may run in another process, later.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal, Protocol, runtime_checkable

from harness.model.faults import Applied, Change, Dependency, DependencyKind, Evidence, UndoRecord
from harness.model.faults import ParamInfo as ParamInfo

GROUP = "harness.faults"

Stage = Literal["injected", "held"]


@runtime_checkable
class Fault(Protocol):
    kind: str
    summary: str
    """One line for the catalogue: what it does to the dependency."""
    undo_summary: str
    proof_summary: str
    kinds: frozenset[DependencyKind]
    """Dependencies that can have it."""
    needs: Literal["proxy", "runtime", "container", "postgres", "redis", "nothing"]
    """What the stack must offer for it."""
    one_shot: bool
    params: tuple[ParamInfo, ...]

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change: ...

    def capture(self, change: Change, record_id: str) -> UndoRecord: ...

    def inject(self, record: UndoRecord) -> Applied: ...

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]: ...

    def undo(self, record: UndoRecord) -> Applied: ...

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]: ...


@cache
def registered() -> Mapping[str, Fault]:
    """Every registered kind of fault, by its name. Raises TypeError when a package registers something else."""
    found: dict[str, Fault] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
        fault = point.load()
        if not isinstance(fault, Fault):
            raise TypeError(f"entry point {GROUP}:{point.name} ({point.value}) is not a Fault")
        found[point.name] = fault
    return found
