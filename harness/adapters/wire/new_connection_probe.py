"""One HTTP request on a connection of its own: does the target still admit somebody new?

Any answer will do, for what is asked is whether the connection is admitted and served. Goes to the addresses that were
checked before the run, whatever the name means now.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

from harness.model.clock import monotonic

MOST = 1 << 20
"""Bytes read of an answer: it is read to its end, so that the target sees an orderly caller."""


class FreshConnection:
    """url: an http or https URL, with the page to ask for. addresses: of its host; () = the host is one itself."""

    def __init__(self, url: str, addresses: Sequence[str] = ()) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._addresses = tuple(addresses) or (self._host,)
        name = f"[{self._host}]" if ":" in self._host else self._host
        host = name if parts.port is None else f"{name}:{parts.port}"
        self._request = (
            f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: harness-probe\r\nAccept: */*\r\n"
            "Connection: close\r\n\r\n"
        ).encode("latin-1", "replace")
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            # Nothing is trusted to it and nothing secret is sent: a certificate of one's own is no refusal.
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls.check_hostname = False
            self._tls.verify_mode = ssl.CERT_NONE

    def ask(self, limit_s: float) -> bool:
        """Whether an HTTP answer began within limit_s seconds. Raises nothing."""
        end = monotonic() + limit_s
        try:
            with self._connected(end) as connection:
                connection.sendall(self._request)
                head = b""
                while len(head) < 5:
                    connection.settimeout(max(0.001, end - monotonic()))
                    got = connection.recv(4096)
                    if not got:
                        break
                    head += got
                answered = head.startswith(b"HTTP/")
                self._read_out(connection, end)
        except (OSError, ValueError):
            return False
        return answered

    def _connected(self, end: float) -> socket.socket:
        error: OSError = OSError("no address")
        for address in self._addresses:
            try:
                connection = socket.create_connection((address, self._port), max(0.001, end - monotonic()))
            except OSError as one:
                error = one
                continue
            connection.settimeout(max(0.001, end - monotonic()))
            if self._tls is None:
                return connection
            try:
                return self._tls.wrap_socket(connection, server_hostname=self._host)
            except BaseException:
                connection.close()
                raise
        raise error

    def _read_out(self, connection: socket.socket, end: float) -> None:
        left = MOST
        try:
            while left > 0 and (seconds := end - monotonic()) > 0:
                connection.settimeout(seconds)
                got = connection.recv(65536)
                if not got:
                    return
                left -= len(got)
        except OSError:
            pass  # the answer has begun: that is all that was asked
