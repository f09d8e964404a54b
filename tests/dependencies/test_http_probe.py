"""HTTP as a dependency: a server that keeps connections is asked as an application asks it, and left in order."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from harness.dependencies.probe import path_probe
from harness.fault import registered
from harness.model.records.faults import Address, Dependency, DependencyProxy
from harness.model.records.process import ServerProcess
from harness.stack.starting.ports import Ports
from harness.testing import assert_fault_contract
from tests.support.servers.proxied import raw
from tests.support.servers.real import wait_until


class Keeping(BaseHTTPRequestHandler):
    """Notes how each connection ended. /chunks: a body in pieces."""

    protocol_version = "HTTP/1.1"
    ends: list[str]

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.ends.append("reset")
        else:
            self.ends.append("closed")

    def do_GET(self) -> None:
        self.send_response(200)
        if self.path == "/chunks":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        else:
            body = b"well " * 1000
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[Address, list[str]]]:
    ends: list[str] = []
    handler = type("Handler", (Keeping,), {"ends": ends})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Address("127.0.0.1", server.server_address[1]), ends
        server.shutdown()


@pytest.mark.parametrize("page", ["/health", "/chunks"])
def test_probes_are_no_clients_that_died(server: tuple[Address, list[str]], page: str) -> None:
    address, ends = server
    probe = path_probe(Dependency(name="mail", kind="http", path=address, url=f"http://{address}{page}"))
    for _ in range(50):
        assert probe(5.0).ok
    wait_until("the server has seen all ends", lambda: len(ends) == 50, 10)
    assert set(ends) == {"closed"}


@pytest.mark.stack
@pytest.mark.parametrize(
    "kind",
    [
        "hang",
        *(pytest.param(kind, marks=pytest.mark.thorough) for kind in ("down", "latency", "reset", "slow-close")),
    ],
)
def test_faults_of_its_proxy_are_proven_and_undone(
    server: tuple[Address, list[str]], toxiproxy_server: str, toxiproxy_process: ServerProcess, kind: str
) -> None:
    with Ports() as ports:
        listen = Address("127.0.0.1", ports.take())
        name = f"http-{listen.port}"
        upstream = {"name": name, "listen": str(listen), "upstream": str(server[0])}
        raw(f"{toxiproxy_server}/proxies", "POST", upstream)
    proxy = DependencyProxy(url=toxiproxy_server, name=name, pid=toxiproxy_process.pid)
    mail = Dependency(name="mail", kind="http", path=listen, direct=server[0], proxied=True, proxy=proxy)
    try:
        assert_fault_contract(registered()[kind], mail, look=lambda _: raw(f"{toxiproxy_server}/proxies/{name}"))
    finally:
        raw(f"{toxiproxy_server}/proxies/{name}", "DELETE")
