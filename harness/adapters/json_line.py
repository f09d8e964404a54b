"""The framing of what is said to a keeper: one JSON object a line, one line each way."""

from __future__ import annotations

import socket


def receive(connection: socket.socket) -> bytes:
    """Bytes up to a newline. Raises ConnectionError when the other side closes before it, OSError."""
    parts = []
    while True:
        part = connection.recv(65536)
        if not part:
            raise ConnectionError("closed without a complete line")
        parts.append(part)
        if part.endswith(b"\n"):
            return b"".join(parts)
