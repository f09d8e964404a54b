"""A locustfile sends the same and gets the same with the fast client as with Locust's HttpUser, which is requests."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from lean_cases import CASES
from raw_server import Asked, RawServer, Script, Visit

CALLS = Path(__file__).parent / "files" / "lean_and_requests.py"
HEAD = b"HTTP/1.1 200 OK\r\n"


def raw(*pieces: bytes, close: bool = False) -> Script:
    def script(visit: Visit) -> None:
        visit.say(*pieces)
        visit.closed = close

    return script


def to(where: str, status: str = "302 Found", *lines: str) -> Script:
    return lambda visit: visit.reply(b"moved", status, f"Location: {where}", *lines)


def packed(encoding: str, body: bytes) -> Script:
    return lambda visit: visit.reply(body, "200 OK", f"Content-Encoding: {encoding}")


def replies(port: int) -> dict[str, Script]:
    own = f"127.0.0.1:{port}"
    return {
        **{f"/redirect/{code}": to("/landed", f"{code} Moved") for code in (301, 302, 303, 307, 308)},
        "/to/x/relative": to("landed"),
        "/to/x/up": to("../landed"),
        "/to/x/query": to("?q=1"),
        "/to/x/empty": to(""),
        "/to/x/none": lambda v: v.reply(b"moved", "302 Found"),
        "/to/x/fragment": to("/landed#part"),
        "/to/x/space": to("/landed here?a b"),
        "/to/x/utf8": lambda v: v.say(
            "HTTP/1.1 302 Found\r\nLocation: /ü?ö\r\nContent-Length: 0\r\n\r\n".encode(),
        ),
        "/to/x/scheme-less": to(f"//{own}/landed"),
        "/to/x/absolute": to(f"http://{own}/landed"),
        "/to/x/300": to("/landed", "300 Choose"),
        "/to/x/304": lambda v: v.say(b"HTTP/1.1 304 Not Modified\r\nLocation: /landed\r\n\r\n"),
        "/to/x/chain": to("/to/x/relative", "307 Here"),
        "/to/x/loop": to("/to/x/loop"),
        "/set": lambda v: v.reply(b"", "200 OK", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; Path=/other"),
        "/unset": lambda v: v.reply(b"", "200 OK", "Set-Cookie: a=; Max-Age=0; Path=/"),
        "/set-and-go": to("/landed", "302 Found", "Set-Cookie: c=3; Path=/"),
        "/reply/204": raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        "/reply/205": raw(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
        "/reply/304": raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        "/reply/304-length": raw(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        "/reply/length": raw(HEAD + b"Content-Length: 9\r\n\r\n"),
        "/reply/chunked": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"),
        "/reply/trailers": raw(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
        "/reply/interim": raw(b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 100 Go\r\nA: b\r\n\r\n", b"HTTP/1.1 204 Done\r\n\r\n"),
        "/reply/latin": lambda v: v.reply(b"\xfc", "200 OK", "Content-Type: text/plain; charset=latin-1"),
        "/reply/no-reason": raw(b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx"),
        "/reply/old": raw(b"HTTP/1.0 200 OK\r\n\r\nold", close=True),
        "/reply/until-close": raw(HEAD + b"\r\nabc", b"def", close=True),
        "/reply/gzip-junk": packed("gzip", gzip.compress(b"body") + b"and more"),
        "/reply/gzip-zeros": packed("gzip", gzip.compress(b"body") + bytes(100)),
        "/reply/gzip-members": packed("gzip", gzip.compress(b"bo") + gzip.compress(b"dy")),
        "/reply/deflate": packed("deflate", zlib.compress(b"body")),
        "/reply/bare-deflate": packed("deflate", zlib.compress(b"body")[2:-4]),
        "/reply/deflate-junk": packed("deflate", zlib.compress(b"body") + b"and more"),
        "/reply/404": lambda v: v.reply(b"none", "404 Not Found"),
        "/reply/500": lambda v: v.reply(b"wrong", "500 Wrong"),
    }  # fmt: skip


def asked_by(client: str) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """What came of each case, and what the server was asked in it."""
    with RawServer() as server:
        server.scripts |= replies(server.port)
        done = subprocess.run(
            [sys.executable, CALLS, client, server.url], capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    names = list(CASES)
    asked: dict[str, list[Any]] = {name: [] for name in names}
    for one in server.asked:
        asked[names[int(one.headers["x-case"])]].append(meaning(one))
    return json.loads(done.stdout), asked


def meaning(asked: Asked) -> tuple[str, str, object, dict[str, object]]:
    """Method, target, body, and the header lines that say something about this call. That of a length says it again;
    what JSON looks like, and what a client says about itself, is its own affair."""
    kept = ("content-type", "authorization", "x-own", "x-bytes", "x-text", "x-none", "x-empty", "x-bad")
    headers: dict[str, object] = {name: asked.headers[name] for name in kept if name in asked.headers}
    if "cookie" in asked.headers:
        headers["cookie"] = sorted(asked.headers["cookie"].split("; "))
    body: object = asked.body
    if asked.body and asked.headers.get("content-type") == "application/json":
        body = json.loads(asked.body)
    return asked.method, asked.target, body, headers


@pytest.fixture(scope="module")
def both() -> Any:
    return asked_by("lean"), asked_by("http")


@pytest.mark.parametrize("name", CASES)
def test_the_same_is_sent_and_comes_back_as_with_requests(both: Any, name: str) -> None:
    (ours, our_asked), (theirs, their_asked) = both
    assert our_asked[name] == their_asked[name]
    assert ours[name] == theirs[name]


def test_the_comparison_compares_something(both: Any) -> None:
    _, (_, asked) = both
    assert sum(len(each) for each in asked.values()) > 150
    assert [name for name in CASES if not asked[name]] == [
        "json NaN", "json infinite", "header with a line", "header with a space before",
        "timeout 0", "timeout -1", "timeout (1,)", "timeout (1, 2, 3)", "timeout 'soon'", "timeout True",
        "timeout (0, 5)", "timeout {}",
    ]  # fmt: skip
