"""Redis and Valkey: PING; CLIENT LIST with the commands of each client (older servers: the second of its last one);
INFO. Bytes are moved by ECHO, which leaves no key."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from harness.adapters.clients import redis_admin
from harness.adapters.wire.exchange import ErrorKind, Exchange, ProbeError
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
from harness.dependencies.result import secret
from harness.dependencies.server_identity import Server, same_server
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Forbidden, Rejected, Unreachable, UsageError
from harness.model.records.faults import Address, Dependency


class RedisTable(DependencyTable, frozen=True, kw_only=True):
    needs_direct = True
    clients_named = "by name or address"

    password_env: str | None = None
    allow_flush: bool = False

    def check(self, where: str) -> None:
        rules.check_variable(self.password_env, f"{where}.password_env")

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        return dependency.but(credentials={"password_env": self.password_env}, allow_flush=self.allow_flush)


class Redis(DependencyKind):
    name = "redis"
    table = RedisTable
    default_port = 6379
    images = "redis|valkey|keydb|dragonfly"
    moves_bytes = True
    work_unit = "commands"
    how_to_ask = "let the login run CLIENT LIST (ACL: +client|list)"

    def probe(self, attempt: Attempt) -> str:
        with attempt.exchange as exchange:
            commands = _commands("harness-probe", attempt.password, ["PING"])
            exchange.send(b"".join(map(resp, commands)))
            answers = [exchange.line()]
            # What Redis says instead of an answer, before it hangs up.
            if answers[0].startswith(b"-ERR max number of clients"):
                raise ProbeError("limit", answers[0][1:100].decode("utf-8", "replace"), connected=True)
            answers += [exchange.line() for _ in commands[1:]]
            if answers[-1] == b"+PONG":
                # Not sooner: a server that hangs up looks like an answer of its own where its answers are held back.
                exchange.goodbye(resp(["QUIT"]))
                return "PING answered"
        text = answers[-1][:100].decode("utf-8", "replace")
        kind: ErrorKind = "auth" if text.startswith(("-NOAUTH", "-WRONGPASS", "-NOPERM")) else "protocol"
        raise ProbeError(kind, f"PING was answered with {text!r}", connected=True)

    def move(self, attempt: Attempt, direction: Direction, size: int, received: Received) -> str:
        login = _commands("harness-probe", attempt.password)
        with attempt.exchange as exchange:
            received.bytes = 0
            try:
                exchange.send(b"".join(map(resp, login)))
                answers = [exchange.line() for _ in login]
                if not answers[-1].startswith((b"+OK", b"-ERR", b"-NOPERM")):
                    raise ProbeError("auth", answers[-1][:100].decode("utf-8", "replace"), connected=True)
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
        for row in redis_admin.clients(dependency.direct, password=secret(dependency.credentials.password_env)):
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
        return redis_admin.Watch(
            dependency.direct, password=secret(dependency.credentials.password_env), timeout_s=COUNTERS_LIMIT_S
        )

    def identity(self, dependency: Dependency) -> str | None:
        address = dependency.direct or dependency.path
        return _server(address, secret(dependency.credentials.password_env)).identity if address is not None else None

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        password = secret(dependency.credentials.password_env)
        server = same_server(dependency, where, lambda address: _server(address, password))
        if server.mode == "sentinel":
            raise UsageError(
                f"{where}: a Redis Sentinel answers at {dependency.direct}, not a Redis server",
                hint="declare the server that the application's data is on (SENTINEL get-master-addr-by-name)",
            )
        try:
            assert dependency.direct is not None
            redis_admin.clients(dependency.direct, password=password, timeout_s=LIMIT_S)
        except Forbidden:
            note(
                f"{dependency.name}: its login may not ask CLIENT LIST, so the path is proven by established"
                " connections only; to prove it by the commands of each client: ACL +client|list"
            )
        except AdapterError:
            pass  # what does not answer has been told
        return dependency, server.version

    def table_lines(self, environment: Mapping[str, str], variable: str, port: int | None) -> list[str]:
        return [f'# password_env = "{variable}_PASSWORD"     # where it has a password']


def resp(words: list[str]) -> bytes:
    """One command in Redis's protocol."""
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"".join(parts)


def _commands(name: str, password: str | None, *following: list[str]) -> list[list[str]]:
    """Named first, so that nobody takes us for a client of the application."""
    login = [["AUTH", password]] if password is not None else []
    return [*login, ["CLIENT", "SETNAME", name], *following]


def _server(address: Address, password: str | None) -> Server:
    """INFO server: run_id is drawn when the server starts. Raises Unreachable, Rejected (a login it does not take)."""
    words = _commands("harness-check", password, ["INFO", "server"])
    try:
        with Exchange(address, deadline=monotonic() + LIMIT_S) as exchange:
            exchange.send(b"".join(map(resp, words)))
            answers = [exchange.line() for _ in words]
            if not answers[-1].startswith(b"$"):
                return _no_info(answers[0] if answers[0].startswith(b"-WRONGPASS") else answers[-1])
            body = exchange.exactly(int(answers[-1][1:])).decode("utf-8", "replace")
    except ProbeError as error:
        raise Unreachable(error.detail) from error
    except ValueError as error:
        raise Rejected("INFO was not answered in Redis's protocol") from error
    found = dict(line.split(":", 1) for line in body.splitlines() if ":" in line)
    version = found.get("valkey_version") or found.get("redis_version")
    return Server(
        identity=found.get("run_id"), version=version, mode=found.get("server_mode") or found.get("redis_mode")
    )


def _no_info(answer: bytes) -> Server:
    text = answer[:200].decode("utf-8", "replace")
    if text.startswith(("-NOAUTH", "-WRONGPASS")):
        raise Rejected(f"the login is not accepted: {text[1:]}")
    if text.startswith("-"):
        return Server()  # a login that may not ask, or a server that does not know the command
    raise Rejected("INFO was not answered in Redis's protocol")


REDIS = Redis()
