"""Redis and Valkey: PING; CLIENT LIST with the commands of each client (older servers: the second of its last one);
INFO. Bytes are moved by ECHO, which leaves no key."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import msgspec

from harness.adapters.clients import redis_admin
from harness.adapters.wire.exchange import ErrorKind, Exchange, ProbeError
from harness.config import rules
from harness.config.tls_table import TlsTable
from harness.dependencies.kind import (
    COUNTERS_LIMIT_S,
    LIMIT_S,
    Attempt,
    CounterReader,
    DependencyKind,
    Direction,
    Emptied,
    Held,
    Note,
    PathClient,
    Received,
    Store,
)
from harness.dependencies.result import secret
from harness.dependencies.server_identity import Server, same_server
from harness.model.clock import monotonic
from harness.model.errors import Refused, Rejected, Unreachable, UsageError
from harness.model.records.faults import Address, Applied, Dependency

_USER = re.compile(r"[^\s\x00-\x1f]{1,200}")


class RedisTable(TlsTable, frozen=True, kw_only=True):
    """user: of an ACL, with its password in password_env. allow_flush: a former spelling of allow = ["flush"]."""

    needs_direct = True
    clients_named = "by name or address"

    user: str | None = None
    password_env: str | None = None
    allow_flush: bool = False

    def check(self, where: str) -> None:
        super().check(where)
        rules.check_variable(self.password_env, f"{where}.password_env")
        if self.user is not None and not _USER.fullmatch(self.user):
            raise UsageError(f"{where}.user: {self.user!r} cannot be a user of an ACL")

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        own = {"user": self.user, "password_env": self.password_env}
        allow = (*self.allow, *(("flush",) if self.allow_flush else ()))
        return dependency.but(credentials=own, tls=self.tls_declared, allow=allow)


class Redis(DependencyKind):
    name = "redis"
    table = RedisTable
    default_port = 6379
    images = "redis|valkey|keydb|dragonfly"
    moves_bytes = True
    can_be_emptied = True
    work_unit = "commands"
    how_to_ask = "let the login run CLIENT LIST (ACL: +client|list)"

    def probe(self, attempt: Attempt) -> str:
        with attempt.exchange as exchange:
            commands = _commands("harness-probe", attempt.dependency, attempt.password, ["PING"])
            exchange.send(b"".join(map(resp, commands)))
            answers = [exchange.line()]
            # What Redis says instead of an answer, before it hangs up.
            if answers[0].startswith(b"-ERR max number of clients"):
                raise ProbeError("limit", answers[0][1:100].decode("utf-8", "replace"), connected=True)
            answers += [exchange.line() for _ in commands[1:]]
            if (wrong := _wrong_login(attempt.dependency, answers)) is not None:
                raise ProbeError("auth", f"the login is not accepted: {wrong}", connected=True)
            if answers[-1] == b"+PONG":
                # Not sooner: a server that hangs up looks like an answer of its own where its answers are held back.
                exchange.goodbye(resp(["QUIT"]))
                return "PING answered"
        text = answers[-1][:100].decode("utf-8", "replace")
        kind: ErrorKind = "auth" if text.startswith(("-NOAUTH", "-WRONGPASS", "-NOPERM")) else "protocol"
        raise ProbeError(kind, f"PING was answered with {text!r}", connected=True)

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        login = _commands("harness-probe", attempt.dependency, attempt.password)
        with attempt.exchange as exchange:
            received.bytes = 0
            try:
                exchange.send(b"".join(map(resp, login)))
                answers = [exchange.line() for _ in login]
                wrong = _wrong_login(attempt.dependency, answers)
                if wrong is not None or not answers[-1].startswith((b"+OK", b"-ERR", b"-NOPERM")):
                    said = wrong or answers[-1][:100].decode("utf-8", "replace")
                    raise ProbeError("auth", said, connected=True)
                exchange.send(resp(["ECHO", "x" * size]))
                if exchange.line() != b"$%d" % size:
                    raise ProbeError("protocol", "ECHO was not answered with what was sent", connected=True)
                exchange.exactly(size + 2)
            finally:
                received.bytes = exchange.received
        return f"ECHO of {size} bytes answered"

    def tells_clients(self, dependency: Dependency) -> bool:
        return dependency.direct is not None

    def clients(self, dependency: Dependency, peers: Collection[Address], target: Collection[int]) -> list[PathClient]:
        assert dependency.direct is not None
        found = []
        for row in redis_admin.clients(dependency.direct, login=_login(dependency)):
            # `idle` is in whole seconds, so the moment of the last command wanders by one while nothing happens.
            work, slack = (row.commands, 0.0) if row.commands is not None else (monotonic() - row.idle_s, 1.5)
            found.append(
                PathClient(id=row.id, address=row.address, label=row.name, on_proxy=None, work=work, slack=slack)
            )
        return found

    def why_not_asked(self, dependency: Dependency) -> str:
        return f"{dependency.name} does not let CLIENT LIST be asked"

    def countable(self, dependency: Dependency) -> bool:
        return dependency.direct is not None

    def counters(self, dependency: Dependency) -> CounterReader:
        assert dependency.direct is not None
        return redis_admin.Watch(dependency.direct, login=_login(dependency), timeout_s=COUNTERS_LIMIT_S)

    def identity(self, dependency: Dependency) -> str | None:
        address = dependency.direct or dependency.path
        return _server(dependency, address).identity if address is not None else None

    def store(self, dependency: Dependency) -> Store:
        return _Store(dependency)

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        server = same_server(dependency, where, lambda address: _server(dependency, address), note)
        if server.mode == "sentinel":
            raise UsageError(
                f"{where}: a Redis Sentinel answers at {dependency.direct}, not a Redis server",
                hint="declare the server that the application's data is on (SENTINEL get-master-addr-by-name)",
            )
        if server.mode == "cluster":
            raise UsageError(
                f"{where}: a node of a Redis Cluster answers at {dependency.direct}: it sends its clients on to other"
                " nodes, past the proxy",
                hint="a fault on one proxy would hit some of the keys only; declare a Redis of one server",
            )
        if "+ping" in server.lacks:
            raise UsageError(
                f"{where}: its login may not ask PING, so no probe could show a fault",
                hint=_grant(dependency, "+ping"),
            )
        for right in server.lacks:
            note(f"{dependency.name}: its login {_COSTS[right]}; with it: {_grant(dependency, right)}")
        assert dependency.direct is not None
        if "flush" in dependency.allow and (lacks := _lacks_for_flush(dependency, dependency.direct)):
            note(f"{dependency.name}: its login may not flush; with it: {_grant(dependency, *lacks)}")
        if dependency.startable and server.volatile:
            note(
                f"{dependency.name}: it keeps no log of its writes (appendonly no), so {dependency.name}-kill loses"
                " what was written since its last snapshot"
            )
        return dependency, server.version

    def table_lines(self, environment: Mapping[str, str], variable: str, port: int | None) -> list[str]:
        return [f'# password_env = "{variable}_PASSWORD"     # where it has a password']


def resp(words: list[str]) -> bytes:
    """One command in Redis's protocol."""
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"".join(parts)


def _login(dependency: Dependency) -> redis_admin.Login:
    own = dependency.credentials
    return redis_admin.Login(user=own.user, password=secret(own.password_env), tls=dependency.tls)


def _commands(name: str, dependency: Dependency, password: str | None, *following: list[str]) -> list[list[str]]:
    """Named first, so that nobody takes us for a client of the application."""
    user = dependency.credentials.user
    login: list[list[str]] = []
    if user is not None:
        login = [["AUTH", user, password or ""]]
    elif password is not None:
        login = [["AUTH", password]]
    return [*login, ["CLIENT", "SETNAME", name], *following]


def _wrong_login(dependency: Dependency, answers: list[bytes]) -> str | None:
    """What AUTH, the first of these, was answered, where it was not accepted: a server whose default user needs no
    password answers all else all the same. Without a user, one that knows of no password may say so."""
    first = answers[0] if answers else b""
    refused = first.startswith(b"-WRONGPASS") or (dependency.credentials.user is not None and first.startswith(b"-"))
    return first[1:200].decode("utf-8", "replace") if refused else None


_ASKED = {
    "+client|setname": ["CLIENT", "SETNAME", "harness-check"],
    "+ping": ["PING"],
    "+client|list": ["CLIENT", "LIST"],
    "+info": ["INFO"],
}
"""What the harness asks of every Redis, by the right that it takes."""
_COSTS = {
    "+client|setname": "may not name its connections, so the path is proven by established connections only, its"
    " counters are not read, and flush is off",
    "+client|list": "may not ask CLIENT LIST, so the path is proven by established connections only",
    "+info": "may not ask INFO, so nobody looks whether the proxy leads to this server and what it is, its counters are"
    " not read, and flush is off",
}
_FLUSH = {
    "+info": ["INFO"],
    "+client|setname": ["CLIENT", "SETNAME", "harness-check"],
    "+flushall": ["FLUSHALL"],
    "+dbsize": ["DBSIZE"],
    "+set": ["SET", f"{redis_admin.NAME}-flush-x", ""],
    "+exists": ["EXISTS", f"{redis_admin.NAME}-flush-x"],
    "+del": ["DEL", f"{redis_admin.NAME}-flush-x"],
}
_FLUSH_KEYS = f"~{redis_admin.NAME}-flush-*"


def _grant(dependency: Dependency, *rights: str) -> str:
    return f"ACL SETUSER {dependency.credentials.user or 'default'} {' '.join(rights)}"


def _server(dependency: Dependency, address: Address) -> Server:
    """INFO, whose run_id is drawn when the server starts, and what else this login may ask. Raises Unreachable, and
    Rejected for a login it does not take."""
    words = _commands("harness-check", dependency, secret(dependency.credentials.password_env))[:-1]
    try:
        with Exchange(address, deadline=monotonic() + LIMIT_S, tls=dependency.tls) as exchange:
            exchange.send(b"".join(map(resp, [*words, *_ASKED.values()])))
            wrong = _wrong_login(dependency, [exchange.line() for _ in words])
            answers = {right: _answer(exchange) for right in _ASKED}
            exchange.goodbye(resp(["QUIT"]))
    except ProbeError as error:
        raise Unreachable(error.detail) from error
    except ValueError as error:
        raise Rejected("what answers does not speak Redis's protocol") from error
    if wrong is not None:
        raise Rejected(f"the login is not accepted: {wrong}")
    lacks = tuple(right for right, answer in answers.items() if answer.startswith(b"-NOPERM"))
    info = answers["+info"]
    if info.startswith(b"-") or not info:
        return msgspec.structs.replace(_no_info(info), lacks=lacks)
    found = dict(line.split(":", 1) for line in info.decode("utf-8", "replace").splitlines() if ":" in line)
    version = found.get("valkey_version") or found.get("redis_version")
    return Server(
        identity=found.get("run_id"),
        version=version,
        mode=found.get("server_mode") or found.get("redis_mode"),
        lacks=lacks,
        volatile=found.get("aof_enabled") == "0",
        seen=_seen(answers["+client|list"]),
    )


def _seen(listed: bytes) -> str | None:
    """The host of our own connection, by the server's list of clients; None where there is more than one of ours."""
    rows = [row.split() for row in listed.decode("utf-8", "replace").splitlines()]
    ours = [row for row in rows if "name=harness-check" in row and "cmd=client|list" in row]
    hosts = {word[5:].rpartition(":")[0].strip("[]") for row in ours for word in row if word.startswith("addr=")}
    return hosts.pop() if len(hosts) == 1 else None


def _answer(exchange: Exchange) -> bytes:
    """A line, or the text that one announces. Raises ValueError for what is no answer of a Redis."""
    line = exchange.line()
    if line[:1] not in (b"+", b"-", b":", b"$"):
        raise ValueError(line)
    return exchange.exactly(int(line[1:]) + 2) if line.startswith(b"$") else line


def _lacks_for_flush(dependency: Dependency, address: Address) -> list[str]:
    """Rights that flush takes and this login has not. A transaction is told of each when it queues the command, and is
    thrown away. Raises Unreachable, Rejected."""
    words = _commands("harness-check", dependency, secret(dependency.credentials.password_env), ["MULTI"], ["PING"])
    try:
        with Exchange(address, deadline=monotonic() + LIMIT_S, tls=dependency.tls) as exchange:
            exchange.send(b"".join(map(resp, words)))
            *_, multi, queued = [exchange.line() for _ in words]
            if multi.startswith(b"-NOPERM"):
                return ["+multi", "+exec", "+discard", *_FLUSH, _FLUSH_KEYS]
            # Only what is surely queued is not carried out.
            if multi != b"+OK" or queued != b"+QUEUED":
                raise Rejected(f"MULTI was answered with {multi[:100].decode('utf-8', 'replace')!r}")
            exchange.send(b"".join(map(resp, [*_FLUSH.values(), ["DISCARD"]])))
            answers = {right: exchange.line() for right in _FLUSH}
            exchange.line()
            exchange.goodbye(resp(["QUIT"]))
    except ProbeError as error:
        raise Unreachable(f"no Redis answers at {address}: {error.detail}") from error
    refused = {right: answer for right, answer in answers.items() if answer.startswith(b"-NOPERM")}
    # The command may be allowed, and the key not: "No permissions to access a key".
    return list(dict.fromkeys(_FLUSH_KEYS if b" key" in answer else right for right, answer in refused.items()))


class _Store:
    command = "FLUSHALL"

    def __init__(self, dependency: Dependency) -> None:
        self._dependency = dependency

    @property
    def _login(self) -> redis_admin.Login:
        return _login(self._dependency)

    def ready(self, address: Address) -> None:
        name = self._dependency.name
        if lacks := _lacks_for_flush(self._dependency, address):
            raise Refused(
                f"the login of {name} may not do what flush takes: {', '.join(lacks)}",
                hint=_grant(self._dependency, *lacks),
            )
        if redis_admin.keyspace(address, login=self._login).replica:
            raise Refused(
                f"{name} at {address} is a replica: it cannot be emptied by itself",
                hint="name the primary as its direct address",
            )
        if not redis_admin.has_command(address, "flushall", login=self._login):
            raise Refused(f"{name} has no command FLUSHALL: its configuration has taken it away")

    def held(self, address: Address) -> Held:
        found = redis_admin.keyspace(address, login=self._login)
        return Held(identity=found.run_id, keys=found.keys, flushes=found.flushes)

    def mark(self, address: Address, key: str, *, lasts_s: int) -> None:
        redis_admin.mark(address, key, lasts_s=lasts_s, login=self._login)

    def marked(self, address: Address, key: str) -> bool:
        return redis_admin.marked(address, key, login=self._login)

    def unmark(self, address: Address, key: str) -> Applied:
        return redis_admin.unmark(address, key, login=self._login)

    def empty(self, address: Address) -> Emptied:
        done = redis_admin.flush_all(address, login=self._login)
        said = f"{done.before} keys before FLUSHALL, {done.after} after it"
        return Emptied(applied=done.applied, said=said, empty=done.after == 0)


def _no_info(answer: bytes) -> Server:
    text = answer[:200].decode("utf-8", "replace")
    if text.startswith(("-NOAUTH", "-WRONGPASS")):
        raise Rejected(f"the login is not accepted: {text[1:]}")
    if text.startswith("-"):
        return Server()  # a login that may not ask, or a server that does not know the command
    raise Rejected("INFO was not answered in Redis's protocol")


REDIS = Redis()
