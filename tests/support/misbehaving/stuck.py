"""A client that does not read: behind a toxic that holds data back it locks Toxiproxy's API up when that is removed.

The link of that connection waits in a write that nobody takes; removing the toxic waits for the link, under the lock
that every other request needs (Shopify/toxiproxy#558). Measured on 2.12: it stays so until Toxiproxy is restarted.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from harness.model.records.faults import Address


class Flood:
    """A server that sends without end to whoever connects, and is never read by `stuck_client`."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self._open.append(connection)
                threading.Thread(target=self._send, args=(connection,), daemon=True).start()

    def _send(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"x" * 65536)

    def close(self) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def stuck_client(path: Address, settle_s: float = 2.0) -> socket.socket:
    """Connects and never reads; returns when what is sent to it has piled up."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((path.host, path.port))
    time.sleep(settle_s)
    return client
