"""connection-hog: idle sessions take the server's connection slots, as a neighbour that leaks connections would.

Only free slots are taken: the application keeps the connections it has and gets hardly any new one. The sessions
belong to the admin login, have a name of their own by which any process finds and ends them, and a lease that the
server itself enforces.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, Literal

from faults.path.admin_session import admin_of, keep
from faults.path.evidence import control_shows, undo_shows
from faults.path.health import healthy
from faults.path.probes import whole_number
from faults.path.record import record_of
from faults.proxy.proxy import path_again
from faults.servers.database import as_application, check_server, refused_login
from faults.servers.slot_holder import LEASE_S, SlotHolder, files_for
from harness.adapters.clients import postgres_admin
from harness.adapters.clients.administration import AdminSession
from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.result import secret
from harness.fault import ParamInfo, Stage
from harness.model.clock import monotonic
from harness.model.errors import OtherKind, Refused
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Trait, UndoRecord

_SETTLE_S = 3.0
_MORE_LOGINS = 4
"""The application gives some slots back while the proof takes the others."""
_LEASE_SINCE = 140000


class ConnectionHog:
    """Its only state beside the records is the sessions that this process holds: an undo here closes them, an undo
    anywhere else ends them on the server by their name."""

    kind = "connection-hog"
    summary = "idle sessions take the database's connection slots; the application keeps what it has"
    undo_summary = "the sessions are ended, by name on the server where another process does it"
    proof_summary = "the sessions are there, few slots are free, a login is refused because the server is full"
    needs: Literal["server"] = "server"
    traits: tuple[Trait, ...] = ("limits_connections", "changes_server")
    one_shot = False
    params = (
        ParamInfo(name="leave", unit="count", default="2", help="slots left free for ordinary roles", low=0, high=100),
    )

    def __init__(self) -> None:
        self._holders: dict[str, SlotHolder] = {}
        self._lock = threading.Lock()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        if dependency.kind != "postgres":
            raise OtherKind(
                f"{dependency.name}-{self.kind} needs a PostgreSQL dependency; {dependency.name} is of kind"
                f" {dependency.kind}",
                hint=f"use it on the database, for example db-{self.kind}",
            )
        if (dependency.direct is not None or dependency.path is not None) and dependency.credentials.admin is None:
            raise Refused(
                f"{dependency.name}-{self.kind} needs a PostgreSQL login of its own: no admin login is declared for"
                f" {dependency.name}",
                hint="declare `admin`, another login than the application's; it takes the slots and ends the sessions",
            )
        if dependency.pooled:
            raise Refused(
                f"{dependency.name}-{self.kind} would not be seen behind a pooler such as PgBouncer, which keeps the"
                " sessions it has",
                hint=f"use {dependency.name}-connection-limit, or declare PostgreSQL itself as a dependency of its own",
            )
        leave = int(params["leave"])
        return Change(
            kind=self.kind,
            traits=self.traits,
            dependency=dependency,
            params=dict(params),
            does=f"opens idle sessions with PostgreSQL {dependency.name} as its admin login until {leave} of the slots"
            f" for ordinary roles are free; each ends by itself {LEASE_S:g} s after the harness is gone",
            undoes="ends those sessions",
            proves=f"the sessions are there, at most {leave} slots are free, a login is refused because the server"
            " is full",
            property=f"{dependency.name}: connection slots",
            resources=(
                f"postgres {dependency.name} {dependency.credentials.admin or 'of the stack'} connection slots",
            ),
            # With a slot left a probe gets in; who else takes that one just then is chance.
            blind_probe=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency = change.dependency
        leave = whole_number(change.params["leave"])
        if dependency.credentials.admin is None:
            raise Refused(f"{dependency.name} has no admin login: is the stack up?")
        with _admin(dependency) as admin:
            if admin.server_version() < _LEASE_SINCE:
                raise Refused(
                    f"{dependency.name}-{self.kind} needs PostgreSQL 14: only since then the server itself ends"
                    " sessions whose owner is gone (idle_session_timeout)"
                )
            if dependency.credentials.role is not None and admin.user() == dependency.credentials.role:
                raise Refused(
                    f"the admin login of {dependency.name} is the application's own role {dependency.credentials.role}",
                    hint="declare another login as `admin`",
                )
            if not admin.sees_every_session():
                raise Refused(
                    f"the admin login of {dependency.name} may not see other roles' sessions, so it cannot count slots",
                    hint="GRANT pg_read_all_stats TO it",
                )
            slots = admin.slots()
            identity = admin.system_identifier()
        if slots.free <= leave:
            raise Refused(
                f"PostgreSQL {dependency.name} has {slots.free} free slots of {slots.limit - slots.reserved};"
                f" leaving {leave} changes nothing"
            )
        files_for(slots.free - leave)
        found = healthy(dependency)
        keep(dependency, record_id)
        return record_of(
            change,
            record_id,
            found,
            where={"system_identifier": identity},
            original={"free_slots": slots.free},
            ours={"application_name": f"{postgres_admin.APPLICATION}-hog-{secrets.token_hex(8)}"},
            admin=True,
        )

    def inject(self, record: UndoRecord) -> Applied:
        dependency, name = record.dependency, _name(record)
        holder = SlotHolder(
            str(dependency.credentials.admin),
            password=secret(dependency.credentials.admin_password_env),
            application=name,
            leave=whole_number(record.params["leave"]),
        )
        with self._lock:
            self._holders[name] = holder
        sent = monotonic()
        holder.take()
        return Applied(sent, monotonic())

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        leave = whole_number(record.params["leave"])
        until = monotonic() + _SETTLE_S
        with _admin(record.dependency) as admin:
            while True:
                ours, slots = admin.sessions_named(_name(record)), admin.slots()
                # The application opens and closes connections all the time; what it gives back is taken soon after.
                if slots.free <= leave or ours == 0 or monotonic() > until:
                    break
                time.sleep(0.1)
        control = control_shows(
            expected=f"idle sessions of the fault are there, at most {leave} slots are free for ordinary roles",
            observed=f"{ours} sessions, {slots.free} of {slots.limit - slots.reserved} slots free",
            held=ours > 0 and slots.free <= leave,
        )
        # Later on the slots that are left are the application's: a login would take one from it.
        return (control, _refused_login(record.dependency, leave)) if stage == "injected" else (control,)

    def undo(self, record: UndoRecord) -> Applied:
        sent = monotonic()
        with self._lock:
            holder = self._holders.pop(_name(record), None)
        if holder is not None:
            holder.release()
        with admin_of(record) as admin:
            _same_cluster(admin, record)
            admin.end_named(_name(record))
        return Applied(sent, monotonic())

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        with admin_of(record) as admin:
            _same_cluster(admin, record)
            left, slots = admin.sessions_named(_name(record)), admin.slots()
        control = undo_shows(
            expected=f"no session named {_name(record)} is left",
            observed=f"{left} sessions, {slots.free} of {slots.limit - slots.reserved} slots free",
            held=left == 0,
        )
        return control, path_again(record)


def _admin(dependency: Dependency) -> postgres_admin.Admin:
    password = secret(dependency.credentials.admin_password_env)
    return postgres_admin.Admin(str(dependency.credentials.admin), password=password)


def _name(record: UndoRecord) -> str:
    return str(record.ours["application_name"])


def _same_cluster(admin: AdminSession, record: UndoRecord) -> None:
    mend = (
        f"the sessions there end by themselves within {LEASE_S:g} s; to end them now: SELECT"
        f" pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{_name(record)}';"
    )
    check_server(admin, record, "whose slots were taken", mend)


def _refused_login(dependency: Dependency, leave: int) -> Evidence:
    """The probes' login first, then the application's: a role or database that has a limit of its own says nothing
    about the server."""
    own = dependency.credentials
    logins = [dependency] if own.probe_login is not None else []
    if own.login is not None or own.role is not None:
        logins.append(as_application(dependency))
    return refused_login(
        logins,
        leave + _MORE_LOGINS,
        "a login is refused: no connection slot is free for an ordinary role",
        held=lambda refused: refused.kind == "limit" and not _own_limit(refused),
        says_nothing=_own_limit,
    )


def _own_limit(refused: ProbeError) -> bool:
    return refused.kind == "limit" and "too many connections for" in refused.detail


CONNECTION_HOG = ConnectionHog()
