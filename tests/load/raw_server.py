"""A server that sends exactly the bytes a test says, over plain sockets or TLS, and remembers what it was sent."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

Script = Callable[["Visit"], None]


class Asked(msgspec.Struct):
    """One request, as it came. connection: number of the connection, from 1."""

    connection: int
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


class Visit:
    """One request being answered. nth: how many of this path there have been, from 1."""

    def __init__(self, sock: socket.socket, asked: Asked, nth: int) -> None:
        self.sock, self.asked, self.nth = sock, asked, nth
        self.closed = False

    def say(self, *pieces: bytes, pause_s: float = 0.02) -> None:
        """Each piece in a packet of its own."""
        for i, piece in enumerate(pieces):
            if i:
                time.sleep(pause_s)
            self.sock.sendall(piece)

    def reply(self, body: bytes = b"{}", status: str = "200 OK", *lines: str) -> None:
        head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *lines])
        self.say(head.encode() + b"\r\n\r\n" + body)

    def close(self) -> None:
        self.closed = True

    def reset(self) -> None:
        # Acknowledged by then, so the request has been seen: a reset that overtakes the acknowledgement looks the same.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.closed = True


class RawServer:
    """scripts: by path, without its query; any other path gets 200 and `{}`. Use as a context manager."""

    def __init__(self, scripts: dict[str, Script] | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.scripts = scripts or {}
        self.asked: list[Asked] = []
        self._tls = tls
        self._connections = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> RawServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for sock in list(self._open):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def of(self, path: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.target.partition("?")[0] == path]

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self._connections += 1
            number = self._connections
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._open.add(sock)
            while (asked := _read(sock, number)) is not None:
                path = asked.target.partition("?")[0]
                with self._lock:
                    self.asked.append(asked)
                    nth = len(self.of(path))
                visit = Visit(sock, asked, nth)
                self.scripts.get(path, Visit.reply)(visit)
                if visit.closed:
                    break
        except OSError:
            pass
        finally:
            self._open.discard(sock)
            sock.close()


def _read(sock: socket.socket, number: int) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert len(headers) == len(lines), f"a header line came twice: {lines}"
    while len(body) < int(headers.get("content-length", 0)):
        body += sock.recv(65536)
    method, target, version = first.split(" ")
    assert version == "HTTP/1.1"
    return Asked(number, method, target, headers, body)


def certificate(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's context for 127.0.0.1 and localhost, and the file that a client has to trust."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    command: list[Any] = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    subprocess.run([*command, "-addext", names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context, cert
