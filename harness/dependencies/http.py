"""A server that speaks HTTP. A declared page says "well" by a status below 400; else any answer of its own will do."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.config import rules
from harness.config.file import DependencyTable
from harness.dependencies.kind import DependencyKind
from harness.model.records.faults import Address, Dependency


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

    def probe(self, dependency: Dependency, address: Address, password: str | None, deadline: float) -> str:
        page, well_below = "/", 500
        if dependency.url is not None:
            parts = urlsplit(dependency.url)
            page, well_below = (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), 400
        with Exchange(address, deadline=deadline) as exchange:
            head = f"GET {page} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: harness-probe\r\nConnection: close\r\n\r\n"
            exchange.send(head.encode())
            status = exchange.line().split(b" ", 2)
        if len(status) < 2 or not status[0].startswith(b"HTTP/") or not status[1].isdigit():
            raise ProbeError("protocol", f"GET {page} was not answered with HTTP", connected=True)
        if int(status[1]) >= well_below:
            raise ProbeError("protocol", f"GET {page} was answered with {int(status[1])}", connected=True)
        return f"GET {page} answered {int(status[1])}"


HTTP = Http()
