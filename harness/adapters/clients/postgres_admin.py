"""PostgreSQL: connection options, and an admin session. With postgres_login the only place that imports psycopg.

Passwords are taken as arguments and never appear in an error: the messages of conninfo parsing, which echo fragments,
are not passed on.

Errors of the admin session: Unreachable (no session), Rejected (PostgreSQL said no, with its SQLSTATE),
OutcomeUnknown (the session broke while a statement was under way).
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import msgspec

from harness.adapters.clients.administration import Role, Slots, Table
from harness.model.clock import monotonic
from harness.model.errors import OutcomeUnknown, Rejected, Unreachable, UsageError
from harness.model.records.faults import Address, Applied, Scalar

if TYPE_CHECKING:
    from psycopg import Connection

APPLICATION = "harness"
"""application_name of every session of ours starts with this; such sessions are never counted or ended."""
_LOCK_WAIT_MS = 1000


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A client's session. port: the client's, -1 on a unix socket. active_at: server time of its last change."""

    pid: int
    role: str
    application: str
    host: str | None
    port: int
    active_at: float | None


def conninfo(options: str, /, *, address: Address | None = None, password: str | None = None, **more: str) -> str:
    """Connection options with an address, a password and more put in. Raises UsageError when they do not parse.

    A host that the options name is what the server's certificate is for (sslmode=verify-full), wherever the connection
    goes: the name stays, and the address is where it leads.
    """
    import psycopg
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    try:
        values: dict[str, Any] = {**conninfo_to_dict(options), **more}
        if address is not None:
            name = str(values.get("host") or "")
            checked = values.get("sslmode") == "verify-full" or values.get("sslrootcert") == "system"
            named = checked and _is_ip(address.host) and name and "," not in name and not name.startswith(("/", "@"))
            # An empty hostaddr: one in the options or in PGHOSTADDR would win over host and lead past the proxy.
            where = {"host": name, "hostaddr": address.host} if named else {"host": address.host, "hostaddr": ""}
            values.update(where, port=str(address.port))
        if password is not None:
            values["password"] = password
        return make_conninfo(**values)
    except psycopg.ProgrammingError:
        raise UsageError(
            "the PostgreSQL connection options are not understood", hint="write user=NAME dbname=NAME"
        ) from None


def options_of(text: str) -> dict[str, str]:
    """Connection options in either form, by name. Raises UsageError, which echoes nothing of them."""
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        return {name: str(value) for name, value in conninfo_to_dict(text).items() if value}
    except psycopg.ProgrammingError:
        raise UsageError(
            "the PostgreSQL connection options are not understood", hint="write host=NAME port=NUMBER user=NAME"
        ) from None


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def default_login(role: str) -> str:
    """Connection options for a role where no login is declared."""
    return conninfo("", user=role)


class Rights(msgspec.Struct, frozen=True, kw_only=True):
    """Of a login, towards a role: it may make roles, alter that one and end its sessions, see those of everybody.
    unlimited: the role is a superuser, to whom connection limits do not apply."""

    makes: bool
    alters: bool
    sees: bool
    unlimited: bool


class Admin:
    """One autocommit session that may alter roles and end sessions; use as a context manager.

    Superusers pass connection limits, so it gets in while the application does not. statement_timeout bounds how
    late a statement whose answer was lost can still take effect.
    """

    def __init__(self, options: str, *, password: str | None = None, timeout_s: float = 5.0) -> None:
        import psycopg

        # A database of encoding SQL_ASCII would hand out its texts as bytes.
        encoding = "UTF8"
        text = conninfo(options, password=password, application_name=f"{APPLICATION}-admin", client_encoding=encoding)
        milliseconds = int(timeout_s * 1000)
        try:
            self._connection: Connection[Any] = psycopg.connect(text, autocommit=True, connect_timeout=int(timeout_s))
        except psycopg.Error as error:
            raise Unreachable(f"no PostgreSQL admin session: {one_line(str(error), password)}") from None
        try:
            with self._translated():
                self._connection.execute(f"SET statement_timeout = {milliseconds}")
                self._connection.execute(f"SET lock_timeout = {milliseconds}")
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def kept_as(self, name: str) -> None:
        self.ask("SELECT set_config('application_name', %s, false)", name)

    def system_identifier(self) -> str:
        """What tells this cluster from every other, also after it moved. Empty where the login may not read it."""
        try:
            return str(self._row("SELECT system_identifier::text FROM pg_control_system()")[0])
        except Rejected:
            return ""

    def user(self) -> str:
        return str(self._row("SELECT current_user")[0])

    def role(self, *, name: str | None = None, oid: Scalar = None) -> Role | None:
        """One role by name or OID; None when there is none."""
        rows = self._rows(
            "SELECT oid::bigint, rolname, rolconnlimit, rolcanlogin, rolsuper FROM pg_roles "
            "WHERE rolname = %s::name OR oid = %s::oid",
            (name, oid),
        )
        if not rows:
            return None
        number, found, limit, can_login, superuser = rows[0]
        return Role(oid=number, name=found, limit=limit, can_login=can_login, superuser=superuser)

    def may_limit(self, role: Role) -> bool:
        """May this login alter the role's limit, see all of its sessions and end them?

        A login without these rights would see NULLs in pg_stat_activity and count no session at all.
        """
        row = self._row(
            "SELECT r.rolsuper OR (r.rolcreaterole AND pg_has_role(%s::oid, 'MEMBER WITH ADMIN OPTION')"
            " AND (pg_has_role(%s::oid, 'USAGE') OR (pg_has_role('pg_signal_backend', 'USAGE')"
            " AND pg_has_role('pg_read_all_stats', 'USAGE'))))"
            " FROM pg_roles r WHERE r.rolname = current_user",
            (role.oid, role.oid),
        )
        return bool(row[0])

    def lacks_to_limit(self, role: Role) -> str | None:
        if self.may_limit(role):
            return None
        admin, limited = quote_identifier(self.user()), quote_identifier(role.name)
        return (
            f"ALTER ROLE {admin} CREATEROLE; GRANT {limited} TO {admin} WITH ADMIN OPTION;"
            f" GRANT pg_signal_backend, pg_read_all_stats TO {admin};"
        )

    def set_limit(self, role: Role, limit: int) -> Applied:
        """ALTER ROLE ... CONNECTION LIMIT. Sessions that exist stay."""
        from psycopg import sql

        statement = sql.SQL("ALTER ROLE {} CONNECTION LIMIT {}").format(sql.Identifier(role.name), sql.Literal(limit))
        sent = monotonic()
        with self._translated():
            self._connection.execute(statement)
        return Applied(sent, monotonic())

    def session_count(self, role: Role) -> int:
        """Sessions that count against the role's limit, ours included."""
        return int(
            self._row(
                "SELECT count(*) FROM pg_stat_activity WHERE usesysid = %s AND backend_type = 'client backend'",
                (role.oid,),
            )[0]
        )

    def end_excess(self, role: Role, keep: int, *, pooled: bool = False, limit_s: float = 5.0) -> int:
        """End the role's newest sessions until `keep` are left; says how many were ended. pooled: a pooler's sessions
        have the name of the client that they served last, so one with a name of ours is no session of ours.

        Repeats, because a login that was under way at ALTER ROLE may still come in. Raises Rejected when more
        than `keep` are left after limit_s.
        """
        ended = 0
        until = monotonic() + limit_s
        while True:
            ended += int(
                self._row(
                    "WITH theirs AS (SELECT pid, row_number() OVER (ORDER BY backend_start DESC, pid DESC) AS newest,"
                    " count(*) OVER () AS n FROM pg_stat_activity WHERE usesysid = %s"
                    " AND backend_type = 'client backend' AND (%s OR application_name NOT LIKE 'harness%%'))"
                    " SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM theirs WHERE newest <= n - %s",
                    (role.oid, pooled, keep),
                )[0]
            )
            left = self.session_count(role)
            if left <= keep:
                return ended
            if monotonic() > until:
                raise Rejected(f"{left} sessions of role {role.name} are left, {keep} were to stay")
            time.sleep(0.01)

    def sessions(self) -> tuple[Session, ...]:
        """Every client's session but this one and those of the harness."""
        rows = self._rows(
            "SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), host(client_addr), client_port,"
            " extract(epoch FROM greatest(query_start, state_change))::float8 FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " AND application_name NOT LIKE 'harness%%'",
            (),
        )
        return tuple(
            Session(pid=pid, role=role, application=app, host=host, port=-1 if port is None else port, active_at=at)
            for pid, role, app, host, port, at in rows
        )

    def slots(self) -> Slots:
        """Raises Rejected where the login may not read it."""
        limit, reserved, used = self._row(
            "SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int"
            " + coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0),"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND application_name NOT IN (%s, %s))",
            (f"{APPLICATION}-admin", f"{APPLICATION}-probe"),
        )
        return Slots(limit=limit, reserved=reserved, used=used)

    def holders(self) -> tuple[tuple[str, int], ...]:
        """Who has sessions and how many, most first: role, application and address. Those of the harness too."""
        rows = self._rows(
            "SELECT coalesce(usename, 'another role'), coalesce(nullif(application_name, ''), ''),"
            " coalesce(host(client_addr), ''), count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3",
            (),
        )
        return tuple(
            (f"role {role}" + (f" as {app}" if app else "") + (f" from {host}" if host else ""), int(count))
            for role, app, host, count in rows
        )

    def rights(self, role: str) -> Rights:
        """Towards an application's role. Since PostgreSQL 16 whoever may make roles alters those only that are granted
        to them with ADMIN OPTION, and ending sessions comes with the grant; before, that takes membership of its own.
        """
        every, makes = self._row("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
        usage, option, unlimited = self._row(
            "SELECT coalesce(bool_or(pg_has_role(oid, 'USAGE')), false),"
            " coalesce(bool_or(pg_has_role(oid, 'USAGE WITH ADMIN OPTION')), false), coalesce(bool_or(rolsuper), false)"
            " FROM pg_roles WHERE rolname = %s",
            (role,),
        )
        ends = usage or self._row("SELECT pg_has_role('pg_signal_backend', 'USAGE')")[0]
        alters = makes and ends and (option or self.server_version() < 160000)
        sees = every or self.sees_every_session()
        return Rights(makes=every or makes, alters=every or alters, sees=sees, unlimited=unlimited)

    def sees_every_session(self) -> bool:
        """To any other login the sessions of other roles look empty."""
        row = self._row(
            "SELECT rolsuper OR pg_has_role('pg_read_all_stats', 'USAGE') FROM pg_roles WHERE rolname = current_user"
        )
        return bool(row[0])

    def server_version(self) -> int:
        """180004 for 18.4."""
        return self._connection.info.server_version

    def sessions_named(self, application: str) -> int:
        return int(self._row("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (application,))[0])

    def end_named(self, application: str, *, limit_s: float = 5.0) -> int:
        """End every session of that name and wait until none is left; says how many there were.

        Raises OutcomeUnknown when some are left after limit_s.
        """
        ended = 0
        until = monotonic() + limit_s
        while left := self.sessions_named(application):
            ended = max(ended, left)
            self._rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", (application,)
            )
            if monotonic() > until:
                raise OutcomeUnknown(f"{left} sessions named {application} are still there")
            time.sleep(0.01)
        return ended

    def table(self, name: str) -> Table | None:
        schema, _, bare = name.rpartition(".")
        rows = self._rows(
            "SELECT c.oid::bigint, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE c.relkind IN ('r', 'p') AND c.relname = %s::name"
            " AND CASE WHEN %s = '' THEN pg_table_is_visible(c.oid) ELSE n.nspname = %s::name END",
            (bare, schema, schema),
        )
        return Table(oid=rows[0][0], sql=".".join(map(quote_identifier, rows[0][1:]))) if rows else None

    def lacks_to_lock(self, table: Table) -> str | None:
        may = self._row(
            "SELECT has_table_privilege(%s::oid, 'UPDATE') OR has_table_privilege(%s::oid, 'DELETE')"
            " OR has_table_privilege(%s::oid, 'TRUNCATE')",
            (table.oid, table.oid, table.oid),
        )[0]
        return None if may else f"GRANT UPDATE ON {table.sql} TO {quote_identifier(self.user())};"

    def hold_table(self, table: Table, name: str, *, lease_s: float) -> Applied:
        """A request that waits blocks every later one, so it is given up soon. A name may be somebody else's table by
        now: then it is not locked."""
        self.ask(
            "SELECT set_config('application_name', %s, false), set_config('lock_timeout', %s, false),"
            " set_config('idle_in_transaction_session_timeout', %s, false)",
            name,
            str(_LOCK_WAIT_MS),
            str(int(lease_s * 1000)),
        )
        sent = monotonic()
        with self._translated():
            self._connection.execute("BEGIN")
            self._connection.execute(f"LOCK TABLE {table.sql} IN ACCESS EXCLUSIVE MODE".encode())
        if not self.holds_table(table, name)[0]:
            raise Rejected(f"{table.sql} is another table than it was before the fault")
        return Applied(sent, monotonic())

    def holds_table(self, table: Table, name: str) -> tuple[bool, str]:
        held = self._row(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name = %s"
            " AND l.relation = %s::oid AND l.mode = 'AccessExclusiveLock' AND l.granted",
            (name, table.oid),
        )[0]
        return held > 0, f"pg_locks has {held} such locks of a session named {name}"

    def counters(self) -> dict[str, object]:
        """connections, transactions, busy_s (seconds spent in statements) of all databases since their statistics were
        reset; clients: sessions now, ours included. Sessions report what they did with up to a second's delay."""
        connections, transactions, busy_s, clients = self._row(
            "SELECT sum(sessions)::float8, sum(xact_commit + xact_rollback)::float8, sum(active_time)::float8 / 1000,"
            " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::float8"
            " FROM pg_stat_database"
        )
        return {"connections": connections, "transactions": transactions, "busy_s": busy_s, "clients": clients}

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of any statement of ours. Raises Rejected, OutcomeUnknown."""
        return self._rows(statement, values)

    def _row(self, statement: str, values: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        return self._rows(statement, values)[0]

    def _rows(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._translated():
            return list(self._connection.execute(statement.encode(), values).fetchall())

    @contextmanager
    def _translated(self) -> Iterator[None]:
        import psycopg

        try:
            yield
        except psycopg.Error as error:
            text = one_line(str(error), None)
            if self._connection.broken or self._connection.closed or error.sqlstate is None:
                raise OutcomeUnknown(f"the PostgreSQL admin session broke: {text}") from None
            raise Rejected(f"PostgreSQL says ({error.sqlstate}): {text}") from None


class IdleSession:
    """A session that only takes a slot. The server ends it by itself when it was not touched for lease_s seconds.

    Raises Unreachable, Rejected (the server is full), UsageError.
    """

    def __init__(self, options: str, *, password: str | None, application: str, lease_s: float) -> None:
        import psycopg

        more = f"-c idle_session_timeout={int(lease_s * 1000)} -c statement_timeout=5000"
        given = options_of(options).get("options", "")
        text = conninfo(options, password=password, application_name=application, options=f"{given} {more}".strip())
        try:
            self._connection: Connection[Any] = psycopg.connect(text, autocommit=True, connect_timeout=5)
        except psycopg.Error as error:
            words = one_line(str(error), password)
            if any(full in words for full in ("too many c", "remaining connection slots")):
                raise Rejected(words) from None
            raise Unreachable(f"no PostgreSQL session: {words}") from None

    def touch(self) -> bool:
        """Renew its lease; False when it is no longer there."""
        import psycopg

        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def close(self) -> None:
        self._connection.close()


def quote_identifier(name: str) -> str:
    """A role's name as SQL text, for people to paste."""
    return '"' + name.replace('"', '""') + '"'


def one_line(text: str, password: str | None) -> str:
    text = " ".join(text.split())[:300]
    return text.replace(password, "***") if password else text


def preload() -> None:
    """Import what the first call would, so that an urgent one (healing) does not wait for it."""
    import psycopg  # noqa: F401
