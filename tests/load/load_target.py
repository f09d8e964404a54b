"""A small HTTP server whose behaviour a test changes while it runs.

Behaviour by the path's first segment or by `target.modes[path]`:

    ok        200 after `delay_s`
    status    503
    hang      no answer, until the mode changes
    drip      the head at once, then a byte of the body every 0.05 s
    reset     the connection is reset
    close     the connection is closed without an answer
    garbage   something that is no HTTP
    cut       fewer bytes than promised, then closed
    port N    a redirect to another port of the same host
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from typing import Any


class Target:
    """Listens on `host` from `start` to `stop`; counts requests by path."""

    def __init__(self, delay_s: float = 0.0, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.delay_s = delay_s
        self.tls = tls
        self.host = host
        self.modes: dict[str, str] = {}
        self.default = "ok"
        self.counts: Counter[str] = Counter()
        self.arrivals: list[tuple[float, str]] = []
        self.connections = 0
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def start(self) -> Target:
        ready = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._server = await asyncio.start_server(
                self._connection, self.host, self.port, backlog=1000, ssl=self.tls
            )
            self.port = self._server.sockets[0].getsockname()[1]
            self._stopping = asyncio.Event()
            ready.set()
            await self._stopping.wait()
            self._server.close()
            for writer in list(self._writers):
                writer.transport.abort()
            await asyncio.sleep(0.01)
            pending = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def stop(self) -> None:
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)
        self._thread = None

    def mode(self, path: str) -> str:
        return self.modes.get(path.partition("?")[0], self.default)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        _method, path, _ = head.split(b" ", 2)
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = await reader.readexactly(length)
        name = path.decode()
        self.counts[name.partition("?")[0]] += 1
        self.arrivals.append((time.monotonic(), name))
        mode = self.mode(name)
        if mode == "reset":
            sock: Any = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return False
        if mode == "close":
            return False
        if mode == "garbage":
            writer.write(b"this is not HTTP\r\n\r\n")
            return False
        if mode.startswith("port "):
            where = f"{self.scheme}://{self.host}:{mode.removeprefix('port ')}/there"
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode())
            return True
        if mode in ("away", "around"):
            # 127.0.0.2 is this machine too, but another host by its name.
            host = "127.0.0.2" if mode == "away" else "localhost"
            port = writer.get_extra_info("sockname")[1]
            where = f"{self.scheme}://{host}:{port}/{mode}-there"
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode())
            return True
        if mode == "cut":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return False
        while self.mode(name) == "hang":
            await asyncio.sleep(0.01)
        if mode == "drip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(1000):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
            return True
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        answer = json.dumps(self._answer(name, body)).encode()
        status = b"503 Service Unavailable" if mode == "status" else b"200 OK"
        writer.write(
            b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer)
        )
        writer.write(answer)
        await writer.drain()
        return True

    def _answer(self, path: str, body: bytes) -> dict[str, object]:
        if path == "/api/v1/predict":
            sent = json.loads(body)["transaction"]
            assert len(sent["hash"]) == 66
            return {
                "transaction_hash": sent["hash"],
                "is_anomaly": False,
                "confidence": 0.9,
                "from_cache": False,
                "model_version": "1",
            }
        if path == "/api/v1/batch/predict":
            sent = json.loads(body)["transactions"]
            return {"predictions": [], "total_processed": len(sent) - (self.mode(path) == "short")}
        if path.startswith("/api/v1/anomalies"):
            return {"anomalies": [], "count": 0}
        return {"status": "ok", "path": path}
