"""One protocol probe on one fresh connection: does this dependency answer here, and how fast?

redis: PING. postgres: a real login and SELECT 1 (SSLRequest is answered before recovery ends, so it proves nothing).
kafka: one ApiVersions exchange. http: GET of its page, else of /. tcp: an answer to what the dependency declares as
`probe_send`, else only that the connection is accepted, which behind a proxy says no more than that the proxy listens.
A probe never raises for what the network does; it says what happened.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import msgspec

from harness.adapters.wire.exchange import ErrorKind, Exchange, ProbeError
from harness.model.clock import monotonic
from harness.model.errors import UsageError
from harness.model.records.faults import Address, Dependency, DependencyKind


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """started, ended: CLOCK_MONOTONIC seconds. connected: the TCP connection was accepted, whatever came then.

    error_kind: None when ok; refused, reset, timeout, closed (without an answer), protocol (a wrong answer),
    auth (login not accepted), limit (too many connections), unreachable. detail: one clause for people.
    """

    ok: bool
    started: float
    ended: float
    error_kind: ErrorKind | None = None
    detail: str = ""
    connected: bool = True

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def listens(self) -> bool:
        """Somebody has the port and takes connections, however late or wrong the answers are. A queue that is full
        lets a connection wait; a port forwarder hangs up where nobody is behind it."""
        return self.ok or self.error_kind in ("timeout", "protocol", "auth", "limit")

    @property
    def full(self) -> bool:
        """The server itself answered that it has no room for one more connection: the way to it is open."""
        return self.error_kind == "limit"


def unfinished(dependency: Dependency) -> bool:
    """A probe of it ends in the middle of its protocol, which nobody has told: a bare connection, or one that is closed
    after the server's greeting. Servers count those, so they are to be few."""
    return dependency.kind == "tcp" and not dependency.probe_send


def handshake(dependency: Dependency, timeout_s: float) -> ProbeResult:
    """Like the path probe, but PostgreSQL is only asked whether it speaks TLS: libpq hides how a connection ended.

    Raises UsageError as path_probe does.
    """
    if dependency.kind != "postgres" or dependency.path is None:
        return path_probe(dependency)(timeout_s)
    from harness.adapters.clients import postgres_login

    return observed(partial(postgres_login.ssl_request, dependency.path), timeout_s)


def closing(dependency: Dependency, timeout_s: float) -> ProbeResult:
    """How long until a connection that we close is closed by the other side, for any protocol. `reset`: it was not
    closed but reset.

    Raises UsageError when the dependency has no address.
    """
    address = dependency.path or dependency.direct
    if address is None:
        raise UsageError(f"{dependency.name} has no address to probe")

    def close(deadline: float) -> str:
        with Exchange(address, deadline=deadline) as exchange:
            if not exchange.finish():
                raise ProbeError("reset", "a connection that we closed was reset", connected=True)
        return "closed"

    return observed(close, timeout_s)


def probe(
    kind: DependencyKind, address: Address, *, timeout_s: float, login: str | None = None, password: str | None = None
) -> ProbeResult:
    """Probe once. login: PostgreSQL connection options (user, dbname). timeout_s bounds the whole probe.

    Raises UsageError for connection options that do not parse.
    """
    return observed(partial(_exchange, kind, address, login, password), timeout_s)


def observed(exchange: Callable[[float], str], timeout_s: float) -> ProbeResult:
    """One exchange, given its deadline, as a result: what it says, or why it failed."""
    started = monotonic()
    try:
        detail = exchange(started + timeout_s)
    except ProbeError as error:
        return ProbeResult(
            ok=False,
            started=started,
            ended=monotonic(),
            error_kind=error.kind,
            detail=error.detail,
            connected=error.connected,
        )
    return ProbeResult(ok=True, started=started, ended=monotonic(), detail=detail)


def path_probe(dependency: Dependency) -> Callable[[float], ProbeResult]:
    """The probe of a dependency through the application's path, as a function of its time-out in seconds.

    A login that the application does not use is preferred. Raises UsageError when the dependency has no address
    yet, or when the variable that should hold its password is not set.
    """
    address = dependency.path or dependency.direct or _address_in(dependency.url)
    if address is None:
        raise UsageError(f"{dependency.name} has no address to probe")
    if dependency.kind == "http" and dependency.url is not None:
        parts = urlsplit(dependency.url)
        page = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return partial(observed, partial(_http, address, page=page, well_below=400))
    if dependency.kind == "tcp" and dependency.probe_send is not None:
        return partial(observed, partial(_asked, address, dependency.probe_send))
    login, password_env = dependency.login, dependency.password_env
    if dependency.probe_login is not None:
        login, password_env = dependency.probe_login, dependency.probe_password_env
    return partial(observed, partial(_exchange, dependency.kind, address, login, secret(password_env)))


def secret(variable: str | None) -> str | None:
    """The value of a variable that holds a secret; None for no variable. Raises UsageError when it is not set."""
    if variable is None:
        return None
    value = os.environ.get(variable)
    if value is None:
        raise UsageError(f"the environment variable {variable} is not set", hint="it is to hold a password")
    return value


def _exchange(kind: DependencyKind, address: Address, login: str | None, password: str | None, deadline: float) -> str:
    match kind:
        case "redis":
            return _ping(address, deadline, password)
        case "postgres":
            from harness.adapters.clients import postgres_login

            return postgres_login.select_one(login or "user=postgres", address, password=password, deadline=deadline)
        case "kafka":
            from harness.adapters.wire import kafka

            return kafka.api_versions(address, deadline=deadline)
        case "http":
            return _http(address, deadline)
        case "tcp":
            with Exchange(address, deadline=deadline):
                return "connection accepted"


def _asked(address: Address, text: str, deadline: float) -> str:
    with Exchange(address, deadline=deadline) as exchange:
        if text:
            exchange.send(text.encode())
        exchange.something()
    return "answered" if text else "greeted"


def _ping(address: Address, deadline: float, password: str | None) -> str:
    with Exchange(address, deadline=deadline) as exchange:
        # Named, so that nobody takes the probe for a client of the application.
        commands = [["CLIENT", "SETNAME", "harness-probe"], ["PING"]]
        if password is not None:
            commands.insert(0, ["AUTH", password])
        exchange.send(b"".join(resp(words) for words in commands))
        answers = [exchange.line()]
        if _no_room(answers[0]):
            raise ProbeError("limit", answers[0][1:100].decode("utf-8", "replace"), connected=True)
        answers += [exchange.line() for _ in commands[1:]]
        if answers[-1] == b"+PONG":
            # Not sooner: a server that hangs up looks like an answer of its own where its answers are held back.
            exchange.goodbye(resp(["QUIT"]))
    if answers[-1] == b"+PONG":
        return "PING answered"
    text = answers[-1][:100].decode("utf-8", "replace")
    kind: ErrorKind = "auth" if text.startswith(("-NOAUTH", "-WRONGPASS", "-NOPERM")) else "protocol"
    raise ProbeError(kind, f"PING was answered with {text!r}", connected=True)


def _no_room(answer: bytes) -> bool:
    """What Redis says instead of an answer, before it hangs up."""
    return answer.startswith(b"-ERR max number of clients")


def resp(words: list[str]) -> bytes:
    """One command in Redis's protocol."""
    parts = [f"*{len(words)}\r\n".encode()]
    parts += [b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words]
    return b"".join(parts)


def _address_in(url: str | None) -> Address | None:
    """Where a plain http URL leads; None for no URL and for https, which this probe does not speak."""
    parts = urlsplit(url or "")
    return Address(parts.hostname, parts.port or 80) if parts.scheme == "http" and parts.hostname else None


def _http(address: Address, deadline: float, *, page: str = "/", well_below: int = 500) -> str:
    """A declared page says "well" by its status; of a server that declares none any answer of its own will do."""
    with Exchange(address, deadline=deadline) as exchange:
        head = f"GET {page} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: harness-probe\r\nConnection: close\r\n\r\n"
        exchange.send(head.encode())
        status = exchange.line().split(b" ", 2)
    if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
        raise ProbeError("protocol", f"GET {page} was not answered with HTTP", connected=True)
    if int(status[1]) >= well_below:
        raise ProbeError("protocol", f"GET {page} was answered with {int(status[1])}", connected=True)
    return f"GET {page} answered {int(status[1])}"
