"""A server that speaks HTTP. A declared page says "well" by a status below 400; else any answer of its own will do.

The connection is one that may be kept, as an application keeps its own: a server that was asked to close it does so
also where nothing that it says gets through, and its proxy hangs up on the client in turn.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

import msgspec

from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.config import rules
from harness.config.file import DependencyTable
from harness.dependencies.kind import Attempt, DependencyKind
from harness.model.clock import monotonic
from harness.model.records.faults import Dependency

_MOST_HEADERS = 200
_MOST_BODY = 65536
_REST_S = 0.5


class HttpTable(DependencyTable, frozen=True, kw_only=True):
    """health: the path that answers when it is well."""

    health: str | None = None

    def check(self, where: str) -> None:
        rules.check_path(self.health, f"{where}.health")

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
        page, well_below = "/", 500
        url = attempt.dependency.url
        if url is not None:
            parts = urlsplit(url)
            page, well_below = (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), 400
        with attempt.exchange as exchange:
            head = f"GET {page} HTTP/1.1\r\nHost: {attempt.address}\r\nUser-Agent: harness-probe\r\n\r\n"
            exchange.send(head.encode())
            status = exchange.line().split(b" ", 2)
            with suppress(ProbeError, ValueError):
                _take_the_rest(exchange)
        if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
            raise ProbeError("protocol", f"GET {page} was not answered with HTTP", connected=True)
        if int(status[1]) >= well_below:
            raise ProbeError("protocol", f"GET {page} was answered with {int(status[1])}", connected=True)
        return f"GET {page} answered {int(status[1])}"


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
