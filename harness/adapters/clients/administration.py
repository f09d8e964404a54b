"""What faults ask of a database's admin session, whichever database it is: accounts and their limits, sessions, slots,
a table locked in a session with a lease."""

from __future__ import annotations

from typing import Any, Protocol, Self

import msgspec

from harness.model.records.faults import Applied, Scalar

NO_LIMIT = -1


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """An account. limit: of its connections, NO_LIMIT = none. server_limit: what the server grants an account that has
    no limit of its own. oid: what it is known by (MySQL has no more than the account's name: `app@%`)."""

    oid: int | str
    name: str
    limit: int
    can_login: bool
    superuser: bool
    server_limit: int = NO_LIMIT

    @property
    def in_force(self) -> int:
        return self.limit if self.limit != NO_LIMIT else self.server_limit


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """A server's room for sessions. limit: its most connections. reserved: of these for administrators. used: by
    clients, without the passing sessions of the harness itself."""

    limit: int
    reserved: int
    used: int

    @property
    def free(self) -> int:
        """For an ordinary role."""
        return max(0, self.limit - self.reserved - self.used)


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table as the server knows it. oid: 0 where there are none (MySQL). sql: its quoted name, with its schema."""

    oid: int
    sql: str


class AdminSession(Protocol):
    """Raises Unreachable (no session), Rejected (the server said no), Forbidden (to this login), OutcomeUnknown."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def kept_as(self, name: str) -> None:
        """Name it, where the server shows names, and let it stay idle."""
        ...

    def user(self) -> str: ...

    def system_identifier(self) -> str:
        """What tells this server from every other. Empty where it does not tell."""
        ...

    def role(self, *, name: str | None = None, oid: Scalar = None) -> Role | None: ...

    def lacks_to_limit(self, role: Role) -> str | None:
        """The statement that would let this login limit the role and end its sessions; None = it may."""
        ...

    def set_limit(self, role: Role, limit: int) -> Applied: ...

    def session_count(self, role: Role) -> int: ...

    def end_excess(self, role: Role, keep: int, *, pooled: bool = False) -> int:
        """End sessions of the role until `keep` are left at most, and only such as its limit counts. pooled: all of
        them are a pooler's, whatever their names."""
        ...

    def slots(self) -> Slots: ...

    def holders(self) -> tuple[tuple[str, int], ...]:
        """Who has sessions and how many, most first."""
        ...

    def sessions_named(self, name: str) -> int: ...

    def end_named(self, name: str) -> int: ...

    def table(self, name: str) -> Table | None:
        """A table by its name, with or without its schema; None when there is none."""
        ...

    def lacks_to_lock(self, table: Table) -> str | None: ...

    def hold_table(self, table: Table, name: str, *, lease_s: float) -> Applied:
        """Lock it exclusively in this session, which gets that name; the server ends it once it was idle for lease_s.
        Raises Rejected where the lock cannot be had within a second."""
        ...

    def holds_table(self, table: Table, name: str) -> tuple[bool, str]:
        """Whether the session of that name has it locked, and what was seen."""
        ...

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]: ...
