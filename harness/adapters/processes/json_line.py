"""How a keeper is spoken to: its unix socket, and the framing, one JSON object a line, one line each way."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path

LONGEST = 100
"""Bytes of a path that every system takes as a unix socket's name (108 on Linux, 104 on macOS)."""


def listen_in(folder: Path, name: str) -> socket.socket:
    """A unix socket of that name in the folder, whatever the length of its path: nothing of it lies anywhere else.

    Changes the working directory for a moment, so it is for a process that has just begun. Raises OSError.
    """
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = Path.cwd()
    os.chdir(folder)
    try:
        server.bind(name)
        Path(name).chmod(0o600)
    finally:
        os.chdir(before)
    return server


def connect(connection: socket.socket, path: str) -> None:
    """Connect to a unix socket, also one whose path is too long for a socket's name. Raises OSError."""
    if len(os.fsencode(path)) <= LONGEST:
        connection.connect(path)
    elif sys.platform == "linux":
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    else:
        with tempfile.TemporaryDirectory(prefix="harness-", dir="/tmp") as short:
            link = Path(short) / "to"
            link.symlink_to(Path(path).parent)
            connection.connect(str(link / Path(path).name))


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
