"""lock: a table is locked exclusively in a session of ours, as a migration or a forgotten transaction does it.

The session belongs to the admin login, has a name by which any process finds and ends it, and a lease that the server
itself enforces. Its request for the lock is given up after a second: one that waits blocks all that come later.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from typing import Any, Literal

from faults.path.admin_session import admin_of, fresh_admin, keep
from faults.path.evidence import control_shows, probe_shows, undo_shows
from faults.path.health import healthy
from faults.path.record import record_of
from faults.proxy.proxy import path_again
from faults.servers.database import as_application, check_server, refuse_other_kinds
from harness.adapters.clients.administration import AdminSession, Table
from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.kind import attempts
from harness.dependencies.registry import kind_of
from harness.fault import ParamInfo, Stage
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Refused, UsageError
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Trait, UndoRecord

LEASE_S = 6.0
_RENEW_S = 1.0
_LOOK_LIMIT_S = 3.0


class Lock:
    """Its only state beside the records is the sessions that this process holds: an undo here closes them, an undo
    anywhere else ends them on the server by their name."""

    kind = "lock"
    summary = "a table is locked exclusively: whatever reads or writes it waits"
    undo_summary = "the session that has the lock is ended, by name on the server where another process does it"
    proof_summary = "that session has the lock, and a statement of the application's login on the table has to wait"
    needs: Literal["server"] = "server"
    traits: tuple[Trait, ...] = ("changes_server",)
    one_shot = False
    params = (ParamInfo(name="table", unit="name", default="", help="the table, TABLE or SCHEMA.TABLE; must be given"),)

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._lock = threading.Lock()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        refuse_other_kinds(self.kind, dependency)
        name, table = f"{dependency.name}-{self.kind}", str(params["table"])
        if not table:
            raise Refused(f"{name} needs to be told which table", hint=f"for example {name}:table=orders")
        server = kind_of(dependency).server
        up = dependency.direct is not None or dependency.path is not None
        if up and dependency.credentials.admin is None:
            raise Refused(
                f"{name} needs a {server} login of its own: no admin login is declared for {dependency.name}",
                hint="declare `admin`, another login than the application's; it takes the lock and ends the session",
            )
        return Change(
            kind=self.kind,
            traits=self.traits,
            dependency=dependency,
            params=dict(params),
            does=f"locks table {table} of {server} {dependency.name} exclusively in a session of its admin login, which"
            f" ends by itself {LEASE_S:g} s after the harness is gone",
            undoes="ends that session, and the lock with it",
            proves="that session has the lock, and a SELECT of the application's login on the table has to wait",
            property=f"{dependency.name}: table {table}",
            resources=(
                f"{dependency.kind} {dependency.name} {dependency.credentials.admin or 'of the stack'} {table}",
            ),
            # SELECT 1 needs no table.
            blind_probe=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency, name = change.dependency, str(change.params["table"])
        if dependency.credentials.admin is None:
            raise Refused(f"{dependency.name} has no admin login: is the stack up?")
        with kind_of(dependency).admin(dependency, of_application=True) as admin:
            table = admin.table(name)
            if table is None:
                raise Refused(
                    f"{kind_of(dependency).server} {dependency.name} has no table {name} that its admin login sees",
                    hint="write SCHEMA.TABLE where it is in another schema than the application's; views are none",
                )
            lacks = admin.lacks_to_lock(table)
            if lacks is not None:
                raise Refused(
                    f"the admin login of {dependency.name} may not lock table {name}",
                    hint=f"what would let it: {lacks}",
                )
            identity = admin.system_identifier()
        found = healthy(dependency)
        keep(dependency, record_id)
        return record_of(
            change,
            record_id,
            found,
            where={"system_identifier": identity, "table_oid": table.oid, "table": table.sql},
            original={},
            ours={"session": f"harness-lock-{secrets.token_hex(8)}"},
            admin=True,
        )

    def inject(self, record: UndoRecord) -> Applied:
        session = kind_of(record.dependency).admin(record.dependency, of_application=True)
        try:
            applied = session.hold_table(_table(record), _name(record), lease_s=LEASE_S)
        except BaseException:
            session.close()
            raise
        with self._lock:
            self._held[_name(record)] = _Held(session)
        return applied

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        with fresh_admin(record.dependency) as admin:
            held, seen = admin.holds_table(_table(record), _name(record))
        control = control_shows(
            expected=f"a session named {_name(record)} has {record.where['table']} locked exclusively",
            observed=seen,
            held=held,
        )
        return (control, _waits(record)) if stage == "injected" else (control,)

    def undo(self, record: UndoRecord) -> Applied:
        sent = monotonic()
        with self._lock:
            held = self._held.pop(_name(record), None)
        if held is not None:
            held.release()
        with admin_of(record) as admin:
            _same_server(admin, record)
            admin.end_named(_name(record))
        return Applied(sent, monotonic())

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        with admin_of(record) as admin:
            _same_server(admin, record)
            left = admin.sessions_named(_name(record))
        control = undo_shows(
            expected=f"no session named {_name(record)} is left", observed=f"{left} sessions", held=left == 0
        )
        return control, path_again(record)


class _Held:
    """The session with the lock, and the thread that keeps its lease. It ends with the process that made it."""

    def __init__(self, session: AdminSession) -> None:
        self._session = session
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="table-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Close the session. A server that answers nobody can keep the thread waiting; the lease ends it then."""
        self._stop.set()
        self._thread.join(_RENEW_S)
        if not self._thread.is_alive():
            self._session.close()

    def _keep(self) -> None:
        while not self._stop.wait(_RENEW_S):
            try:
                self._session.user()
            except AdapterError:
                return  # it was ended; the next proof tells that it is missing


def _waits(record: UndoRecord) -> Evidence:
    application = as_application(record.dependency)
    table = str(record.where["table"])
    try:
        attempt = attempts(application, application.path or application.direct)(monotonic() + _LOOK_LIMIT_S)
        seen, held = kind_of(application).table_waits(attempt, table), True
    except ProbeError as error:
        seen, held = error.detail, False
    except UsageError as error:
        seen, held = str(error), False
    return probe_shows(
        expected=f"through the application's path and with its login, a statement on {table} has to wait",
        observed=seen,
        held=held,
    )


def _table(record: UndoRecord) -> Table:
    oid = record.where["table_oid"]
    return Table(oid=oid if isinstance(oid, int) else 0, sql=str(record.where["table"]))


def _name(record: UndoRecord) -> str:
    return str(record.ours["session"])


def _same_server(admin: AdminSession, record: UndoRecord) -> None:
    mend = f"the session there ends by itself within {LEASE_S:g} s of the end of the harness; nothing is left to do"
    check_server(admin, record, "whose table was locked", mend)


LOCK = Lock()
