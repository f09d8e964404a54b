"""A system on other machines, and the tunnel to it: networks play the machines, one process plays ssh.

The service, Toxiproxy and the server are each on a machine of their own. What listens here belongs to the tunnel, and
only to it: which process that is says nothing of who is at the other end.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.model.records.faults import Address
from harness.stack.embedded import toxiproxy, valkey
from tests.e2e.own_system import toxiproxy_call
from tests.support.networks import NET, WORKER, Networks, networks
from tests.support.servers.ports import free_port
from tests.support.servers.real import wait_until

TUNNEL = Path(__file__).with_name("tunnel.py")
# The tunnel listens on the proxy's own port here as well, so it is another one for each worker.
PROXY = Address(f"{NET}.2", 16379 + WORKER)
SERVER, SERVICE = Address(f"{NET}.3", 6379), Address(f"{NET}.4", 8000)
API = Address(PROXY.host, 8474)
"""As the end of the tunnel reaches them."""

CODE = """
import http.server, socket, sys, threading
host, port = sys.argv[1].rsplit(":", 1)
alone, store = threading.Lock(), None
class Shop(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        status = 200 if self.path == "/health" or basket() else 503
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
def basket():
    global store
    with alone:
        try:
            store = store or socket.create_connection((host, int(port)), 1)
            store.sendall(b"GET basket\\r\\n")
            if store.recv(100).startswith(b"$"):
                return True
        except OSError:
            pass
        store = None
    return False
server = http.server.ThreadingHTTPServer((sys.argv[2], int(sys.argv[3])), Shop)
server.daemon_threads = True
server.serve_forever()
"""
"""The service: one connection to its store, which it keeps, one second of patience, no fallback."""


class System:
    """here: the port that the tunnel makes of an address. seen_as: from where the server sees Toxiproxy come."""

    def __init__(self, networks: Networks, folder: Path, *, past: bool) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        # The tunnel keeps the port of the proxy's listener, which Toxiproxy itself tells.
        self.here = {
            SERVICE: free_port(),
            Address(PROXY.host, 8474): free_port(),
            SERVER: free_port(),
            PROXY: PROXY.port,
        }
        self.url = f"http://127.0.0.1:{self.here[SERVICE]}"
        self.toxiproxy = f"http://127.0.0.1:{self.here[Address(PROXY.host, 8474)]}"
        self._start(networks, past)

    def _start(self, networks: Networks, past: bool) -> None:
        self.seen_as, self._server = networks.cross(0, 1)
        proxy, _ = networks.cross(0, 2)
        server, _ = networks.cross(1, 2)
        path = Address(server, SERVER.port) if past else Address(proxy, PROXY.port)
        store = (str(valkey.binary()), "--port", str(SERVER.port), "--bind", "0.0.0.0", "--protected-mode", "no")
        self._run(networks.inside(1, *store, "--save", "", "--dir", str(self._folder)))
        program = toxiproxy.ensure(lambda *_: None)
        self._run(networks.inside(0, str(program), "-host", "0.0.0.0", "-port", "8474"))
        self._run(
            networks.inside(2, sys.executable, "-c", CODE, str(path), SERVICE.host, str(SERVICE.port)),
        )

    def declare(self, seen_as: str | None, more: str = "") -> None:
        seen = "" if seen_as is None else f'seen_as = ["{seen_as}"]'
        (self._folder / "harness.toml").write_text(
            f"""
[target]
url = "{self.url}"
health = "/health"

[toxiproxy]
url = "{self.toxiproxy}"
{seen}

[dependencies.redis]
kind = "redis"
proxy = "cache"
direct = "127.0.0.1:{self.here[SERVER]}"
{more}"""
        )

    def make_proxy(self) -> None:
        def made() -> bool:
            with contextlib.suppress(OSError):
                toxiproxy_call(
                    self.toxiproxy,
                    "POST",
                    "/proxies",
                    {"name": "cache", "listen": f"0.0.0.0:{PROXY.port}", "upstream": f"{self._server}:{SERVER.port}"},
                )
                return True
            return False

        wait_until("Toxiproxy answers through the tunnel", made, 30)

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(10)

    def _run(self, argv: Sequence[str]) -> None:
        with (self._folder / "servers.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder)
            )


@contextlib.contextmanager
def behind_tunnel(folder: Path, *, past: bool) -> Iterator[System]:
    """past: the service goes past the proxy."""
    with networks(3) as joined:
        system = System(joined, folder, past=past)
        try:
            with _tunnel({here: there for there, here in system.here.items()}):
                system.make_proxy()
                yield system
        finally:
            system.close()


@contextlib.contextmanager
def _tunnel(forwards: dict[int, Address]) -> Iterator[None]:
    """Every port of 127.0.0.1 leads to its address, by a process of its own."""
    words = [f"{here}={there}" for here, there in forwards.items()]
    process = subprocess.Popen([sys.executable, str(TUNNEL), *words])
    try:
        yield
    finally:
        process.kill()
        process.wait(10)
