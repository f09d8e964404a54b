"""The fast client against replies that do not end, or are bigger than any memory, and connections that went stale."""

from __future__ import annotations

import gzip
import time
import zlib
from collections.abc import Callable
from itertools import repeat
from typing import Any

import brotli
import pytest
from raw_server import RawServer, Script, Visit
from test_lean_client import CHUNKED, HEAD, call, packed, raw

KEPT = 64 * 1024 * 1024
BOMB = 300_000_000
LONG = 100_000_000


def endless(begin: bytes, piece: bytes) -> Script:
    """Until the client hangs up."""

    def script(visit: Visit) -> None:
        visit.say(begin)
        for each in repeat(piece):
            visit.sock.sendall(each)

    return script


def long(visit: Visit) -> None:
    visit.say(HEAD + b"Content-Length: %d\r\n\r\n" % LONG, pause_s=0)
    for _ in range(LONG // 1_000_000):
        visit.sock.sendall(bytes(1_000_000))


def bomb(encoding: str, size: int, *packings: Callable[[bytes], bytes]) -> Script:
    """Made when it is asked for: it takes seconds."""

    def script(visit: Visit) -> None:
        body = bytes(size)
        for pack in packings:
            body = pack(body)
        packed(encoding, body)(visit)

    return script


def zipped(body: bytes) -> bytes:
    return gzip.compress(body, 1)


def brotlied(body: bytes) -> bytes:
    return brotli.compress(body, quality=1)


SIZES: dict[str, tuple[Script, int, int]] = {
    "gzip": (bomb("gzip", BOMB, zipped), KEPT, BOMB - KEPT),
    "deflate": (bomb("deflate", LONG, zlib.compress), KEPT, LONG - KEPT),
    "br": (bomb("br", LONG, brotlied), KEPT, LONG - KEPT),
    "twice": (bomb("br, gzip", LONG, brotlied, zipped), KEPT, LONG - KEPT),
    "long": (long, KEPT, LONG - KEPT),
    "small-chunks": (raw(CHUNKED + b"1\r\nx\r\n" * 300_000 + b"0\r\n\r\n"), 300_000, 0),
}
"""What is sent, how much of it is kept and how much is not."""


def test_a_body_is_kept_to_a_limit_and_counted_beyond_it() -> None:
    with RawServer({f"/{name}": script for name, (script, _, _) in SIZES.items()}) as server:
        answer, events = call(server, "limits", "\n".join(f"{name} 50" for name in SIZES))
    for name, (_, kept, dropped) in SIZES.items():
        assert answer[name][:3] == [None, kept, dropped], name
        assert answer[name][3] < max(2.5 * kept, 6_000_000), f"{name} took {answer[name][3]} bytes"
    assert [event[3] for event in events] == [kept + dropped for _, kept, dropped in SIZES.values()]


ENDLESS: dict[str, tuple[Script, str, float]] = {
    "header": (endless(HEAD + b"X: ", b"x" * 65536), "protocol", 20),
    "headers": (endless(HEAD, b"X-Y: z\r\n" * 8192), "protocol", 20),
    "many-headers": (lambda v: v.say(HEAD + b"X: y\r\n" * 1500 + b"\r\n"), "protocol", 20),
    "chunk-size": (endless(CHUNKED + b"1\r\nx\r\n", b"0" * 65536), "protocol", 20),
    "chunk-extension": (endless(CHUNKED + b"1;x=", b"x" * 65536), "protocol", 20),
    "trailers": (endless(CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Y: z\r\n" * 8192), "protocol", 20),
    "trailer": (endless(CHUNKED + b"0\r\nX: ", b"x" * 65536), "protocol", 20),
    "too-often-packed": (packed(", ".join(["gzip"] * 9), b"x"), "protocol", 20),
    "chunks": (endless(CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n"), "timeout", 1.5),
    "interim": (endless(b"", b"HTTP/1.1 103 Hints\r\nX: y\r\n\r\n" * 1000), "timeout", 1),
}
"""What is sent, the kind of the failure and the request's total time-out: longer than a limit takes."""


def test_what_does_not_end_is_given_up() -> None:
    with RawServer({f"/{name}": script for name, (script, _, _) in ENDLESS.items()}) as server:
        answer, _ = call(server, "limits", "\n".join(f"{name} {limit}" for name, (_, _, limit) in ENDLESS.items()))
    for name, (_, kind, _) in ENDLESS.items():
        assert answer[name][0] == kind, f"{name}: {answer[name]}"
        assert answer[name][3] < (2.5 * KEPT if name == "chunks" else 30_000_000), (
            f"{name} took {answer[name][3]} bytes"
        )


def once(way: Script) -> Script:
    """What a server does to a connection that it has let go of; a fresh one is answered."""
    return lambda visit: (way if visit.nth == 1 else Visit.reply)(visit)


def slow_close(visit: Visit) -> None:
    time.sleep(1)
    visit.close()


def hang(visit: Visit) -> None:
    visit.sock.settimeout(20)
    visit.sock.recv(1)


SAFE = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")
STALE: dict[str, tuple[Script, str | None, int, int]] = {
    **{f"{method} /reset-{method}": (once(Visit.reset), None, 1, 2) for method in SAFE},
    "GET /close": (once(Visit.close), None, 1, 2),
    "POST /posted": (once(Visit.reset), "reset", 0, 1),
    "PATCH /patched": (once(Visit.close), "reset", 0, 1),
    "POST /any any": (once(Visit.close), None, 1, 2),
    "GET /always": (Visit.reset, "reset", 1, 2),
    "GET /fresh fresh": (Visit.reset, "reset", 0, 1),
    "GET /half": (raw(b"HTTP/1.1 200 O", close=True), "protocol", 0, 1),
    "GET /interim": (raw(b"HTTP/1.1 100 Go\r\n\r\n", close=True), "protocol", 0, 1),
    "GET /hang": (hang, "timeout", 0, 1),
    "GET /late": (lambda v: (slow_close if v.nth == 1 else hang)(v), "timeout", 1, 2),
}  # fmt: skip
"""What a request meets on a kept connection: the kind of its failure, how often it was sent again, asked in all."""


@pytest.fixture(scope="module")
def stale() -> Any:
    with RawServer({line.split()[1]: script for line, (script, *_) in STALE.items()}) as server:
        answer, events = call(server, "stale", "\n".join(STALE))
    return dict(zip(STALE, answer, strict=True)), events, server


@pytest.mark.parametrize("line", STALE)
def test_a_request_that_meets_a_stale_connection_is_sent_once_more_and_told_apart(stale: Any, line: str) -> None:
    answer, events, server = stale
    _, kind, again, asked = STALE[line]
    path = line.split()[1]
    assert answer[line][:3] == [kind, again, again]
    assert len(server.of(path)) == asked
    assert [event[2] for event in events if event[1] == path] == [kind], "one event, however often it was sent"


def test_what_is_sent_again_has_the_time_out_of_the_first(stale: Any) -> None:
    """1.5 s in all, of which the stale connection took one."""
    answer, _, _ = stale
    assert 1.5 <= answer["GET /late"][3] < 2.4
