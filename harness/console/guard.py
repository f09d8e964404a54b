"""What stands before both listeners: the right Host, the right Origin, sizes, rates, and headers that keep a page to
itself. A request that is not let through changes nothing and is told nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 8_192
MOST_A_SECOND = 30.0
"""Of one browser that came in; of all that did not, together."""
BURST = 60.0
MOST_BUCKETS = 1_000
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """hosts: what Host may say. origins: what a request that changes something must come from. cookie: its name.
    known: whether what it says is somebody's who came in."""

    def __init__(
        self, app: ASGIApp, hosts: Collection[str], origins: Collection[str], cookie: str, known: Callable[[str], bool]
    ) -> None:
        self._app = app
        self._hosts = {host.encode() for host in hosts}
        self._origins = {origin.encode() for origin in origins}
        self._cookie = cookie
        self._known = known
        self._buckets: dict[str, tuple[float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = dict(scope["headers"])
        code = self._refused(scope["method"], headers)
        if code:
            await _plain(send, code)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *own]
            await send(message)

        await self._app(scope, _limited(receive), with_headers)

    def _refused(self, method: str, headers: dict[bytes, bytes]) -> int:
        if headers.get(b"host", b"") not in self._hosts:
            return 421
        if method not in ("GET", "HEAD", "POST"):
            return 405
        if method == "POST":
            if headers.get(b"origin", b"") not in self._origins:
                return 403
            length = headers.get(b"content-length", b"")
            if not length.isdigit() or int(length) > MOST_BODY:
                return 413
        return 0 if self._has_room(headers) else 429

    def _has_room(self, headers: dict[bytes, bytes]) -> bool:
        """A bucket for each browser that came in, one for all others, whatever they show."""
        key = cookie_parser(headers.get(b"cookie", b"").decode("latin-1")).get(self._cookie, "")
        if not self._known(key):
            key = ""
        if key not in self._buckets and len(self._buckets) >= MOST_BUCKETS:
            key = ""
        now = time.monotonic()
        left, at = self._buckets.get(key, (BURST, now))
        left = min(BURST, left + (now - at) * MOST_A_SECOND)
        self._buckets[key] = (left - 1 if left >= 1 else left, now)
        return left >= 1


def _limited(receive: Receive) -> Receive:
    seen = 0

    async def limited() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BODY:
            return {"type": "http.disconnect"}
        return message

    return limited


async def _plain(send: Send, code: int) -> None:
    await send({"type": "http.response.start", "status": code, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
