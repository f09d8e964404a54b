"""A stand-in between the harness and a real Toxiproxy that loses, delays or changes answers.

A real Toxiproxy cannot be made to time out on demand, so this one part is not real: it forwards every request to the
real server and then misbehaves as told.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Relay:
    """seen: every request as "METHOD /path". The hooks may be set at any time; None = behave.

    lose: requests (by "METHOD /path") that are forwarded and never answered, held until the relay closes.
    hold: requests that are not even forwarded until `release` is set, and never answered.
    refuse: requests that are not forwarded and answered with 503.
    status: answer with this instead of forwarding. change: edits a GET's JSON.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.seen: list[str] = []
        self.lose: Callable[[str], bool] | None = None
        self.hold: Callable[[str], bool] | None = None
        self.cut: Callable[[str], bool] | None = None
        self.refuse: Callable[[str], bool] | None = None
        self.status: tuple[int, bytes] | None = None
        self.change: Callable[[Any], Any] | None = None
        self.release = threading.Event()
        self.closing = threading.Event()
        self.url = ""

    def forward(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(str(self.upstream.hostname), int(self.upstream.port or 0), timeout=10)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def relay_to(upstream: str) -> Iterator[Relay]:
    relay = Relay(upstream)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            what = f"{self.command} {self.path}"
            relay.seen.append(what)
            if relay.hold is not None and relay.hold(what):
                relay.release.wait(30)
                relay.forward(self.command, self.path, body)
                return
            if relay.refuse is not None and relay.refuse(what):
                status, answer = 503, b"timeout"
            elif relay.status is not None:
                status, answer = relay.status
            else:
                status, answer = relay.forward(self.command, self.path, body)
            if relay.lose is not None and relay.lose(what):
                relay.closing.wait(30)
                return
            if relay.cut is not None and relay.cut(what):
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                return
            if relay.change is not None and self.command == "GET" and status == 200:
                answer = json.dumps(relay.change(json.loads(answer))).encode()
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", answer.decode())
                answer = b""
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_DELETE = do_PATCH = _any  # noqa: N815 - http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    relay.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield relay
    finally:
        relay.closing.set()
        relay.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
