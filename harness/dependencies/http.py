"""A server that speaks HTTP. A declared page says "well" by a status below 400; else any answer of its own will do."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from harness.adapters.wire.exchange import ProbeError
from harness.config import rules
from harness.config.file import DependencyTable
from harness.dependencies.kind import Attempt, DependencyKind
from harness.model.records.faults import Dependency


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
            head = f"GET {page} HTTP/1.1\r\nHost: {attempt.address}\r\nUser-Agent: harness-probe\r\n"
            exchange.send(f"{head}Connection: close\r\n\r\n".encode())
            status = exchange.line().split(b" ", 2)
        if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
            raise ProbeError("protocol", f"GET {page} was not answered with HTTP", connected=True)
        if int(status[1]) >= well_below:
            raise ProbeError("protocol", f"GET {page} was answered with {int(status[1])}", connected=True)
        return f"GET {page} answered {int(status[1])}"


HTTP = Http()
