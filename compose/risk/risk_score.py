"""A risk score for an account address: the HTTP upstream of the sample API. `python -m risk_score`, HOST and PORT.

    GET /v1/score?address=0x...   the score, and the accounts that it comes from (about 6 KB of JSON)
    GET /health                   200 while it lives
    GET /stats                    how many scores were asked for

Nothing but the standard library. The same address always gets the same answer.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import sys
import threading
from urllib.parse import parse_qs, urlsplit

RELATED = 80
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


def score_of(address: str) -> dict[str, object]:
    """score: 0 (none known) to 1."""
    digest = hashlib.shake_256(address.lower().encode()).digest(4 + 22 * RELATED)
    parts = (digest[at : at + 22] for at in range(4, len(digest), 22))
    related = [{"address": f"0x{part[:20].hex()}", "weight": int.from_bytes(part[20:]) / 65535} for part in parts]
    return {"address": address, "score": int.from_bytes(digest[:4]) / 0xFFFFFFFF, "related": related}


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, Answer)
        self.asked = 0
        self.counting = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone."""


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one piece
    server: Server

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/v1/score":
            with self.server.counting:
                self.server.asked += 1
            address = parse_qs(parts.query).get("address", [""])[0]
            if _ADDRESS.fullmatch(address):
                self._answer(200, score_of(address))
            else:
                self._answer(400, {"detail": "address: 0x and 40 hex digits are wanted"})
        elif parts.path == "/health":
            self._answer(200, {"status": "ok"})
        elif parts.path == "/stats":
            self._answer(200, {"scores": self.server.asked})
        else:
            self._answer(404, {"detail": "not found"})

    def _answer(self, status: int, found: dict[str, object]) -> None:
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """A line a request costs more than the answer."""


def main() -> None:
    port = (os.environ.get("PORT") or "8000").strip()
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        sys.exit(f"risk_score: PORT={port}: a number from 0 to 65535 is wanted")
    Server((os.environ.get("HOST") or "127.0.0.1", int(port))).serve_forever()


if __name__ == "__main__":
    main()
