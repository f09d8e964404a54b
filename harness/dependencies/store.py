"""A server's data where one command deletes all of it: what `flush` asks of a kind, whatever its protocol is.

A mark is a key of ours that expires by itself. Every method raises AdapterError, and UsageError for a missing variable.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from harness.model.records.faults import Address, Applied


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """identity: of this life of the server. keys: in all of it. flushes: how often it was emptied so far."""

    identity: str
    keys: int
    flushes: int


class Emptied(msgspec.Struct, frozen=True, kw_only=True):
    """said: what the server itself tells of it, for people. empty: that it holds nothing any more."""

    applied: Applied
    said: str
    empty: bool


class Store(Protocol):
    command: str
    """What deletes everything: "FLUSHALL"."""

    def ready(self, address: Address) -> None:
        """Writes nothing. Raises Refused where this server cannot be emptied, or not by this login."""

    def held(self, address: Address) -> Held: ...

    def mark(self, address: Address, key: str, *, lasts_s: int) -> None: ...

    def marked(self, address: Address, key: str) -> bool: ...

    def unmark(self, address: Address, key: str) -> Applied:
        """Whether it is there or not."""
        ...

    def empty(self, address: Address) -> Emptied:
        """Raises OutcomeUnknown where no answer came."""
        ...
