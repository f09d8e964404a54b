"""One admin session with a database that is kept from before a fault: it gets in where a fresh login may not.

The application may hold every slot once a fault is gone (its pool grew, its backlog is large). The undo is no worse for
that: what was set is read back over the kept session, and who holds the slots is asked over it. Another process (the
keeper, `harness heal`) has none, and logs in afresh; a superuser still gets in then.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from harness.adapters.clients.administration import AdminSession
from harness.dependencies.registry import kind_of
from harness.model.errors import AdapterError, HarnessError, OutcomeUnknown, Unreachable
from harness.model.records.faults import Dependency, UndoRecord

_MOST_HOLDERS = 3


class _Kept:
    def __init__(self) -> None:
        self._sessions: dict[tuple[str, str], AdminSession] = {}
        self._lock = threading.Lock()

    def keep(self, dependency: Dependency, record_id: str) -> None:
        """Open it, if there is an admin login. What cannot be had is no hindrance: it is only asked when needed."""
        if dependency.credentials.admin is None:
            return
        try:
            session = fresh_admin(dependency)
            # By a name of its own it counts among the slots that are taken; those of passing sessions do not.
            session.kept_as("harness-kept")
        except HarnessError:
            return
        with self._lock:
            past = self._sessions.pop(_key(dependency, record_id), None)
            self._sessions[_key(dependency, record_id)] = session
        if past is not None:
            past.close()

    def take(self, record: UndoRecord) -> AdminSession | None:
        """Out of the hands of others, so that two threads never speak on one session."""
        with self._lock:
            return self._sessions.pop(_key(record.dependency, record.id), None)

    def give_back(self, record: UndoRecord, session: AdminSession) -> None:
        with self._lock:
            self._sessions[_key(record.dependency, record.id)] = session


_KEPT = _Kept()
keep = _KEPT.keep


def let_go(record: UndoRecord) -> None:
    """Close the kept session of a change that is undone. May be called again."""
    session = _KEPT.take(record)
    if session is not None:
        session.close()


@contextmanager
def admin_of(record: UndoRecord) -> Iterator[AdminSession]:
    """The session kept for this change where it still answers, else a fresh login. Raises AdapterError, UsageError."""
    session = _KEPT.take(record)
    if session is not None:
        try:
            session.user()
        except AdapterError:  # it was ended, or its server was
            session.close()
            session = None
    if session is None:
        with fresh_admin(record.dependency) as fresh:
            yield fresh
        return
    try:
        yield session
    except (Unreachable, OutcomeUnknown):
        session.close()
        raise
    except BaseException:
        _KEPT.give_back(record, session)
        raise
    _KEPT.give_back(record, session)


def who_fills(record: UndoRecord) -> str:
    """Whose sessions take the slots of a database that is full, as the end of a sentence. Never raises."""
    dependency = record.dependency
    if dependency.credentials.admin is None and dependency.credentials.login is None:
        return ""  # nobody logs in to it
    if dependency.credentials.admin is None:
        return "; who holds its slots is not known: declare `admin`"
    try:
        with admin_of(record) as admin:
            slots, holders = admin.slots(), admin.holders()
    except HarnessError as error:
        return f"; who holds its slots could not be asked: {error}"
    most = ", ".join(f"{count} by {who}" for who, count in holders[:_MOST_HOLDERS])
    more = f" and {len(holders) - _MOST_HOLDERS} more" if len(holders) > _MOST_HOLDERS else ""
    return f"; of {slots.limit} slots {slots.used} are held: {most}{more}"


def _key(dependency: Dependency, record_id: str) -> tuple[str, str]:
    return str(dependency.credentials.admin), record_id


def fresh_admin(dependency: Dependency) -> AdminSession:
    """A login of its own."""
    return kind_of(dependency).admin(dependency)
