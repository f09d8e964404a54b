"""One connection with one deadline: what the raw protocol probes are made of.

A socket's own time-out is per operation, so a peer that drips bytes could hold a probe for ever. Here every wait is
cut to what is left until the deadline.
"""

from __future__ import annotations

import errno
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, Self

from harness.model.clock import monotonic
from harness.model.errors import UsageError
from harness.model.records.faults import Address, Tls

if TYPE_CHECKING:  # a tenth of what `harness --help` may take
    import ssl

_GOODBYE_S = 0.02
"""A probe's time is told with it, and what a fault does to the end of a connection must not count."""
MAX_ANSWER = 64 * 2**20
"""Bytes of one answer: more is announced by something that does not speak the protocol."""

ErrorKind = Literal["refused", "reset", "timeout", "closed", "protocol", "auth", "limit", "unreachable"]


class ProbeError(Exception):
    """Why an exchange failed. connected: the TCP connection itself had been accepted. code: the server's own number
    for it (SQLSTATE, an error number), where it gave one."""

    def __init__(self, kind: ErrorKind, detail: str, *, connected: bool, code: str = "") -> None:
        super().__init__(detail)
        self.code = code
        self.kind: ErrorKind = kind
        self.detail = detail
        self.connected = connected


class Exchange:
    """A fresh TCP connection; use as a context manager. Every method raises ProbeError.

    deadline: CLOCK_MONOTONIC second by which everything must be done. tls: its handshake is the first thing that is
    said. own: our end of the connection. received: bytes that have come so far, without what TLS adds.
    """

    def __init__(self, address: Address, *, deadline: float, tls: Tls | None = None) -> None:
        self.deadline = deadline
        self._buffer = b""
        self.received = 0
        try:
            self._socket = socket.create_connection((address.host, address.port), timeout=self._left(False))
        except OSError as error:
            raise _probe_error(error, f"connecting to {address}", connected=False) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.own = Address(*self._socket.getsockname()[:2])
        self._secured: ssl.SSLSocket | None = None
        if tls is not None:
            try:
                self.secure(tls)
            except (ProbeError, UsageError):
                self._socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._secured is not None:
            with suppress(OSError, ValueError):
                self._secured.settimeout(_GOODBYE_S)
                self._socket = self._secured.unwrap()  # says that this is the end, and no cut
        self._socket.close()

    def secure(self, tls: Tls, *, verified: bool = True) -> None:
        """Speak TLS from here on. verified: False where nothing secret is sent and nothing that comes is believed.
        Raises UsageError too, for files that cannot be used."""
        from harness.adapters.wire.tls import secured

        try:
            self._socket.settimeout(self._left())
            self._socket = self._secured = secured(self._socket, tls, verified=verified)
        except OSError as error:
            raise _probe_error(error, "starting TLS", connected=True) from error

    def send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._left())
            self._socket.sendall(data)
        except OSError as error:
            raise _probe_error(error, "sending", connected=True) from error

    def line(self, limit: int = 8192) -> bytes:
        """Up to and without the next CR LF (or LF)."""
        while b"\n" not in self._buffer:
            if len(self._buffer) > limit:
                raise ProbeError("protocol", "an endless line was answered", connected=True)
            self._more()
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.removesuffix(b"\r")

    def exactly(self, size: int) -> bytes:
        if not 0 <= size <= MAX_ANSWER:
            raise ProbeError("protocol", f"an answer of {str(size)[:20]} bytes was announced", connected=True)
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def something(self) -> None:
        """Wait for the first byte of whatever comes."""
        while not self._buffer:
            self._more()

    def goodbye(self, data: bytes) -> None:
        """Send the protocol's last word and wait a moment for the other side to close: so the end is in order on both.
        What goes wrong now says nothing any more."""
        until = min(self.deadline, monotonic() + _GOODBYE_S)
        with suppress(OSError):
            self._socket.settimeout(_GOODBYE_S)
            self._socket.sendall(data)
            while (left := until - monotonic()) > 0:
                self._socket.settimeout(left)
                if not self._socket.recv(65536):
                    return

    def finish(self) -> bool:
        """Close our direction and wait until the other side ends its own; False when it did so by a reset."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while True:
                self._socket.settimeout(self._left())
                if not self._socket.recv(65536):
                    return True
        except ConnectionResetError:
            return False
        except OSError as error:
            if error.errno == errno.ENOTCONN:  # it was reset before we came to close it
                return False
            raise _probe_error(error, "waiting for the other side to close", connected=True) from error

    def _more(self) -> None:
        try:
            self._socket.settimeout(self._left())
            data = self._socket.recv(65536)
        except OSError as error:
            raise _probe_error(error, "waiting for an answer", connected=True) from error
        if not data:
            raise ProbeError("closed", "the connection was closed without an answer", connected=True)
        self.received += len(data)
        self._buffer += data

    def _left(self, connected: bool = True) -> float:
        left = self.deadline - monotonic()
        if left <= 0:
            raise ProbeError("timeout", "no answer in time", connected=connected)
        return left


def _probe_error(error: OSError, doing: str, *, connected: bool) -> ProbeError:
    if isinstance(error, TimeoutError):
        return ProbeError("timeout", f"no answer in time while {doing}", connected=connected)
    if isinstance(error, ConnectionRefusedError):
        return ProbeError("refused", f"connection refused while {doing}", connected=connected)
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        # Also while connecting: a connection that was never accepted is refused, not reset.
        return ProbeError("reset", f"connection reset while {doing}", connected=True)
    if type(error).__module__ == "ssl":
        # Hung up in the middle, as a proxy does that finds nobody behind it; else it is no TLS, or not the right one.
        if type(error).__name__ in ("SSLEOFError", "SSLZeroReturnError"):
            return ProbeError("closed", "the connection was closed without an answer", connected=connected)
        if (unwanted := getattr(error, "verify_message", "")) != "":
            return ProbeError("protocol", f"its TLS certificate is not accepted: {unwanted}", connected=connected)
        why = (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
        return ProbeError("protocol", f"TLS failed while {doing}: {why}", connected=connected)
    return ProbeError("unreachable", f"{error.strerror or error} while {doing}", connected=connected)
