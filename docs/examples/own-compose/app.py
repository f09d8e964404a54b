"""GET / counts visitors in Redis; without Redis it answers all the same, with no number. GET /health says it lives.

Nothing but the standard library. Each thread keeps one connection to Redis.
"""

import http.server
import json
import os
import socket
import threading

ADDRESS = (os.environ.get("REDIS_HOST", "redis"), int(os.environ.get("REDIS_PORT", "6379")))
LIMIT_S = 0.25
kept = threading.local()


def redis(*words: str) -> str:
    """One command to Redis; the first line of the answer. Raises OSError when there is none in time."""
    if getattr(kept, "connection", None) is None:
        kept.connection = socket.create_connection(ADDRESS, LIMIT_S)
        kept.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        redis("CLIENT", "SETNAME", os.environ.get("CLIENT_NAME", "app"))
    try:
        parts = [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
        kept.connection.sendall("".join(parts).encode())
        answer = b""
        while not answer.endswith(b"\r\n"):
            piece = kept.connection.recv(1000)
            if not piece:
                raise ConnectionError("Redis hung up")
            answer += piece
        return answer.decode()
    except OSError:
        kept.connection.close()
        kept.connection = None
        raise


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = {"status": "ok", "version": "1.0.0"}
        if self.path != "/health":
            try:
                body = {"visitors": int(redis("INCR", "visitors").lstrip(":"))}
            except OSError:
                body = {"visitors": None}
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    print("app: listening on port 8000", flush=True)
    http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler).serve_forever()
