"""Any server on a TCP port: known by what makes it answer, where that is declared as `probe_send`.

Else a probe sees that a connection is accepted, which behind a proxy says no more than that the proxy listens.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from harness.config.file import DependencyTable
from harness.dependencies.kind import Attempt, DependencyKind
from harness.model.records.faults import Dependency


class TcpTable(DependencyTable, frozen=True, kw_only=True):
    """probe_send: what a probe sends so that it is answered; "" where the server speaks first; None: nothing known."""

    probe_send: str | None = None

    def declared(self, dependency: Dependency, where: str) -> Dependency:
        return msgspec.structs.replace(dependency, probe_send=self.probe_send)


class Tcp(DependencyKind):
    name = "tcp"
    table = TcpTable

    def probe(self, attempt: Attempt) -> str:
        text = attempt.dependency.probe_send
        with attempt.exchange as exchange:
            if text is None:
                return "connection accepted"
            if text:
                exchange.send(text.encode())
            exchange.something()
        return "answered" if text else "greeted"

    def silent(self, dependency: Dependency) -> bool:
        return dependency.probe_send is None

    def unfinished(self, dependency: Dependency) -> bool:
        """A bare connection, or one that is closed after the server's greeting."""
        return not dependency.probe_send

    def table_lines(self, environment: Mapping[str, str], variable: str, port: int | None) -> list[str]:
        where = [f"port = {port}"] if port is not None else []
        return [*where, '# probe_send = "PING\\n"     # what makes it answer; "" where it speaks first']


TCP = Tcp()
