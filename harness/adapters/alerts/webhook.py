"""The receiving end of an Alertmanager's webhook (payload version 4), on loopback only.

Nothing in a payload is executed or followed: names, labels and states are read, all else is passed over. A request that
a web page could make is refused, whoever sends it: it must be JSON, to a loopback name, and without an Origin.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socket import AF_INET6
from typing import Literal

import msgspec

from harness.adapters.alerts.told import MAX_SERIES, Active, active, decoded, limited
from harness.model.errors import AdapterError, Unreachable

MAX_BODY = 1_000_000
READ_LIMIT_S = 5.0
MOST_AT_ONCE = 8
"""Connections; an Alertmanager makes one a group of alerts, one after the other."""


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    status: Literal["firing", "resolved"]


class _Payload(msgspec.Struct):
    version: Literal["4"]
    alerts: list[_Alert]


class Standing:
    """What notifications have told so far, which stays so until they say otherwise. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._active: dict[str, Active] = {}

    def told(self, found: tuple[Active, ...]) -> None:
        with self._lock:
            for one in found:
                self._active.pop(one.series, None)
                if one.state == "notified" and len(self._active) < MAX_SERIES:
                    self._active[one.series] = one

    @property
    def active(self) -> tuple[Active, ...]:
        with self._lock:
            return tuple(self._active.values())


def read(body: bytes) -> tuple[Active, ...]:
    """What a notification tells: notified, or resolved. Raises Rejected for what is none."""
    payload = decoded(body, "webhook", _Payload)
    return limited(
        (active(one.labels, "notified" if one.status == "firing" else "resolved", None) for one in payload.alerts),
        "webhook",
    )


class Receiver:
    """Listens until it is closed. told: called in a thread of the server's with what each notification tells; trouble:
    with a line about what could not be read. page: what a GET is answered with, JSON; None: nothing is. Raises
    Unreachable where the port cannot be had."""

    def __init__(
        self,
        host: str,
        port: int,
        told: Callable[[tuple[Active, ...]], None],
        trouble: Callable[[str], None],
        page: Callable[[], bytes] | None = None,
    ) -> None:
        try:
            self._server = _Server((host, port), told, trouble, page)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise Unreachable(f"the webhook cannot listen on {host}:{port}: {why}") from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="webhook", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(2.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        address: tuple[str, int],
        told: Callable[[tuple[Active, ...]], None],
        trouble: Callable[[str], None],
        page: Callable[[], bytes] | None,
    ) -> None:
        if ":" in address[0]:
            self.address_family = AF_INET6
        self.told, self.trouble, self.page = told, trouble, page
        self.places = threading.BoundedSemaphore(MOST_AT_ONCE)
        super().__init__(address, _Handler)

    def process_request(self, request: object, client_address: object) -> None:
        if not self.places.acquire(blocking=False):
            self.shutdown_request(request)  # type: ignore[arg-type]
            return
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def process_request_thread(self, request: object, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[arg-type]
        finally:
            self.places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that breaks off is no news, and no traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = READ_LIMIT_S
    server_version = "resilience-harness"
    sys_version = ""

    def do_GET(self) -> None:
        self.close_connection = True
        if self._from_a_page():
            return self._answer(403)
        if self.server.page is None:
            return self._answer(501)
        self._answer(200, self.server.page())

    def do_POST(self) -> None:
        self.close_connection = True
        if self._from_a_page():
            return self._answer(403)
        if self.headers.get_content_type() != "application/json":
            return self._answer(415)
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit() and len(length) < 10):
            return self._answer(411)
        if int(length) > MAX_BODY:
            self.server.trouble(f"webhook: a notification of more than {MAX_BODY // 1_000_000} MB is not read")
            return self._answer(413)
        try:
            found = read(self.rfile.read(int(length)))
        except AdapterError as error:
            self.server.trouble(str(error))
            return self._answer(400)
        self.server.told(found)
        self._answer(200)

    def _from_a_page(self) -> bool:
        return self.headers.get("Origin") is not None or not _loopback(self.headers.get("Host", ""))

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on stderr: it is the run's."""


def _loopback(host: str) -> bool:
    """Of a Host header: what a name that was rebound to loopback does not say."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    try:
        return name == "localhost" or ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
