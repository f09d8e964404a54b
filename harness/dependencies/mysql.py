"""MySQL and MariaDB: a real login and SELECT 1, ended by COM_QUIT, since servers count logins that do not come and
block whom they came from; the process list; SHOW GLOBAL STATUS. Bytes are moved as a text, as PostgreSQL's are."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import ExitStack

from harness.adapters.allowed_hosts import with_admin_host
from harness.adapters.clients import mysql_admin
from harness.adapters.clients.mysql_advisory_lock import NamedLock
from harness.adapters.clients.mysql_session import OVER_LIMIT, Session, check_options
from harness.adapters.processes import sockets
from harness.adapters.wire.exchange import ProbeError
from harness.config import rules
from harness.config.file import DependencyTable
from harness.dependencies.kind import (
    LIMIT_S,
    Attempt,
    CounterReader,
    DependencyKind,
    Direction,
    Note,
    PathClient,
    Received,
)
from harness.dependencies.probe import path_probe
from harness.dependencies.result import secret
from harness.dependencies.server_identity import Server, same_server
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Refused, UsageError
from harness.model.records.faults import Address, Dependency

_IDLE_SLACK_S = 1.5


class MySqlTable(DependencyTable, frozen=True, kw_only=True):
    """login, admin, probe_login: connection options (`user=app dbname=shop`). role: the account, login's user when left
    out; USER@HOST where its name alone is not enough."""

    needs_direct = True
    clients_named = "by name or address"

    login: str | None = None
    role: str | None = None
    password_env: str | None = None
    admin: str | None = None
    admin_password_env: str | None = None
    probe_login: str | None = None
    probe_password_env: str | None = None

    def check(self, where: str) -> None:
        for key in ("password_env", "admin_password_env", "probe_password_env"):
            rules.check_variable(getattr(self, key), f"{where}.{key}")
        if self.login is None:
            raise UsageError(
                f"{where}.login is missing: how the application logs in",
                hint='for example login = "user=app dbname=shop" and password_env = "APP_DB_PASSWORD"',
            )
        if self.probe_password_env is not None and self.probe_login is None:
            raise UsageError(f"{where}.probe_password_env has no probe_login")

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        assert self.login is not None
        user = _user(self.login, f"{where}.login")
        if self.probe_login is not None:
            _user(self.probe_login, f"{where}.probe_login")
        found = dependency.but(
            credentials={
                "login": self.login,
                "role": self.role or user,
                "password_env": self.password_env,
                "admin": self.admin,
                "admin_password_env": self.admin_password_env,
                "probe_login": self.probe_login,
                "probe_password_env": self.probe_password_env,
            }
        )
        if self.admin is not None:
            _user(self.admin, f"{where}.admin")
            values = check_options(self.admin)
            if "port" not in values and not values.get("host", "/").startswith("/"):
                raise UsageError(
                    f"{where}.admin names a host and no port", hint="write host=NAME port=NUMBER user=NAME"
                )
            try:
                with_admin_host(found)
            except UsageError as error:
                raise UsageError(f"{where}.admin: {error}", hint=error.hint) from error
        return found


class MySql(DependencyKind):
    name = "mysql"
    table = MySqlTable
    default_port = 3306
    images = "mysql|percona"
    one_server_a_folder = True
    moves_bytes = True
    asks_for_target = True
    unanswered_counts = True
    how_to_ask = "declare `login`"
    server = "MySQL"
    has_accounts = True
    least_limit = 1
    limit_ends = "the account's sessions, for MySQL counts only those that log in afterwards,"

    def probe(self, attempt: Attempt) -> str:
        with self.login(attempt) as session:
            session.rows("SELECT 1")
        return "login and SELECT 1"

    def close(self, attempt: Attempt) -> str:
        session = self.login(attempt)
        session.close_and_wait()
        return "closed"

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        text = "'" + "x" * size + "'"
        statement = {
            "down": f"SELECT REPEAT('x', {size:d})",
            "up": f"SELECT LENGTH({text})",
            "both": f"SELECT {text}",
        }[direction]
        with self.login(attempt) as session:
            (found,) = session.rows(statement)[0]
        came = int(found) if direction == "up" else len(found or "")
        if came != size:
            raise ProbeError("protocol", f"{came} bytes came instead of {size}", connected=True)
        return f"login and a text of {size} bytes"

    def login(self, attempt: Attempt) -> Session:
        return Session(
            _login(attempt.dependency),
            attempt.address,
            password=attempt.password,
            server=attempt.dependency.name,
            deadline=attempt.deadline,
        )

    def admin(
        self, dependency: Dependency, timeout_s: float = 5.0, *, of_application: bool = False
    ) -> mysql_admin.Admin:
        application = check_options(dependency.credentials.login or "")
        return mysql_admin.Admin(
            str(dependency.credentials.admin),
            password=secret(dependency.credentials.admin_password_env),
            server=dependency.name,
            timeout_s=timeout_s,
            database=application.get("dbname") if of_application else None,
        )

    def server_lock(self, admin: str, *, password: str | None, who: str, text: str) -> NamedLock:
        return NamedLock(admin, password=password, who=who, text=text)

    def limit_statement(self, account: str, limit: int) -> str:
        return mysql_admin.limit_statement(account, limit)

    def over_limit(self, refused: ProbeError, role: str) -> bool:
        return refused.code in OVER_LIMIT

    def table_waits(self, attempt: Attempt, table: str) -> str:
        with self.login(attempt) as session:
            session.rows("SET SESSION lock_wait_timeout = %s", 0 if session.mariadb else 1)
            if mysql_admin.must_wait(session, table):
                return "a SELECT on it got no lock"
        raise ProbeError("protocol", "a SELECT on it was answered", connected=True)

    def tells_clients(self, dependency: Dependency) -> bool:
        return dependency.credentials.admin is not None or dependency.direct is not None

    def clients(self, dependency: Dependency, peers: Collection[Address], target: Collection[int]) -> list[PathClient]:
        """The sessions of the application's account, and those of others that the target's own processes have open. The
        application's own login sees only its own."""
        with ExitStack() as opened:
            look = opened.enter_context(self._looking(dependency, 5.0))
            if dependency.credentials.admin is not None and look.lacks_to_see() is not None:
                look = opened.enter_context(self._looking(dependency.but(credentials={"admin": None}), 5.0))
            rows = look.processes()
        role = (dependency.credentials.role or "").partition("@")[0]
        its_own = sockets.ends_of(target) if target else frozenset()
        return [
            PathClient(
                id=str(row.id),
                address=mysql_admin.address_of(row),
                label=row.user,
                on_proxy=None,
                work=float(row.query) if row.query is not None else monotonic() - row.idle_s,
                slack=0.0 if row.query is not None else _IDLE_SLACK_S,
            )
            for row in rows
            if row.user == role or mysql_admin.address_of(row) in its_own
        ]

    def why_not_asked(self, dependency: Dependency) -> str:
        return f"{dependency.name} has no address of its own"

    def countable(self, dependency: Dependency) -> bool:
        return dependency.direct is not None or dependency.credentials.admin is not None

    def counters(self, dependency: Dependency) -> CounterReader:
        return _Status(self._looking(dependency, 2.0))

    def identity(self, dependency: Dependency) -> str | None:
        if dependency.direct is None and dependency.credentials.admin is None:
            return None
        with self._looking(dependency, 2.0) as admin:
            return admin.system_identifier() or None

    def _looking(self, dependency: Dependency, timeout_s: float) -> mysql_admin.Admin:
        """A login that only reads, past the proxy: the admin's, else the application's."""
        own = dependency.credentials
        if own.admin is not None:
            return self.admin(dependency, timeout_s)
        return _look(own.login or "", dependency.direct, secret(own.password_env), dependency.name, timeout_s)

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        own = dependency.credentials
        login, password = own.login or "", secret(own.password_env)

        def ask(address: Address | None, options: str = login, secret: str | None = password) -> Server:
            with _look(options, address, secret, dependency.name, LIMIT_S) as look:
                return Server(identity=look.system_identifier(), version=look.version, user=look.user())

        server = same_server(dependency, where, ask, note)
        if own.admin is None:
            note(
                f"{dependency.name}: no `admin` is declared, so connection-limit and lock are off, and of its clients"
                " only the sessions of the application's own login are seen; to see those of others as well, declare"
                " an admin with: GRANT PROCESS ON *.* TO it"
            )
            return dependency, server.version
        try:
            found = ask(None, own.admin, secret(own.admin_password_env))
            with self.admin(dependency, LIMIT_S) as admin:
                process = admin.lacks_to_see()
        except AdapterError as error:
            raise UsageError(
                f"{where}.admin: {error}", hint="correct the login and admin_password_env, or leave both out"
            ) from error
        if found.user == (own.role or "").partition("@")[0]:
            raise Refused(
                f"{where}.admin is the application's own account {found.user}: the undo must get in although it is"
                " limited",
                hint="declare another login",
            )
        if found.identity != server.identity:
            raise UsageError(
                f"{where}.admin leads to another MySQL than {where}.direct", hint="correct its host and port"
            )
        if process is not None:
            note(
                f"{dependency.name}: its admin may not see the sessions of others, so connection-limit is off, and of"
                f" its clients only the sessions of the application's own login are seen; to see all of them: {process}"
            )
        return self._probed(dependency, where), server.version

    def _probed(self, dependency: Dependency, where: str) -> Dependency:
        """A probe must not use the account that a fault limits. The admin may be let in over this path, or not."""
        own = dependency.credentials
        if own.probe_login is not None:
            if check_options(own.probe_login).get("user") == (own.role or "").partition("@")[0]:
                raise Refused(
                    f"{where}.probe_login is the application's own account {own.role}: probes would take its slots",
                    hint="leave it out, or declare another login",
                )
            result = path_probe(dependency)(LIMIT_S)
            if not result.ok:
                raise UsageError(f"{where}.probe_login: no login at {dependency.path}: {result.detail}")
            return dependency
        admin = check_options(own.admin or "")
        options = " ".join(
            f"{key}='{_escaped(admin[key])}'" for key in ("user", "sslmode", "sslrootcert") if key in admin
        )
        as_admin = dependency.but(credentials={"probe_login": options, "probe_password_env": own.admin_password_env})
        return as_admin if path_probe(as_admin)(LIMIT_S).ok else dependency

    def table_lines(self, environment: Mapping[str, str], variable: str, port: int | None) -> list[str]:
        def of(what: str) -> str | None:
            return environment.get(f"MYSQL_{what}") or environment.get(f"MARIADB_{what}")

        user, database = of("USER") or "root", of("DATABASE")
        options = f"user={user}" + (f" dbname={database}" if database else "")
        return [
            f"login = {json.dumps(options)}     # as the application logs in",
            f'password_env = "{variable}_PASSWORD"     # the variable with its password',
            '# admin = "user=root"     # another login, for proof, limits and locks',
            f'# admin_password_env = "{variable}_ADMIN_PASSWORD"',
        ]


class MariaDb(MySql):
    name = "mariadb"
    images = "mariadb"


class _Status:
    """connections, transactions (statements), aborted (logins that failed): totals; clients (now)."""

    def __init__(self, admin: mysql_admin.Admin) -> None:
        self._admin = admin

    def read(self) -> Mapping[str, object]:
        return self._admin.counters()

    def close(self) -> None:
        self._admin.close()


def _login(dependency: Dependency) -> str:
    """Of probes: one that the application does not use is preferred."""
    return dependency.credentials.probe_login or dependency.credentials.login or "user=root"


def _look(
    options: str, address: Address | None, password: str | None, server: str, timeout_s: float
) -> mysql_admin.Admin:
    return mysql_admin.Admin(options, password=password, server=server, timeout_s=timeout_s, address=address)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _user(options: str, where: str) -> str:
    """The user that connection options name. Raises UsageError for what is not known or names none."""
    try:
        user = check_options(options).get("user")
    except UsageError as error:
        raise UsageError(f"{where}: {error}", hint=error.hint) from error
    if user is None:
        raise UsageError(f"{where} names no user", hint='for example "user=app dbname=shop"')
    return user


MYSQL = MySql()
MARIADB = MariaDb()
