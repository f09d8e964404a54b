"""What runs a server: its processes or a container. What pause, kill and restart ask of either."""

from __future__ import annotations

from typing import Protocol

import msgspec

from harness.model.records.faults import Applied, Change, Dependency, Evidence, UndoRecord


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """Clauses for a plan: what is done to the server, what is seen of it then. again: how it is started."""

    server: str
    pause: str
    paused: str
    unpause: str
    kill: str
    gone: str
    stop: str
    replaced: str
    again: str


class Runtime(Protocol):
    """Everything but `plan` and `capture` goes by the record alone. The first of several pieces of evidence is the
    control plane's; the path of the target follows."""

    noun: str

    def words(self, dependency: Dependency) -> Words: ...

    def refuse(self, kind: str, dependency: Dependency) -> None:
        """At planning. Raises Refused where this fault cannot be had."""

    def resources(self, dependency: Dependency) -> tuple[str, ...]: ...

    def capture(self, change: Change, record_id: str, *, deadline_s: float | None) -> UndoRecord:
        """Raises Refused, AdapterError."""
        ...

    def pause(self, record: UndoRecord) -> Applied: ...

    def unpause(self, record: UndoRecord) -> Applied:
        """Whatever is paused goes on. Raises Gone when the server has ended and another one serves in its place,
        UndoUnverified when none does."""
        ...

    def kill(self, record: UndoRecord) -> Applied: ...

    def stop(self, record: UndoRecord, grace_s: float) -> tuple[Applied, str]:
        """Ask it to end, and end it after grace_s. Says what had to be done for that, in parentheses, or nothing."""
        ...

    def start(self, record: UndoRecord) -> None:
        """Start it unless it runs, and wait until it answers. Raises Gone and UndoUnverified as `unpause` does."""

    def life(self, record: UndoRecord) -> str:
        """Its life, by a name that no other one has. Raises Gone."""
        ...

    def is_paused(self, record: UndoRecord) -> tuple[Evidence, ...]: ...

    def is_gone(self, record: UndoRecord) -> tuple[Evidence, ...]: ...

    def is_replaced(self, record: UndoRecord) -> tuple[Evidence, ...]:
        """Since the record was made."""
        ...

    def runs_again(self, record: UndoRecord) -> tuple[Evidence, ...]: ...

    def by_hand(self, record: UndoRecord) -> str: ...
