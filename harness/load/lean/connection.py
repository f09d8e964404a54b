"""One kept-alive HTTP/1.1 connection.

Its watcher stays in the event loop from the first request to the last: the loop reads and parses what comes, and wakes
the user's greenlet when the reply is complete. So a request costs one write, one read and one switch there and back,
and a connection that the server closes while it is idle is known to be closed before anybody uses it.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from contextlib import suppress
from typing import Any

import gevent
from gevent import getcurrent
from geventhttpclient._parser import HTTPParseError
from geventhttpclient.response import HTTPConnectionClosed

from harness.load.lean.dial import READ, WRITE
from harness.load.lean.parser import ReplyParser

_CHUNK = 64 * 1024
_TCP_INFO, _BYTES_ACKED = 192, 120
"""Of struct tcp_info in linux/tcp.h: room for it, and where tcpi_bytes_acked is (Linux 4.1 and newer)."""


class Connection:
    """Over a connected, non-blocking socket, which it owns. One exchange at a time."""

    __slots__ = (
        "_before",
        "_done",
        "_ended",
        "_error",
        "_greenlet",
        "_hub",
        "_read",
        "_send_error",
        "_sent",
        "_sock",
        "_watcher",
        "closed",
        "exchanges",
        "parser",
        "unseen",
    )

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._read = sock.recv
        self._hub = gevent.get_hub()
        self.parser = ReplyParser()
        self.closed = False
        self.exchanges = 0
        self.unseen = False
        self._done = self._ended = False
        self._error: BaseException | None = None
        self._send_error: OSError | None = None
        self._sent = self._before = 0
        self._greenlet: Any = None
        self._watcher = self._hub.loop.io(sock.fileno(), READ)
        self._watcher.start(self._on_readable)

    def exchange(self, request: bytes, bodyless: bool) -> None:
        """Send it and wait for the whole reply, which is in `parser` then.

        Raises OSError, HTTPParseError (no HTTP, or cut off), HTTPConnectionClosed (closed without a byte of a reply) or
        whatever is thrown into the greenlet; the connection is closed after any of them. `unseen` is True when the
        server had closed it before, and certainly got nothing of the request.
        """
        self.exchanges += 1
        self.parser.expect(bodyless)
        self._done = self.unseen = False
        self._error = self._send_error = None
        self._before = self._sent
        self._greenlet = getcurrent()
        try:
            sent = self._write(request)
            if sent < len(request) and self._send_error is None:
                self._write_rest(request, sent)
            while not self._done:
                self._hub.switch()
        except BaseException:
            self._abort()
            raise
        finally:
            self._greenlet = None
        error: BaseException | None = self._error
        if error is not None:
            self.close()
            raise error
        if self._ended or not self.parser.reusable:
            self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._watcher.stop()
            self._watcher.close()
            self._sock.close()

    def _abort(self) -> None:
        """Close it with a reset. A close in order keeps the local port for a minute where the server, which hangs,
        never closes its own end: at 1,000 requests a second all ports are gone in half of that."""
        if not self.closed:
            with suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _write(self, data: bytes | memoryview) -> int:
        """How much of it the kernel took. An error is kept: what the server said before may still be there to read."""
        try:
            sent: int = self._sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                raise  # this machine's own trouble: nothing will become readable by it
            self._send_error = error
            return 0
        self._sent += sent
        return sent

    def _write_rest(self, request: bytes, sent: int) -> None:
        rest = memoryview(request)[sent:]
        watcher = self._hub.loop.io(self._sock.fileno(), WRITE)
        try:
            # A reply that comes before the whole request was sent (413) ends it, too.
            while rest and not self._done and self._send_error is None:
                watcher.start(self._greenlet.switch)
                self._hub.switch()
                watcher.stop()
                rest = rest[self._write(rest) :]
        finally:
            watcher.stop()
            watcher.close()
        if rest and self._done:
            self.parser.surplus = True

    def _on_readable(self) -> None:
        """In the event loop."""
        try:
            data = self._read(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            data, self._error = b"", error
        greenlet, parser = self._greenlet, self.parser
        if greenlet is None:
            # An idle connection has nothing to say: closed, or out of step.
            self.close()
            return
        if self._error is None:
            try:
                if data:
                    parser.receive(data)
                    if not parser.complete:
                        if not self._ended:
                            return
                        parser.finish()
                elif parser.started:
                    parser.finish()
                else:
                    self.unseen = self.exchanges > 1 and self._nothing_acknowledged()
                    self._error = self._send_error or HTTPConnectionClosed("the connection was closed without a reply")
            except HTTPParseError as error:
                self._error = error
        self._done = True
        greenlet.switch()

    def _nothing_acknowledged(self) -> bool:
        """The server's machine has not acknowledged a byte of the present request, and has closed its end in order
        (the close carries the acknowledgement of all that came before it; a reset does not).

        Linux only: elsewhere it is never certain.
        """
        if not sys.platform.startswith("linux"):
            return False
        with suppress(OSError, struct.error):
            info = self._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
            # The SYN counts as one byte.
            return bool(struct.unpack_from("=Q", info, _BYTES_ACKED)[0] <= self._before + 1)
        return False
