"""A real Envoy in front of an upstream of the test's own, and looks at it without the product."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import msgspec

from harness.adapters.clients.envoy_configuration import Upstream
from harness.model.records.faults import Address, Dependency, Tls
from harness.model.records.process import ServerProcess
from harness.stack.embedded import envoy
from harness.stack.embedded.private_folder import PrivateFolder
from harness.stack.starting.ports import Ports
from harness.stack.starting.ready import wait_ready
from tests.support.servers.real import SubprocessLauncher

_numbers = count(1)


class HttpUpstream(http.server.ThreadingHTTPServer):
    """Answers with what it was asked: headers as it got them. /slow answers after `slow_s`. seen: paths, in order."""

    daemon_threads = True
    request_queue_size = 4096

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.slow_s = 0.0
        self.seen: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.server_address[1])

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone."""


class _Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HttpUpstream

    def do_GET(self) -> None:
        self.server.seen.append(self.path)
        if self.path == "/slow":
            time.sleep(self.server.slow_s)
        body = json.dumps({"path": self.path, "headers": self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("X-Mixed-Case", "Kept")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def upstream() -> Iterator[HttpUpstream]:
    server = HttpUpstream()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def fronted(
    launcher: SubprocessLauncher, *upstreams: Address, name: str = "risk", tls: Tls | None = None
) -> Iterator[tuple[Dependency, ServerProcess]]:
    """An Envoy of its own in front of them, and the first one as a dependency: `risk`, then `risk-2` and so on."""
    server = f"envoy-{next(_numbers)}"
    folder = PrivateFolder(launcher).sub(envoy.NAME)
    with Ports() as ports:
        admin = Address("127.0.0.1", ports.take())
        listed = tuple(
            Upstream(
                name=name if not number else f"{name}-{number + 1}",
                listen=Address("127.0.0.1", ports.take()),
                upstream=at,
                tls=tls,
            )
            for number, at in enumerate(upstreams)
        )
        spec = msgspec.structs.replace(envoy.spec(folder, admin, listed, folder / "log"), name=server)
        process = launcher.launch(spec)
        fronts = envoy.fronts(listed, admin)
        wait_ready(
            envoy.TITLE,
            lambda: envoy.probe(fronts.values()),
            launcher=launcher,
            name=server,
            log=folder / "log",
            limit_s=60,
        )
    try:
        yield (
            Dependency(name=name, kind="http", path=listed[0].listen, direct=upstreams[0], front=fronts[name]),
            process,
        )
    finally:
        launcher.stop(server)


def runtime(dependency: Dependency) -> dict[str, str]:
    """Every runtime key that is set."""
    assert dependency.front is not None
    entries = json.loads(answered(f"{dependency.front.url}/runtime")[1])["entries"]
    return {name: entry["final_value"] for name, entry in entries.items()}


def set_runtime(dependency: Dependency, query: str) -> None:
    assert dependency.front is not None
    assert not query or answered(f"{dependency.front.url}/runtime_modify?{query}", b"")[0] == 200


def answered(
    url: str, body: bytes | None = None, agent: str = "application", timeout_s: float = 30
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of one request, of the application unless another agent is named."""
    request = urllib.request.Request(url, data=body, headers={"User-Agent": agent})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as reply:
            return reply.status, reply.read(), dict(reply.headers.items())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers.items())
