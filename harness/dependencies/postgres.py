"""PostgreSQL: a real login and SELECT 1 (SSLRequest is answered before recovery ends, so it proves nothing);
pg_stat_activity, and when each session was last active; its statistics. Bytes are moved as a text: made by the server
for `down`, sent to it for `up`, both for `both`.

Behind PgBouncer the sessions are the pooler's: its own console is asked who is connected, what it did, and whether its
pool is full, where `pooler_admin` is declared."""

from __future__ import annotations

import json
import secrets
import signal
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from harness.adapters.allowed_hosts import names_host, with_admin_host
from harness.adapters.clients import pgbouncer, postgres_admin, postgres_probe
from harness.adapters.clients.postgres_advisory_lock import AdvisoryLock
from harness.adapters.processes import sockets
from harness.adapters.wire.exchange import ProbeError
from harness.config import rules
from harness.config.file import DependencyTable
from harness.dependencies.kind import (
    COUNTERS_LIMIT_S,
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
from harness.model.errors import AdapterError, Forbidden, Refused, Unreachable, UsageError
from harness.model.records.faults import Address, Dependency


class PostgresTable(DependencyTable, frozen=True, kw_only=True):
    """login, admin, probe_login: connection options (`user=app dbname=app`). role: login's user when left out.
    pooler_admin: the same for the console of a PgBouncer at `direct`."""

    needs_direct = True
    clients_named = "by name or address"

    login: str | None = None
    role: str | None = None
    password_env: str | None = None
    admin: str | None = None
    admin_password_env: str | None = None
    probe_login: str | None = None
    probe_password_env: str | None = None
    pooler_admin: str | None = None
    pooler_password_env: str | None = None

    def check(self, where: str) -> None:
        for key in ("password_env", "admin_password_env", "probe_password_env", "pooler_password_env"):
            rules.check_variable(getattr(self, key), f"{where}.{key}")
        if self.login is None:
            raise UsageError(
                f"{where}.login is missing: how the application logs in",
                hint='for example login = "user=app dbname=app" and password_env = "APP_DB_PASSWORD"',
            )
        if self.probe_password_env is not None and self.probe_login is None:
            raise UsageError(f"{where}.probe_password_env has no probe_login")
        if self.pooler_password_env is not None and self.pooler_admin is None:
            raise UsageError(f"{where}.pooler_password_env has no pooler_admin")

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        assert self.login is not None
        user = _user(self.login, f"{where}.login")
        for key in ("probe_login", "pooler_admin"):
            if getattr(self, key) is not None:
                _user(getattr(self, key), f"{where}.{key}")
        if self.pooler_admin is not None and names_host(self.pooler_admin):
            raise UsageError(
                f"{where}.pooler_admin names a host: PgBouncer's console is asked at `direct`",
                hint="leave host and port out of it",
            )
        found = dependency.but(
            credentials={
                "login": _named(self.login, dependency.direct),
                "role": self.role or user,
                "password_env": self.password_env,
                "admin": self.admin,
                "admin_password_env": self.admin_password_env,
                "probe_login": _named(self.probe_login, dependency.direct) if self.probe_login else None,
                "probe_password_env": self.probe_password_env,
                "pooler_admin": self.pooler_admin,
                "pooler_password_env": self.pooler_password_env,
            }
        )
        if self.admin is not None:
            _user(self.admin, f"{where}.admin")
            try:
                with_admin_host(found)
            except UsageError as error:
                raise UsageError(f"{where}.admin: {error}", hint=error.hint) from error
        return found


class Postgres(DependencyKind):
    name = "postgres"
    table = PostgresTable
    default_port = 5432
    images = "postgres|postgis|timescale|pgvector"
    stop_signal = signal.SIGINT  # a fast shutdown: SIGTERM waits for its clients
    one_server_a_folder = True
    moves_bytes = True
    asks_for_target = True
    how_to_ask = "declare `admin`, a login that may read pg_stat_activity"

    def probe(self, attempt: Attempt) -> str:
        return postgres_probe.select_one(
            _login(attempt.dependency), attempt.address, password=attempt.password, deadline=attempt.deadline
        )

    def handshake(self, attempt: Attempt) -> str:
        """Only asked whether it speaks TLS: libpq hides how a connection ended."""
        return postgres_probe.ssl_request(attempt.address, attempt.deadline)

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        text = b"'" + b"x" * size + b"'"
        statement = {
            "down": b"SELECT repeat('x', %d)" % size,
            "up": b"SELECT length(" + text + b")",
            "both": b"SELECT " + text,
        }[direction]
        with self.login(attempt) as session:
            came = session.select(statement)
        if direction != "up" and came != size:
            raise ProbeError("protocol", f"{came} bytes came instead of {size}", connected=True)
        return f"login and a text of {size} bytes"

    def may_be_full(self, dependency: Dependency) -> bool:
        return _has_console(dependency)

    def full(self, attempt: Attempt) -> str:
        """PgBouncer lets its clients wait for a server connection; its console, on this same path, does not wait."""
        options = postgres_admin.options_of(_login(attempt.dependency))
        user = options.get("user", "")
        with _console(attempt.dependency, attempt.address, attempt.deadline) as console:
            pool = console.pool(options.get("dbname", user), user)
        if pool is not None and pool.full:
            raise ProbeError(
                "limit",
                f"PgBouncer's pool is full: {pool.used} of {pool.size} server connections of {pool.of} are in use,"
                f" {pool.waiting} clients wait for one",
                connected=True,
            )
        return "PgBouncer's pool has room"

    def who_fills(self, dependency: Dependency) -> str | None:
        if not dependency.pooled:
            return None
        if not _has_console(dependency):
            return "who holds PgBouncer's connections is not known: declare `pooler_admin`"
        try:
            with _console(dependency, dependency.direct, monotonic() + LIMIT_S) as console:
                return console.holders()
        except (ProbeError, UsageError) as error:
            return f"who holds PgBouncer's connections could not be asked: {error}"

    server = "PostgreSQL"
    has_accounts = True
    limit_ends = "the role's newest sessions above that"

    def admin(
        self, dependency: Dependency, timeout_s: float = 5.0, *, of_application: bool = False
    ) -> postgres_admin.Admin:
        options = str(dependency.credentials.admin)
        if of_application:
            login = postgres_admin.options_of(dependency.credentials.login or "")
            database = login.get("dbname") or login.get("user") or postgres_admin.options_of(options).get("dbname")
            options = postgres_admin.conninfo(options, dbname=database) if database else options
        password = secret(dependency.credentials.admin_password_env)
        return postgres_admin.Admin(options, password=password, timeout_s=timeout_s)

    def server_lock(self, admin: str, *, password: str | None, who: str, text: str) -> AdvisoryLock:
        return AdvisoryLock(admin, password=password, who=who, text=text)

    def limit_statement(self, account: str, limit: int) -> str:
        return f"ALTER ROLE {postgres_admin.quote_identifier(account)} CONNECTION LIMIT {limit};"

    def login(self, attempt: Attempt) -> postgres_probe.Login:
        return postgres_probe.Login(
            _login(attempt.dependency), attempt.address, password=attempt.password, deadline=attempt.deadline
        )

    @contextmanager
    def transaction(self, attempt: Attempt) -> Iterator[object]:
        with self.login(attempt) as session:
            session.select(b"BEGIN; SELECT 1")
            try:
                yield session
            finally:
                # One that is left in a transaction costs the pooler its connection.
                session.extend(monotonic() + _ROLLBACK_S)
                with suppress(ProbeError):
                    session.select(b"ROLLBACK")

    def over_limit(self, refused: ProbeError, role: str) -> bool:
        """The role is named: a server that is full as a whole is not this fault."""
        return refused.kind == "limit" and f'"{role}"' in refused.detail

    def table_waits(self, attempt: Attempt, table: str) -> str:
        """One query, hence one transaction, so that its lock_timeout ends with it also behind a pooler."""
        statement = (
            f"SELECT set_config('lock_timeout', '300', true); SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 0) _"
        )
        with self.login(attempt) as session:
            try:
                session.select(statement.encode())
            except ProbeError as error:
                if error.code == _LOCK_NOT_AVAILABLE:
                    return "a SELECT on it got no lock within 300 ms"
                raise
        raise ProbeError("protocol", "a SELECT on it was answered", connected=True)

    def tells_clients(self, dependency: Dependency) -> bool:
        if dependency.pooled:
            return _has_console(dependency)
        return dependency.credentials.admin is not None or dependency.direct is not None

    def clients(self, dependency: Dependency, peers: Collection[Address], target: Collection[int]) -> list[PathClient]:
        """The sessions of the application's role (at PgBouncer: of its login). Those of others are other services', as
        far as anybody can tell; but the target's own processes may log in twice, and its second role may go past the
        proxy."""
        if dependency.pooled:
            found = _pooled_clients(dependency)
            role = postgres_admin.options_of(dependency.credentials.login or "").get("user")
        else:
            found = self._sessions(dependency)
            role = dependency.credentials.role
            if not found and dependency.credentials.admin is None:
                raise Forbidden(f"{dependency.name}: no session of its own login is seen, and it may see no others")
        others = {one.id for one, user in found if role is not None and user != role}
        its_own = sockets.ends_of(target) if others and target else frozenset()
        return [one for one, _ in found if one.id not in others or one.address in its_own]

    def _sessions(self, dependency: Dependency) -> list[tuple[PathClient, str]]:
        """Each with its role."""
        with self._looking(dependency) as look:
            rows = [row for row in look.sessions() if row.role]
        return [
            (
                PathClient(
                    id=str(row.pid),
                    address=Address(row.host or "", row.port),
                    label=row.application or row.role,
                    on_proxy=None,
                    work=row.active_at,
                ),
                row.role,
            )
            for row in rows
        ]

    def _looking(self, dependency: Dependency) -> postgres_admin.Admin:
        """A login that only reads, past the proxy: the admin's, else the application's, to which PostgreSQL shows the
        sessions of its own role."""
        own = dependency.credentials
        if own.admin is not None:
            return self.admin(dependency)
        options = postgres_admin.conninfo(own.login or "", address=dependency.direct)
        return postgres_admin.Admin(options, password=secret(own.password_env))

    def why_not_asked(self, dependency: Dependency) -> str:
        if dependency.pooled:
            return (
                f"{dependency.name} stands behind a pooler (PgBouncer), which hides whose connections are whose, and"
                " no `pooler_admin` that may ask its console is declared"
            )
        return f"no `admin` login is declared for {dependency.name}, and no session of the application's own is seen"

    def countable(self, dependency: Dependency) -> bool:
        return _has_console(dependency) or dependency.credentials.admin is not None

    def counters(self, dependency: Dependency) -> CounterReader:
        if _has_console(dependency):
            return _PoolerStatistics(dependency)
        return _Statistics(self.admin(dependency, 2.0))

    def identity(self, dependency: Dependency) -> str | None:
        if dependency.credentials.admin is None:
            return None
        with self.admin(dependency, 2.0) as admin:
            return admin.system_identifier() or None

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        login, password = dependency.credentials.login or "", secret(dependency.credentials.password_env)
        server = same_server(dependency, where, lambda address: _server(login, address, password), note)
        if server.pooled:
            dependency = _behind_pooler(dependency, where, note)
        elif dependency.credentials.pooler_admin is not None:
            raise UsageError(
                f"{where}.pooler_admin: PostgreSQL itself answers at {dependency.direct}, and no PgBouncer",
                hint="leave it out: where the proxy leads to PostgreSQL, `admin` tells who is connected; or declare"
                " PgBouncer's address as `direct`",
            )
        elif dependency.credentials.admin is None:
            note(
                f"{dependency.name}: no `admin` is declared, so of its clients only the sessions of the application's"
                " own login are seen, and connection-limit and connection-hog are off; a login that suffices:"
                f" CREATE ROLE harness_admin LOGIN CREATEROLE PASSWORD '...'; "
                + _grants(dependency.credentials.role or "", "harness_admin")
            )
        found = _with_admin(dependency, where, server)
        for lack in _lacks(found) if found.credentials.admin is not None else ():
            note(f"{dependency.name}: {lack}")
        return found, server.version

    def table_lines(self, environment: Mapping[str, str], variable: str, port: int | None) -> list[str]:
        user = environment.get("POSTGRES_USER") or "postgres"
        database = environment.get("POSTGRES_DB") or user
        return [
            f"login = {json.dumps(f'user={user} dbname={database}')}     # as the application logs in",
            f'password_env = "{variable}_PASSWORD"     # the variable with its password',
            f'# admin = "user=ANOTHER dbname={database}"     # sees all sessions: for proof and limits',
            f'# admin_password_env = "{variable}_ADMIN_PASSWORD"     # the variable with its password',
            '# pooler_admin = "user=stats"     # where this is PgBouncer: one of its stats_users, for proof',
        ]


_LOCK_NOT_AVAILABLE = "55P03"
_ROLLBACK_S = 2.0


class _Statistics:
    """connections, transactions, busy_s (totals since its statistics were reset), clients (now)."""

    def __init__(self, admin: postgres_admin.Admin) -> None:
        self._admin = admin

    def read(self) -> Mapping[str, object]:
        return self._admin.counters()

    def close(self) -> None:
        self._admin.close()


class _PoolerStatistics:
    """PgBouncer's: see Console.counters. Each reading has a login of its own, which counts against no pool."""

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency

    def read(self) -> Mapping[str, object]:
        with _console(self._dependency, self._dependency.direct, monotonic() + COUNTERS_LIMIT_S) as console:
            return console.counters()

    def close(self) -> None:
        pass


class _Look(postgres_admin.Admin):
    """Admin, as a plain client that only reads."""

    def version(self) -> str:
        return str(self._row("SHOW server_version")[0]).split(" ")[0]

    def started(self) -> str:
        return str(self._row("SELECT pg_postmaster_start_time()::text")[0])

    def seen(self) -> str | None:
        """The host from which the server sees this connection come; None over a Unix socket."""
        host = self._row("SELECT host(inet_client_addr())")[0]
        return str(host) if host is not None else None

    def pooled(self) -> bool:
        """A pooler gives its clients cancel keys of its own, so the process that it names is not the session's."""
        return int(self._row("SELECT pg_backend_pid()")[0]) != self._connection.info.backend_pid


def _grants(role: str, admin: str) -> str:
    """What lets an admin that may make roles alter this one, end its sessions and see everybody's."""
    role, admin = postgres_admin.quote_identifier(role), postgres_admin.quote_identifier(admin)
    return f"GRANT {role} TO {admin} WITH ADMIN OPTION; GRANT pg_read_all_stats TO {admin}"


def _lacks(dependency: Dependency) -> list[str]:
    """What its admin login cannot do, and the statements that grant it; nothing where its server does not tell."""
    own = dependency.credentials
    try:
        with _Look(str(own.admin), password=secret(own.admin_password_env), timeout_s=LIMIT_S) as look:
            rights = look.rights(own.role or "")
            admin = look.user()
    except AdapterError:
        return []
    lacking = [] if rights.alters else ["connection-limit would fail"]
    if not rights.sees:
        lacking.append("the application's sessions cannot be seen, so the path cannot be proven")
    found = []
    if lacking:
        makes = "" if rights.makes else f"ALTER ROLE {postgres_admin.quote_identifier(admin)} CREATEROLE; "
        found.append(
            f"its `admin` may not do all that faults and proofs need: {' and '.join(lacking)}; to grant it:"
            f" {makes}{_grants(own.role or '', admin)}"
        )
    if rights.unlimited:
        found.append(
            f"the role {own.role} is a superuser, to whom connection limits do not apply, so connection-limit would be"
            " refused; give the application a role of its own"
        )
    return found


def _has_console(dependency: Dependency) -> bool:
    return dependency.pooled and dependency.credentials.pooler_admin is not None


def _console(
    dependency: Dependency, address: Address | None, deadline: float, name: str = "console"
) -> pgbouncer.Console:
    own = dependency.credentials
    assert own.pooler_admin is not None and address is not None
    options = _over(own.pooler_admin, own.login or "")
    return pgbouncer.Console(options, address, password=secret(own.pooler_password_env), deadline=deadline, name=name)


def _pooled_clients(dependency: Dependency) -> list[tuple[PathClient, str]]:
    """PgBouncer's, each with its user. The time of the last request is in whole seconds: used within one, a client
    counts from the next one on."""
    try:
        with _console(dependency, dependency.direct, monotonic() + LIMIT_S) as console:
            rows = console.clients()
    except ProbeError as error:
        if error.kind in ("auth", "protocol"):
            raise Forbidden(f"PgBouncer's console: {error}") from error
        raise Unreachable(f"PgBouncer's console at {dependency.direct}: {error}") from error
    return [
        (
            PathClient(
                # Its pointer is used again for the next client.
                id=f"{row.address} since {row.since}",
                address=row.address,
                label=row.application or row.user,
                on_proxy=None,
                work=row.asked_at,
            ),
            row.user,
        )
        for row in rows
    ]


def _behind_pooler(dependency: Dependency, where: str, note: Note) -> Dependency:
    """What its console gives, or why it gives nothing. Raises UsageError for a console that is another PgBouncer's."""
    pooled = msgspec.structs.replace(dependency, pooled=True)
    own, weak = dependency.credentials, "so the path is proven by established connections only"
    if own.pooler_admin is None:
        note(
            f"{dependency.name}: a pooler such as PgBouncer answers at {dependency.direct}: whose sessions are"
            f" whose cannot be told behind it, {weak}; to prove it by PgBouncer's own list of clients: declare"
            ' `pooler_admin`, a user of `stats_users` in pgbouncer.ini, for example pooler_admin = "user=stats"'
        )
        return pooled
    name = f"check-{secrets.token_hex(8)}"
    try:
        with _console(pooled, dependency.direct, monotonic() + LIMIT_S) as console:
            console.clients()
            path = dependency.path if dependency.path is not None else dependency.direct
            with _console(pooled, path, monotonic() + LIMIT_S, name):
                seen = console.named(f"{postgres_admin.APPLICATION}-{name}")
    except ProbeError as error:
        if error.detail.endswith("not allowed") or "before 1.18" in error.detail:
            user = postgres_admin.options_of(own.pooler_admin).get("user")
            grant = f"add {user} to `stats_users` in pgbouncer.ini, then RELOAD"
            note(
                f"{dependency.name}: its pooler_admin is of no use ({error.detail}), {weak}; to prove it by PgBouncer's"
                f" own list of clients: {'a PgBouncer since 1.18' if 'before' in error.detail else grant}"
            )
            return pooled.but(credentials={"pooler_admin": None, "pooler_password_env": None})
        raise UsageError(
            f"{where}.pooler_admin: no login at PgBouncer's console: {error.detail}",
            hint="correct the login, or leave it out",
        ) from error
    if not seen:
        raise UsageError(
            f"{where}: {dependency.path}, where the application connects, and direct {dependency.direct} are two"
            " different PgBouncers",
            hint=f"compare the upstream of proxy {dependency.proxy.name} with {where}.direct",
        )
    return pooled


def _over(options: str, login: str) -> str:
    """A login with the options of another one that say how its connections are secured."""
    how: dict[str, Any] = {
        name: value
        for name, value in postgres_admin.options_of(login).items()
        if name == "host" or (name.startswith("ssl") and name not in ("sslcert", "sslkey"))
    }
    return postgres_admin.conninfo("", **{**how, **postgres_admin.options_of(options)})


def _named(login: str, direct: Address | None) -> str:
    """Where the certificate is held against a name and none is given, it is the one of `direct`: addresses take its
    place before anything is connected to."""
    options = postgres_admin.options_of(login)
    if options.get("sslmode") != "verify-full" or "host" in options or direct is None:
        return login
    return postgres_admin.conninfo(login, host=direct.host)


def _login(dependency: Dependency) -> str:
    """Of probes: one that the application does not use is preferred."""
    own = dependency.credentials
    return own.probe_login or own.login or (postgres_admin.default_login(own.role) if own.role else "user=postgres")


def _server(options: str, address: Address | None, password: str | None) -> Server:
    """A login that reads who it is. address: where to, None = as the options say. Raises Unreachable, Rejected."""
    text = postgres_admin.conninfo(options, address=address)
    with _Look(text, password=password, timeout_s=LIMIT_S) as look:
        identity = f"{look.system_identifier()} started {look.started()}"
        pooled = look.pooled()
        seen = None if pooled else look.seen()
        return Server(identity=identity, version=look.version(), user=look.user(), pooled=pooled, seen=seen)


def _with_admin(dependency: Dependency, where: str, application: Server) -> Dependency:
    """The admin login is another role on the same server; probes use it too where no login of theirs is declared."""
    own = dependency.credentials
    if own.admin is None:
        return dependency
    try:
        found = _server(own.admin, None, secret(own.admin_password_env))
    except AdapterError as error:
        raise UsageError(
            f"{where}.admin: {error}", hint="correct the login and admin_password_env, or leave both out"
        ) from error
    if found.pooled:
        raise UsageError(
            f"{where}.admin leads to a pooler such as PgBouncer: what it sets for its session would be set for others",
            hint="name host and port of PostgreSQL itself in it",
        )
    if found.user == own.role:
        raise Refused(
            f"{where}.admin is the application's own role {found.user}: the undo must get in while it is limited",
            hint="declare another login",
        )
    if found.identity != application.identity and None not in (found.identity, application.identity):
        raise UsageError(
            f"{where}.admin leads to another PostgreSQL than {where}.direct", hint="correct its host and port"
        )
    if own.probe_login is not None:
        if postgres_admin.options_of(own.probe_login).get("user") == own.role:
            raise Refused(
                f"{where}.probe_login is the application's own role {own.role}: probes would take its slots",
                hint="leave it out, or declare another login",
            )
        result = path_probe(dependency)(LIMIT_S)
        if not result.ok:
            raise UsageError(f"{where}.probe_login: no login at {dependency.path}: {result.detail}")
        return dependency
    # A probe must not use the role that a fault limits. The admin may be let in over this path, or it may not.
    admin, login = postgres_admin.options_of(own.admin), postgres_admin.options_of(own.login or "")
    database = admin.get("dbname") or login.get("dbname") or "postgres"
    options = _over(postgres_admin.conninfo("", user=admin.get("user", ""), dbname=database), own.login or "")
    as_admin = dependency.but(credentials={"probe_login": options, "probe_password_env": own.admin_password_env})
    return as_admin if path_probe(as_admin)(LIMIT_S).ok else dependency


def _user(options: str, where: str) -> str:
    """The user that connection options name. Raises UsageError for what does not parse or names none."""
    try:
        user = postgres_admin.options_of(options).get("user")
    except UsageError as error:
        raise UsageError(f"{where}: {error}", hint=error.hint) from error
    if user is None:
        raise UsageError(f"{where} names no user", hint='for example "user=app dbname=app"')
    for key in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        file = postgres_admin.options_of(options).get(key)
        # An undo may run in another folder.
        if file is not None and file != "system" and not Path(file).is_absolute():
            raise UsageError(f"{where}: {key} is no absolute path", hint="write it from / on")
    return user


POSTGRES = Postgres()
