"""The same connection over TLS: the standard library's TLS in memory, between the socket and the parser."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from harness.load.lean.connection import Connection
from harness.load.lean.dial import READ, WRITE, wait

_CHUNK = 64 * 1024

ContextFactory = Callable[[], ssl.SSLContext]


@lru_cache(maxsize=2)
def default_context(verify: bool) -> ssl.SSLContext:
    """One for all users: to load the system's certificates takes longer than a handshake."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsConnection(Connection):
    """After the handshake. Raises ssl.SSLError (certificate, no TLS) and OSError when it is made."""

    __slots__ = ("_incoming", "_outgoing", "_raw_read", "_tls")

    def __init__(self, sock: Any, context: ssl.SSLContext, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._raw_read = sock.recv
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        try:
            sent = self._shake_hands(sock)
        except BaseException:
            sock.close()
            raise
        super().__init__(sock)
        self._sent = sent
        self._read = self._read_tls

    def exchange(self, request: bytes, bodyless: bool) -> None:
        try:
            self._tls.write(request)
        except ssl.SSLError:
            self.close()
            raise
        # With whatever TLS itself had to say since the last one: its answers may wait for our next word.
        super().exchange(self._outgoing.read(), bodyless)

    def _shake_hands(self, sock: Any) -> int:
        """Bytes sent."""
        sent = 0
        while True:
            done = False
            try:
                self._tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                # The alert: why we hang up.
                with suppress(OSError):
                    sock.send(self._outgoing.read())
                raise
            rest = memoryview(self._outgoing.read())
            while rest:
                try:
                    part = sock.send(rest)
                except BlockingIOError:
                    wait(sock.fileno(), WRITE)
                else:
                    sent += part
                    rest = rest[part:]
            if done:
                return sent
            wait(sock.fileno(), READ)
            with suppress(BlockingIOError):
                self._take(sock.recv(_CHUNK))

    def _take(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _read_tls(self, size: int) -> bytes:
        """As a socket's recv. Raises BlockingIOError also when only TLS itself spoke (a session ticket)."""
        self._take(self._raw_read(size))
        parts: list[bytes] = []
        try:
            while part := self._tls.read(size):
                parts.append(part)
            self._ended = True
        except ssl.SSLWantReadError:
            if not parts:
                raise BlockingIOError from None
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # Perhaps together with the last words, and the socket stays open until we close it, too.
            self._ended = True
        return b"".join(parts)
