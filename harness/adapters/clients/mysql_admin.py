"""MySQL and MariaDB: an admin session. Accounts and their limits, who is connected, a table locked for a while.

Nothing here says whose a session is but its user and address, and user-level locks (GET_LOCK) of a name of ours, by
which any process finds the session that has one. Rights are read from SHOW GRANTS, where the roles of a MariaDB login
are told and those of a MySQL login are not: what is missing there is named, and to be granted to the login itself.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Collection
from contextlib import suppress
from functools import lru_cache
from typing import Any, Self

import msgspec

from harness.adapters.clients.administration import NO_LIMIT, Role, Slots, Table
from harness.adapters.clients.mysql_session import MUST_WAIT, Session, is_ours
from harness.adapters.clients.postgres_admin import options_of
from harness.adapters.wire.exchange import ProbeError
from harness.model.clock import monotonic
from harness.model.errors import Forbidden, OutcomeUnknown, Rejected, Unreachable, UsageError
from harness.model.records.faults import Address, Applied, Scalar

_LOCK_WAIT_S = 1
_KEPT_S = 28800
_FORBIDDEN = {"1044", "1095", "1142", "1143", "1227", "1370", "1045"}
_GRANT = re.compile(r"GRANT (?P<rights>.+?) ON (?P<on>\S+) TO ", re.IGNORECASE)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A session of the process list. port: -1 on a unix socket. query: number of its last query, where that is told
    (MariaDB). idle_s: since it last did something."""

    id: int
    user: str
    host: str
    port: int
    query: int | None
    idle_s: float


class Admin:
    """One session that may alter accounts and end sessions; use as a context manager. See AdminSession.

    server: the dependency's name. database: used where a table is named without one. address: where to, None = as the
    options say.
    """

    def __init__(
        self,
        options: str,
        *,
        password: str | None,
        server: str,
        timeout_s: float = 5.0,
        database: str | None = None,
        address: Address | None = None,
    ) -> None:
        self._server = server
        self._database = database or options_of(options).get("dbname")
        try:
            self._session = Session(options, address, password=password, server=server, timeout_s=timeout_s)
        except ProbeError as error:
            raise Unreachable(f"no MySQL session: {error.detail}") from None
        self.mariadb = self._session.mariadb

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.close()

    def kept_as(self, name: str) -> None:
        self._session.stays()
        self.ask("SET SESSION wait_timeout = %s", _KEPT_S)

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        try:
            return self._session.rows(statement, *values)
        except ProbeError as error:
            if not error.code:
                raise OutcomeUnknown(f"the MySQL session broke: {error.detail}") from None
            if error.code in _FORBIDDEN:
                raise Forbidden(f"MySQL says {error.detail}") from None
            raise Rejected(f"MySQL says {error.detail}") from None

    # -- who it is

    @property
    def version(self) -> str:
        return self._session.version

    def user(self) -> str:
        """The name alone, as the application's role is compared with it."""
        return str(self.ask("SELECT CURRENT_USER()")[0][0]).rpartition("@")[0]

    def system_identifier(self) -> str:
        for which in ("CONCAT(@@server_uid, ' in ', @@datadir)",) if self.mariadb else ("@@server_uuid",):
            with suppress(Rejected):
                return str(self.ask(f"SELECT {which}")[0][0])
        return " ".join(map(str, self.ask("SELECT @@hostname, @@port, @@datadir")[0]))

    # -- accounts

    def role(self, *, name: str | None = None, oid: Scalar = None) -> Role | None:
        """By its user name, or by USER@HOST. Raises Rejected where several accounts have that user name: the process
        list does not say which of them a session is."""
        wanted = str(name if oid is None else oid)
        user = wanted.rpartition("@")[0] if "@" in wanted else wanted
        rows = self.ask(
            "SELECT User, Host, max_user_connections, Super_priv, @@GLOBAL.max_user_connections FROM mysql.user"
            " WHERE User = %s",
            user,
        )
        found = [row for row in rows if "@" not in wanted or f"{row[0]}@{row[1]}" == wanted]
        if not found:
            return None
        if len(rows) > 1:
            raise Rejected(
                f"MySQL has {len(rows)} accounts called {user}"
                f" ({', '.join(sorted(f'{row[0]}@{row[1]}' for row in rows))}), and does not say whose a session is"
            )
        account, host, own, super_right, global_limit = found[0]
        return Role(
            oid=f"{account}@{host}",
            name=str(account),
            limit=int(own) or NO_LIMIT,
            can_login=True,
            superuser=super_right == "Y",
            server_limit=int(global_limit) or NO_LIMIT,
        )

    def lacks_to_limit(self, role: Role) -> str | None:
        end = "CONNECTION ADMIN" if self.mariadb else "CONNECTION_ADMIN"
        return self._lacks("*.*", ["CREATE USER", "PROCESS", end])

    def set_limit(self, role: Role, limit: int) -> Applied:
        sent = monotonic()
        self.ask(limit_statement(str(role.oid), limit))
        return Applied(sent, monotonic())

    def session_count(self, role: Role) -> int:
        return sum(1 for row in self.processes() if row.user == role.name)

    def end_excess(self, role: Role, keep: int, *, pooled: bool = False, limit_s: float = 5.0) -> int:
        """End every session that was there when the limit was set: MySQL counts only those that log in afterwards.
        Raises Rejected when some of them are left after limit_s."""
        last = max((row.id for row in self.processes()), default=0)
        ended = 0
        until = monotonic() + limit_s
        while left := [row for row in self.processes() if row.user == role.name and row.id <= last]:
            if monotonic() > until:
                raise Rejected(f"{len(left)} sessions of account {role.name} are left that its limit does not count")
            for row in left:
                ended += self._kill(row.id)
            time.sleep(0.01)
        return ended

    # -- sessions

    def processes(self) -> tuple[Row, ...]:
        """Every client's session but those of this process; without the right PROCESS only the login's own."""
        more = "QUERY_ID, TIME_MS / 1000" if self.mariadb else "NULL, TIME"
        rows = self.ask(
            f"SELECT ID, USER, HOST, {more} FROM information_schema.PROCESSLIST"
            " WHERE COMMAND NOT IN ('Daemon', 'Binlog Dump', 'Slave_IO', 'Slave_SQL')"
            " AND USER NOT IN ('system user', 'event_scheduler', 'unauthenticated user')"
        )
        return tuple(
            Row(id=id, user=user, host=_address(host)[0], port=_address(host)[1], query=query, idle_s=float(idle or 0))
            for id, user, host, query, idle in rows
            if not is_ours(self._server, id)
        )

    def lacks_to_see(self) -> str | None:
        """The statement that would let this login see the sessions of others; None = it may."""
        return self._lacks("*.*", ["PROCESS"])

    def slots(self) -> Slots:
        limit, used = self.ask(
            "SELECT @@GLOBAL.max_connections, COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND <> 'Daemon'"
        )[0]
        return Slots(limit=int(limit) + 1, reserved=1, used=int(used))  # one more for whoever may administer it

    def holders(self) -> tuple[tuple[str, int], ...]:
        rows = self.ask(
            "SELECT USER, SUBSTRING_INDEX(HOST, ':', 1), COUNT(*) FROM information_schema.PROCESSLIST"
            " WHERE COMMAND <> 'Daemon' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
        )
        return tuple((f"account {user}" + (f" from {host}" if host else ""), int(count)) for user, host, count in rows)

    def sessions_named(self, name: str) -> int:
        return int(self._holder(name) is not None)

    def end_named(self, name: str, *, limit_s: float = 5.0) -> int:
        """End the session that has this lock and wait until it is gone. Raises OutcomeUnknown when it is not."""
        until = monotonic() + limit_s
        ended = 0
        while (holder := self._holder(name)) is not None:
            ended = 1
            self._kill(holder)
            if monotonic() > until:
                raise OutcomeUnknown(f"session {holder}, which has the lock {name}, is still there")
            time.sleep(0.01)
        return ended

    def counters(self) -> dict[str, object]:
        """connections, transactions (statements of clients), aborted (logins that failed): totals; clients now."""
        names = {
            "Connections": "connections",
            "Questions": "transactions",
            "Threads_connected": "clients",
            "Aborted_connects": "aborted",
        }
        rows = self.ask(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({', '.join(['%s'] * len(names))})", *names)
        return {names[name]: value for name, value in rows if name in names}

    # -- tables

    def table(self, name: str) -> Table | None:
        schema, _, bare = name.rpartition(".")
        rows = self.ask(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"
            " WHERE TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA = %s AND TABLE_NAME = %s",
            schema or self._database or "",
            bare,
        )
        return Table(oid=0, sql=".".join(map(quoted, rows[0]))) if rows else None

    def lacks_to_lock(self, table: Table) -> str | None:
        schema = table.sql.partition("`.`")[0] + "`"
        on = f"{schema}.*"
        everywhere = self._rights("*.*") | self._rights(on)
        missing = [right for right in ("SELECT", "LOCK TABLES") if right not in everywhere]
        if "SELECT" in missing and "SELECT" in self._rights(table.sql):
            missing.remove("SELECT")
        return self._granting(on, missing) if missing and "ALL PRIVILEGES" not in everywhere else None

    def hold_table(self, table: Table, name: str, *, lease_s: float) -> Applied:
        self.ask("SET SESSION lock_wait_timeout = %s, SESSION wait_timeout = %s", _LOCK_WAIT_S, max(1, int(lease_s)))
        self._session.stays()
        if self.ask("SELECT GET_LOCK(%s, 0)", name)[0][0] != 1:
            raise Rejected(f"another session has the lock {name}")
        sent = monotonic()
        self.ask(f"LOCK TABLES {table.sql} WRITE")
        return Applied(sent, monotonic())

    def holds_table(self, table: Table, name: str) -> tuple[bool, str]:
        holder = self._holder(name)
        if holder is None:
            return False, f"no session has the lock {name}"
        self.ask("SET SESSION lock_wait_timeout = %s", 0 if self.mariadb else 1)
        waits = must_wait(self._session, table.sql)
        return waits, f"session {holder} is there, a statement on the table " + ("has to wait" if waits else "does not")

    # -- how

    def _holder(self, name: str) -> int | None:
        found = self.ask("SELECT IS_USED_LOCK(%s)", name)[0][0]
        return None if found is None else int(found)

    def _kill(self, connection: int) -> int:
        try:
            self.ask(f"KILL CONNECTION {connection:d}")
        except Forbidden:
            raise
        except Rejected:
            return 0  # it has ended by itself
        return 1

    def _rights(self, on: str) -> set[str]:
        found: set[str] = set()
        for (line,) in self.ask("SHOW GRANTS"):
            grant = _GRANT.match(str(line))
            if grant is not None and grant["on"].replace("\\", "") == on:
                found |= {right.strip().upper() for right in grant["rights"].split(",")}
        return found

    def _lacks(self, on: str, rights: Collection[str]) -> str | None:
        have = self._rights(on)
        # A server before the finer rights has SUPER for them.
        missing = [r for r in rights if r not in have and not (r.startswith("CONNECTION") and "SUPER" in have)]
        return self._granting(on, missing) if missing and "ALL PRIVILEGES" not in have else None

    def _granting(self, on: str, rights: Collection[str]) -> str:
        user, _, host = str(self.ask("SELECT CURRENT_USER()")[0][0]).rpartition("@")
        return f"GRANT {', '.join(rights)} ON {on} TO {_text(user)}@{_text(host)};"


def must_wait(session: Session, table: str) -> bool:
    """Whether a statement on a table, by its quoted name, has to wait longer than the session's lock_wait_timeout.
    Raises ProbeError."""
    try:
        session.rows(f"SELECT 1 FROM {table} LIMIT 0")
    except ProbeError as error:
        if error.code == MUST_WAIT:
            return True
        raise
    return False


def limit_statement(account: str, limit: int) -> str:
    """account: USER@HOST. Of no limit MySQL says 0."""
    user, _, host = account.rpartition("@") if "@" in account else (account, "", "%")
    return f"ALTER USER {_text(user)}@{_text(host)} WITH MAX_USER_CONNECTIONS {0 if limit == NO_LIMIT else limit:d};"


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(value: str) -> str:
    if "\\" in value or "\0" in value:
        raise UsageError(f"the account name {value!r} has a character that is not written into a statement")
    return "'" + value.replace("'", "''") + "'"


def _address(host: str) -> tuple[str, int]:
    """The process list has `name:port` or `address:port`, and no port for a unix socket."""
    name, colon, port = host.rpartition(":")
    return (_resolved(name), int(port)) if colon and port.isdigit() else (host, -1)


@lru_cache(maxsize=1000)
def _resolved(name: str) -> str:
    """A server that looks names up tells them instead of addresses."""
    try:
        return str(socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except (OSError, UnicodeError):
        return name


def address_of(row: Row) -> Address:
    return Address(row.host, row.port)
