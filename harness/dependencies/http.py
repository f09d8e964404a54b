"""A server that speaks HTTP. A declared page says "well" by a status below 400; else any answer of its own will do.

The connection is one that may be kept, as an application keeps its own: a server that was asked to close it does so
also where nothing that it says gets through, and its proxy hangs up on the client in turn.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from harness.adapters.clients.envoy_configuration import PROBE_AGENT
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.config import rules
from harness.config.containers import check_service
from harness.config.file import ASSUMED, Contained, DependencyTable
from harness.dependencies.kind import Attempt, CounterReader, DependencyKind, Note
from harness.model.clock import monotonic
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Address, Dependency, DependencyFront

_FRONT = "http://127.0.0.1:9901"


def page_of(dependency: Dependency) -> tuple[str, int]:
    """What a probe asks for, and below which status it is well."""
    if dependency.url is None:
        return "/", 500
    parts = urlsplit(dependency.url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), 400


def requested(exchange: Exchange, address: Address, page: str, headers: str = "") -> int:
    """The status of one GET. headers: more of them, as lines. Raises ProbeError."""
    head = f"GET {page} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {PROBE_AGENT}\r\n{headers}"
    exchange.send(f"{head}\r\n".encode())
    status = exchange.line().split(b" ", 2)
    if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
        raise ProbeError("protocol", f"GET {page} was not answered with HTTP", connected=True)
    return int(status[1])


_MOST_HEADERS = 200
_MOST_BODY = 65536
_REST_S = 0.5
_COUNTERS_LIMIT_S = 1.0


class HttpTable(DependencyTable, frozen=True, kw_only=True):
    """health: the path that answers when it is well. front: the admin interface of an Envoy that its requests pass, as
    `harness init` configures one; front_service: that Envoy as a service of the compose project instead. front_name:
    what it is called there; the dependency's own name if left out."""

    health: str | None = None
    front: str | None = None
    front_service: str | None = None
    front_name: str | None = None

    @property
    def placed(self) -> bool:
        return super().placed or self.front is not None or self.front_service is not None

    @property
    def front_container(self) -> Contained | None:
        return None if self.front_service is None else Contained(service=self.front_service)

    def check(self, where: str) -> None:
        rules.check_path(self.health, f"{where}.health")
        if self.front is None and self.front_service is None:
            if self.front_name is not None:
                raise UsageError(f"{where}.front_name without front", hint=f'front = "{_FRONT}"')
            return
        if self.front is not None and self.front_service is not None:
            raise UsageError(
                f"{where}: front and front_service are two ways to name one Envoy", hint="leave one of them out"
            )
        if self.front_service is not None:
            check_service(self.front_service, f"{where}.front_service")
            if self.front_service == self.service:
                raise UsageError(f"{where}.front_service: {self.service} is the dependency itself, not its front")
        if self.front is not None:
            url = rules.base_url(self.front, f"{where}.front: ", example=f'front = "{_FRONT}"', schemes=("http",))
            if url.count("/") > 2:
                raise UsageError(f"{where}.front: Envoy's admin interface has no path", hint="write http://HOST:PORT")
        if self.front_name is not None:
            rules.check_name(self.front_name, f"{where}.front_name", "a front")
        if self.proxy is None and self.path in (None, ASSUMED):
            raise UsageError(
                f"{where}.path is missing: where the front listens, to which the application connects",
                hint='path = "127.0.0.1:18080"',
            )

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        if self.front is None and self.front_service is None:
            return dependency
        url = None if self.front is None else self.front.strip().rstrip("/")
        front = DependencyFront(url=url, name=self.front_name or dependency.name)
        return msgspec.structs.replace(dependency, front=front)

    def located(self, dependency: Dependency) -> Dependency:
        address = dependency.path or dependency.direct
        if self.health is None or address is None:
            return dependency
        return msgspec.structs.replace(dependency, url=f"http://{address}{self.health}")


class Http(DependencyKind):
    name = "http"
    table = HttpTable
    default_port = 80

    def probe(self, attempt: Attempt) -> str:
        page, well_below = page_of(attempt.dependency)
        with attempt.exchange as exchange:
            status = requested(exchange, attempt.address, page)
            with suppress(ProbeError, ValueError):
                _take_the_rest(exchange)
        if status >= well_below:
            raise ProbeError("protocol", f"GET {page} was answered with {status}", connected=True)
        return f"GET {page} answered {status}"

    # -- an Envoy in front of it

    total_unit = "requests of others than the harness"

    def total(self, dependency: Dependency) -> float | None:
        if dependency.front is None:
            return None
        from harness.adapters.clients.envoy import Envoy

        return Envoy(dependency.front).counts().application

    def countable(self, dependency: Dependency) -> bool:
        return dependency.front is not None

    def counters(self, dependency: Dependency) -> CounterReader:
        assert dependency.front is not None
        return _Front(dependency.front)

    def check(
        self, dependency: Dependency, where: str, listener_port: int | None, note: Note
    ) -> tuple[Dependency, str | None]:
        if dependency.front is None:
            return super().check(dependency, where, listener_port, note)
        from harness.adapters.clients.envoy import Envoy, set_by_hand

        server = Envoy(dependency.front)
        server.version()
        before = server.counts()
        keys = server.runtime()
        if keys:
            raise Refused(
                f"{where}.front: the front {server.name} of Envoy at {server.url} has runtime keys set:"
                f" {', '.join(keys)}",
                hint="run `harness heal --all`, or take them away: " + set_by_hand(server.url, dict.fromkeys(keys, "")),
            )
        self.answers(dependency, where)
        if server.counts().probes <= before.probes:
            raise UsageError(
                f"{where}.path: requests to {dependency.path} do not pass the front {server.name} of the Envoy at"
                f" {server.url}",
                hint="path = where that front listens, or the proxy in front of it",
            )
        return dependency, None


class _Front:
    """What the front has counted, by names that are judged; each reading is a connection of its own."""

    def __init__(self, front: DependencyFront) -> None:
        self._front = front

    def read(self) -> dict[str, object]:
        from harness.adapters.clients.envoy import Envoy

        counts = Envoy(self._front, timeout_s=_COUNTERS_LIMIT_S).counts()
        return {"requests": counts.application, "connections": counts.connections, "clients": counts.open}

    def close(self) -> None:
        pass


def _take_the_rest(exchange: Exchange) -> None:
    """A short answer is read to its end: a connection that is closed with something unread on it is reset, which the
    server would take for a client that has died."""
    exchange.deadline = min(exchange.deadline, monotonic() + _REST_S)
    size = 0
    for _ in range(_MOST_HEADERS):
        name, _, value = exchange.line().lower().partition(b":")
        if not name:
            break
        if name == b"content-length" and value.strip().isdigit():
            size = int(value)
        elif name == b"transfer-encoding":
            size = -1
    if 0 <= size <= _MOST_BODY:
        exchange.exactly(size)
    while size < 0:  # in chunks, each with its size before it
        chunk = int(exchange.line(), 16)
        exchange.exactly(chunk + 2)
        size = 0 if chunk == 0 or exchange.received > _MOST_BODY else -1


HTTP = Http()
