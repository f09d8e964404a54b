"""The Fault protocol: the door through which every fault comes, ours and those of users' packages.

A kind of fault is an object registered in the entry-point group `harness.faults` under its kind's name
("down", "latency", "connection-limit"). `harness` never imports `faults` by name.

    plan(dependency, params) -> Change          pure; raises Refused where this dependency cannot have it
    capture(change) -> UndoRecord               reads the running system, writes nothing there
    inject(record) -> Applied                   once, never retried blindly; raises OutcomeUnknown when unsure
    prove(record, stage) -> Evidence, ...       repeatable; stage "injected" right after, "held" later on
    undo(record) -> Applied                     compare and set; raises UndoUnverified when it is not ours to undo
    verify_undone(record) -> Evidence, ...      configuration read back, and a protocol probe on the data path

    by_hand(record) -> str                      optional: what a person does when the undo cannot be carried out
    traits                                      optional: what others must know of it, see harness.model.records.faults

Everything after `capture` needs nothing but the record: it may run in another process, later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Literal, Protocol, runtime_checkable

from harness.model.entry_points import loaded
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Trait, UndoRecord
from harness.model.records.faults import ParamInfo as ParamInfo

GROUP = "harness.faults"

Stage = Literal["injected", "held"]


@runtime_checkable
class Fault(Protocol):
    kind: str
    summary: str
    """One line for the catalogue: what it does to the dependency."""
    undo_summary: str
    proof_summary: str
    needs: Literal["proxy", "front", "runtime", "container", "server"]
    """Where it is injected, which the stack must offer: the proxy, the Envoy in front, the server's process or
    container, its container, or the server by its own protocol."""
    one_shot: bool
    params: tuple[ParamInfo, ...]

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change: ...

    def capture(self, change: Change, record_id: str) -> UndoRecord: ...

    def inject(self, record: UndoRecord) -> Applied: ...

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]: ...

    def undo(self, record: UndoRecord) -> Applied: ...

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]: ...


def registered() -> Mapping[str, Fault]:
    """Every registered kind of fault that can be used, by its name; `unusable` tells of the others.

    Never raises: what one package has got wrong must not stop the undo of another one's fault.
    """
    return _load()[0]


def traits_of(fault: object) -> Collection[Trait]:
    """Those that it declares."""
    return getattr(fault, "traits", ())


def unusable() -> Mapping[str, str]:
    """Why a registered kind cannot be used, by its name: it does not import, is no Fault, or has a name taken."""
    return _load()[1]


@cache
def _load() -> tuple[Mapping[str, Fault], Mapping[str, str]]:
    return loaded(GROUP, Fault)  # type: ignore[type-abstract]
