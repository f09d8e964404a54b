"""A service of the user's own for the doctor's tests: it asks Redis and PostgreSQL for each page, on kept connections.

python shop.py SETTINGS.json     a JSON object: port; redis: HOST:PORT of each connection that it keeps; db: connection
                                 options of each; tcp: HOST:PORT of connections that it opens for each page
"""

from __future__ import annotations

import http.server
import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg

PAGES = ("/health", "/metrics", "/items/1")


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 5)


def main(settings: dict[str, Any]) -> None:
    lock = threading.Lock()
    caches = [connected(one) for one in settings.get("redis", [])]
    databases = [psycopg.connect(one, autocommit=True) for one in settings.get("db", [])]
    seen = Path(settings["log"])

    class Page(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with lock:
                with seen.open("a") as log:
                    log.write(f"{self.command} {self.path}\n")
                if self.path == "/items/1":
                    for cache in caches:
                        cache.sendall(b"PING\r\n")
                        cache.recv(100)
                    for database in databases:
                        database.execute("SELECT 1")
                    for one in settings.get("tcp", []):
                        with connected(one) as short:
                            short.sendall(b"PING\r\n")
                            short.recv(100)
            self.send_response(200 if self.path in PAGES else 404)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.do_GET()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", settings["port"]), Page)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
