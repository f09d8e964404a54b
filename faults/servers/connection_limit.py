"""connection-limit: the application's account on a database may have only a few connections.

A new limit leaves existing sessions alone, so of these some are ended: in PostgreSQL (ALTER ROLE ... CONNECTION LIMIT)
the newest above the limit, in MySQL (ALTER USER ... WITH MAX_USER_CONNECTIONS) all, since it counts only those that log
in afterwards. The admin session is another login, which the limit does not concern, so the undo always gets in.

Behind PgBouncer the limit acts on the pooler's connections to PostgreSQL: its clients stay connected, share those that
are left, and wait. What is refused there is no login but one transaction more at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from faults.path.admin_session import admin_of, fresh_admin, keep
from faults.path.evidence import control_shows, undo_shows
from faults.path.health import healthy
from faults.path.probes import whole_number
from faults.path.record import record_of
from faults.proxy.proxy import path_again
from faults.servers.database import as_application, check_server, refuse_other_kinds, refused_login
from harness.adapters.clients.administration import NO_LIMIT, AdminSession, Role
from harness.adapters.wire.exchange import ProbeError
from harness.dependencies.registry import kind_of
from harness.fault import ParamInfo, Stage
from harness.model.clock import monotonic
from harness.model.errors import Gone, Refused, UndoUnverified
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Trait, UndoRecord


class ConnectionLimit:
    kind = "connection-limit"
    summary = "the application's database role may have only a few connections; the others are ended"
    undo_summary = "the role's connection limit is set back to what it was, if it still is what the fault set"
    proof_summary = "the limit reads back, the role's sessions are at most that many, one more login is refused"
    needs: Literal["server"] = "server"
    traits: tuple[Trait, ...] = ("limits_connections", "changes_server")
    one_shot = False
    params = (
        ParamInfo(name="limit", unit="count", default="2", help="connections the role may have", low=0, high=100),
    )

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        refuse_other_kinds(self.kind, dependency)
        up = dependency.direct is not None or dependency.path is not None
        if dependency.credentials.role is None or (up and dependency.credentials.admin is None):
            missing = (
                "the application's role" if dependency.credentials.role is None else "a login that may alter the role"
            )
            raise Refused(
                f"{dependency.name}-{self.kind} needs a {kind_of(dependency).server} login: {missing} is not declared"
                f" for {dependency.name}",
                hint="declare `role` (the application's) and `admin` (another login that may alter it)",
            )
        kind, limit = kind_of(dependency), int(params["limit"])
        if limit < kind.least_limit:
            raise Refused(
                f"{dependency.name}-{self.kind}: to {kind.server} a limit of {limit} means none",
                hint=f"limit={kind.least_limit} at least; {dependency.name}-down lets nobody in",
            )
        role = dependency.credentials.role
        return Change(
            kind=self.kind,
            traits=self.traits,
            dependency=dependency,
            params=dict(params),
            does=f"{kind.limit_statement(role, limit)} in {kind.server} {dependency.name}; {kind.limit_ends} are ended"
            + (
                f": they are PgBouncer's, whose clients stay connected and share the {limit} that are left"
                if dependency.pooled
                else ""
            ),
            undoes=f"sets the connection limit of role {role} back to what it was",
            proves=f"the limit reads back {limit}, role {role} has at most {limit} sessions, "
            + (
                f"of {limit + 1} transactions at once through PgBouncer one gets no connection"
                if dependency.pooled
                else "one more login is refused"
            ),
            property=f"role {role} on {dependency.name}: connection limit",
            resources=(
                f"{dependency.kind} {dependency.name} {dependency.credentials.admin or 'of the stack'} role {role}",
            ),
            blind_probe=True,
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        dependency = change.dependency
        limit = whole_number(change.params["limit"])
        if dependency.credentials.admin is None or dependency.credentials.role is None or dependency.path is None:
            raise Refused(f"{dependency.name} has no admin login or no address: is the stack up?")
        with fresh_admin(dependency) as admin:
            role = admin.role(name=dependency.credentials.role)
            if role is None or not role.can_login:
                raise Refused(
                    f"{kind_of(dependency).server} has no role {dependency.credentials.role!r} that can log in"
                )
            if role.superuser:
                raise Refused(
                    f"role {role.name} is a superuser: connection limits do not apply to it",
                    hint="give the application a role of its own",
                )
            if admin.user() == role.name:
                raise Refused(
                    f"the admin login of {dependency.name} is the application's own role {role.name}",
                    hint="the undo must get in while that role is limited: declare another login as `admin`",
                )
            lacks = admin.lacks_to_limit(role)
            if lacks is not None:
                raise Refused(
                    f"the admin login of {dependency.name} may not alter role {role.name} and end its sessions",
                    hint=f"what would let it: {lacks}",
                )
            if role.in_force != NO_LIMIT and role.in_force <= limit:
                raise Refused(
                    f"role {role.name} is already limited to {role.in_force} connections;"
                    f" a limit of {limit} changes nothing"
                )
            identity = admin.system_identifier()
        found = healthy(dependency)
        if dependency.pooled:
            _room_for(dependency, limit)
        keep(dependency, record_id)
        return record_of(
            change,
            record_id,
            found,
            where={
                "role_oid": role.oid,
                "role": role.name,
                "account": role.oid if isinstance(role.oid, str) else role.name,
                "system_identifier": identity,
            },
            original={"limit": role.limit},
            ours={"limit": limit},
            admin=True,
        )

    def inject(self, record: UndoRecord) -> Applied:
        """Limit first, then end: the other way round the pool would be back before the limit."""
        with fresh_admin(record.dependency) as admin:
            role = _role(admin, record)
            limited = admin.set_limit(role, whole_number(record.ours["limit"]))
            admin.end_excess(role, whole_number(record.ours["limit"]), pooled=record.dependency.pooled)
            return Applied(limited.sent, monotonic())

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        limit = whole_number(record.ours["limit"])
        with fresh_admin(record.dependency) as admin:
            role = _role(admin, record)
            sessions = admin.session_count(role)
        control = control_shows(
            expected=f"role {role.name} has connection limit {limit} and at most {limit} sessions",
            observed=f"limit {role.limit}, {sessions} sessions",
            held=role.limit == limit and sessions <= limit,
        )
        # Later on the role's slots are the application's: a login would take one from it.
        return (control, _refused_login(record.dependency, limit)) if stage == "injected" else (control,)

    def undo(self, record: UndoRecord) -> Applied:
        """Compare and set. Raises Gone when the role (by OID) no longer exists, UndoUnverified when it is not ours."""
        ours, original = whole_number(record.ours["limit"]), whole_number(record.original["limit"])
        with admin_of(record) as admin:
            role = _role(admin, record)
            if role.limit not in (ours, original):
                raise UndoUnverified(
                    f"role {role.name} has connection limit {role.limit}: it was {original},"
                    f" the harness had set {ours}, somebody changed it since",
                    _mend(record),
                )
            # Also when it reads back as the original: this waits behind an ALTER ROLE whose answer was lost.
            return admin.set_limit(role, original)

    def by_hand(self, record: UndoRecord) -> str:
        # The limit is in the catalogue: it outlives the server.
        server = kind_of(record.dependency).server
        return f"once {server} runs again, logged in as `{record.dependency.credentials.admin}`: {_mend(record)}"

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        original = whole_number(record.original["limit"])
        try:
            with admin_of(record) as admin:
                role = _role(admin, record)
            name, observed, held = role.name, f"connection limit {role.limit}", role.limit == original
        except Gone as gone:
            # With the role its limit is gone too; the application's path is still asked below.
            name, observed, held = str(record.where["role"]), str(gone), True
        control = undo_shows(
            expected=f"role {name} has connection limit {original}",
            observed=observed,
            held=held,
        )
        return control, path_again(record)


def _role(admin: AdminSession, record: UndoRecord) -> Role:
    """The very role that was changed, whatever it is called now. Raises Gone, UndoUnverified (another server)."""
    check_server(admin, record, "that was changed", f"on the server that was changed: {_mend(record)}")
    role = admin.role(oid=record.where["role_oid"])
    if role is None:
        raise Gone(f"role {record.where['role']} (OID {record.where['role_oid']}) no longer exists")
    return role


def _mend(record: UndoRecord) -> str:
    account, limit = str(record.where["account"]), whole_number(record.original["limit"])
    return kind_of(record.dependency).limit_statement(account, limit)


def _refused_login(dependency: Dependency, limit: int) -> Evidence:
    role, kind = str(dependency.credentials.role), kind_of(dependency)
    if dependency.pooled:
        return refused_login(
            [as_application(dependency)],
            limit + 1,
            f"of {limit + 1} transactions at once as {role} one gets no server connection",
            held=lambda refused: refused.kind == "timeout" or _kept_out(refused),
            transactions=True,
        )
    return refused_login(
        [as_application(dependency)],
        limit + 1,
        f"a login as {role} is refused: too many connections",
        held=lambda refused: kind.over_limit(refused, role),
    )


def _kept_out(refused: ProbeError) -> bool:
    """PgBouncer hands on what PostgreSQL said, and says it of its own until it tries again."""
    return "too many connections for role" in refused.detail or "login has been failing" in refused.detail


def _room_for(dependency: Dependency, limit: int) -> None:
    """Raises Refused where PgBouncer lets no more than `limit` transactions through by itself: the limit would change
    nothing, and its proof would hold without it."""
    before = refused_login(
        [as_application(dependency)],
        limit + 1,
        "",
        held=lambda _: True,
        transactions=True,
    )
    if before.held:
        raise Refused(
            f"{dependency.name}: of {limit + 1} transactions at once through PgBouncer not all get a server connection"
            f" before the fault ({before.observed}); a limit of {limit} would show nothing",
            hint="choose a lower limit, or a larger pool (default_pool_size)",
        )


CONNECTION_LIMIT = ConnectionLimit()
