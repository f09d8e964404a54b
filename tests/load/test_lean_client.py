"""The fast client against a server that behaves in every way a socket can: what people get, and what is sent."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import brotli
import pytest
from raw_server import RawServer, Script, Visit, certificate

CALLS = Path(__file__).parent / "files" / "lean_calls.py"
HELLO = b'{"hello": "you"}'


def call(server: RawServer, name: str, feed: str = "", **environment: str) -> Any:
    """What the function of that name in lean_calls.py answered, and the events that Locust saw."""
    done = subprocess.run(
        [sys.executable, "-W", "error", CALLS, server.url, name],
        input=feed,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    return found["answer"], [tuple(event) for event in found["events"]]


def raw(*pieces: bytes, close: bool = False) -> Script:
    def script(visit: Visit) -> None:
        visit.say(*pieces)
        visit.closed = close

    return script


def packed(encoding: str, body: bytes) -> Script:
    return lambda visit: visit.reply(body, "200 OK", f"Content-Encoding: {encoding}")


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
BARE = zlib.compressobj(wbits=-15)

REPLIES: dict[str, tuple[Script, int, str]] = {
    "length": (raw(HEAD + b"Content-Length: 2\r\n\r\nok"), 200, "ok"),
    "bytewise": (raw(*[bytes([b]) for b in HEAD + b"Content-Length: 2\r\n\r\nok"]), 200, "ok"),
    "split-head": (raw(HEAD + b"Content-Le", b"ngth: 2\r\n", b"\r\n", b"o", b"k"), 200, "ok"),
    "empty": (raw(HEAD + b"Content-Length: 0\r\n\r\n"), 200, ""),
    "chunked": (raw(CHUNKED + b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n"), 200, "abcde"),
    "split-chunks": (raw(CHUNKED + b"3\r", b"\nab", b"c\r\n0", b"\r\nX-Trailer: t\r\n\r\n"), 200, "abc"),
    "until-close": (raw(HEAD + b"\r\nabc", b"def", close=True), 200, "abcdef"),
    "old": (raw(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", close=True), 200, "ok"),
    "no-content": (raw(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, ""),
    "not-modified": (raw(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 20\r\n\r\n"), 304, ""),
    "interim": (raw(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok"), 200, "ok"),
    "cut-interim": (raw(b"HTTP/1.1 100 Go", b"\r\n\r\nHTTP/1.1 2", b"00 OK\r\nContent-Length: 2\r\n\r\nok"), 200, "ok"),
    "gzip": (packed("gzip", gzip.compress(HELLO[:5]) + gzip.compress(HELLO[5:])), 200, HELLO.decode()),
    "deflate": (packed("deflate", zlib.compress(HELLO)), 200, HELLO.decode()),
    "bare-deflate": (packed("deflate", BARE.compress(HELLO) + BARE.flush()), 200, HELLO.decode()),
    "br": (packed("br", brotli.compress(HELLO)), 200, HELLO.decode()),
    "twice": (packed("deflate, gzip", gzip.compress(zlib.compress(HELLO))), 200, HELLO.decode()),
    "latin": (lambda v: v.reply(b"\xfc", "200 OK", "Content-Type: text/plain; charset=latin-1"), 200, "ü"),
    "broken-utf8": (lambda v: v.reply(b"a\xff"), 200, "a�"),
    "surplus": (raw(HEAD + b"Content-Length: 2\r\n\r\nokHTTP/1.1 500 Wrong\r\n\r\n"), 200, "ok"),
    "surplus-garbage": (raw(HEAD + b"Content-Length: 2\r\n\r\nok and more"), 200, "ok"),
    "hundred-headers": (lambda v: v.reply(b"x", "200 OK", *[f"X-{i}: {'v' * 500}" for i in range(100)]), 200, "x"),
}  # fmt: skip


@pytest.fixture(scope="module")
def replies() -> Any:
    """All of them asked by one user, one after the other, with its kept-alive connections."""
    with RawServer({f"/{name}": script for name, (script, _, _) in REPLIES.items()}) as server:
        return call(server, "replies", " ".join(REPLIES)), server


@pytest.mark.parametrize("name", REPLIES)
def test_a_reply_is_read_as_it_was_meant(replies: Any, name: str) -> None:
    (answer, _), _ = replies
    _, status, text = REPLIES[name]
    assert answer[name] == [status, text, None]


def test_every_reply_is_an_event_and_none_is_a_failure(replies: Any) -> None:
    (answer, events), server = replies
    sizes = {name: len(answer[name][1].encode("latin-1" if name == "latin" else "utf-8")) for name in REPLIES}
    sizes["broken-utf8"] = 2
    assert events == [("GET", f"/{name}", None, sizes[name]) for name in REPLIES]
    assert len(server.asked) == len(REPLIES), "nothing was asked twice"


def test_a_connection_is_used_again_unless_it_is_out_of_step(replies: Any) -> None:
    _, server = replies
    connections = [asked.connection for asked in server.asked]
    changes = {a for a, b in zip(REPLIES, list(REPLIES)[1:], strict=False) if _of(server, a) != _of(server, b)}
    assert changes == {"until-close", "old", "surplus", "surplus-garbage"}
    assert connections == sorted(connections)


def _of(server: RawServer, name: str) -> int:
    return server.of(f"/{name}")[0].connection


def test_a_head_that_came_before_means_the_same_and_no_more() -> None:
    """Lengths, closes and bodies that differ are told apart, though the client remembers heads."""
    same = HEAD + b"Content-Length: 2\r\n\r\n"
    scripts = {
        "/one": raw(same + b"ok"),
        "/two": raw(same + b"no"),
        "/late": raw(same, b"ok"),
        "/short": raw(same + b"o", close=True),
        "/long": raw(same + b"ok?"),
        "/other": raw(HEAD + b"Content-Length: 3\r\n\r\nyes"),
        "/closing": raw(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok", close=True),
    }
    with RawServer(scripts) as server:
        answer, _ = call(server, "repeats", "one two late one short long other one closing closing two")
    assert [text for _, text, _ in answer] == ["ok", "no", "ok", "ok", None, "ok", "yes", "ok", "ok", "ok", "no"]
    assert ["closed before" in (error or "") or "Incomplete" in (error or "") for _, _, error in answer].count(
        True
    ) == 1
    assert [asked.connection for asked in server.asked] == [1, 1, 1, 1, 1, 2, 3, 3, 3, 4, 5]


FAILURES: dict[str, tuple[Script, int, str]] = {
    "status-404": (lambda v: v.reply(b"none", "404 Not Found"), 404, "status"),
    "status-503": (lambda v: v.reply(b"", "503 Busy"), 503, "status"),
    "reset": (Visit.reset, 0, "reset"),
    "close": (Visit.close, 0, "reset"),
    "reset-in-body": (lambda v: (v.say(HEAD + b"Content-Length: 9\r\n\r\nhalf"), v.reset())[1], 0, "reset"),
    "garbage": (raw(b"this is not HTTP\r\n\r\n", close=True), 0, "protocol"),
    "ssh": (raw(b"SSH-2.0-OpenSSH\r\n"), 0, "protocol"),
    "bare-newlines": (raw(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), 0, "protocol"),
    "no-status": (raw(b"HTTP/1.1 000 Nothing\r\nContent-Length: 2\r\n\r\nok"), 0, "protocol"),
    "cut-head": (raw(HEAD + b"Content-Le", close=True), 0, "protocol"),
    "cut-body": (raw(HEAD + b"Content-Length: 9\r\n\r\nhalf", close=True), 0, "protocol"),
    "cut-chunk": (raw(CHUNKED + b"9\r\nhalf", close=True), 0, "protocol"),
    "bad-chunk": (raw(CHUNKED + b"zz\r\nhalf\r\n0\r\n\r\n"), 0, "protocol"),
    "two-lengths": (raw(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"), 0, "protocol"),
    "bad-gzip": (packed("gzip", b"not packed at all"), 0, "protocol"),
    "cut-gzip": (packed("gzip", gzip.compress(HELLO)[:-9]), 0, "protocol"),
    "bad-br": (packed("br", b"not packed at all"), 0, "protocol"),
    "unknown-packing": (packed("zip", b"PK"), 0, "protocol"),
    "hang": (lambda v: v.say(HEAD + b"Content-Length: 9\r\n\r\nhalf", b"", pause_s=3), 0, "timeout"),
    "endless-head": (lambda v: v.say(HEAD, *[b"X: y\r\n"] * 40, pause_s=0.05), 0, "timeout"),
}


@pytest.fixture(scope="module", params=["http", "https"])
def failures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    tls, trust = certificate(tmp_path_factory.mktemp("tls")) if request.param == "https" else (None, "")
    with RawServer({f"/{name}": script for name, (script, _, _) in FAILURES.items()}, tls) as server:
        return call(server, "failures", " ".join(FAILURES), SSL_CERT_FILE=str(trust)), server


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_told_by_its_kind(failures: Any, name: str) -> None:
    (answer, events), server = failures
    _, status, kind = FAILURES[name]
    found = answer[name]
    assert found[:3] == [status, kind, False]
    assert (found[3] is None) == (status == 0)
    assert "no JSON" in found
    assert [event[2] for event in events if event[1] == f"/{name}"] == [kind]
    assert len(server.of(f"/{name}")) == 1, "a request that fails is not sent again"


def test_what_is_sent() -> None:
    with RawServer({"/head": lambda v: v.say(HEAD + b"Content-Length: 100\r\n\r\n")}) as server:
        (head, url), events = call(server, "verbs")
    sent = server.of("/a")
    assert [(a.method, a.target, a.body) for a in sent] == [
        ("GET", "/a?q=x+y&n=1&n=2", b""),
        ("POST", "/a", '{"k":[1,null,"ü"]}'.encode()),
        ("PUT", "/a", "text ü".encode()),
        ("PATCH", "/a", b"\x00\xff"),
        ("POST", "/a", b"f=a+b&g=%26"),
        ("DELETE", "/a", b""),
        ("OPTIONS", "/a", b""),
        ("POST", "/a", b""),
        ("GET", "/a?x=%C3%BC%20y", b""),
    ]
    get, post, put, _patch, form, delete, options, empty, _ = (asked.headers for asked in sent)
    assert get["host"] == f"127.0.0.1:{server.port}" and get["x-own"] == "1" and get["user-agent"] == "me"
    assert get["accept-encoding"] == "gzip, deflate, br" and "content-length" not in get
    assert post["content-type"] == post["accept"] == "application/json"
    assert put["content-length"] == "7" and "content-type" not in put
    assert form["content-type"] == "application/x-www-form-urlencoded"
    assert delete["authorization"] == "Basic bWU6c2VjcmV0"
    assert all(a.headers.get("x-default") == "d" for a in sent if a.method != "OPTIONS") and "x-default" not in options
    assert empty["content-length"] == "0"
    assert server.of("/relative")[0].method == "PURGE"
    assert head == [200, "", None]
    assert url == f"{server.url}/a?x=ü y#frag"
    assert [event[1] for event in events][:2] == ["named", "/a"]
    assert {asked.connection for asked in server.asked} == {1}


def test_headers_and_json() -> None:
    def script(visit: Visit) -> None:
        visit.reply(HELLO, "200 OK", "X-One: 1", "X-Empty:", "X-Two: a", "X-Two: b")

    with RawServer({"/headers": script}) as server:
        answer, _ = call(server, "headers")
    assert answer == ["1", "", ["a", "b"], True, {"hello": "you"}]


def test_what_fails_on_a_kept_connection_is_a_failure_too() -> None:
    """No second try hides it: the server has seen the request."""
    ways: dict[str, Script] = {"/reset": Visit.reset, "/close": Visit.close, "/garbage": raw(b"no", close=True)}
    with RawServer(ways) as server:
        answer, _ = call(server, "kept", "reset close garbage")
    assert answer == [["reset", 0, "reset"], ["close", 0, "reset"], ["garbage", 0, "protocol"]]
    assert all(len(server.of(path)) == 1 for path in ways)


def test_a_connection_that_the_server_closed_while_idle_is_not_used() -> None:
    with RawServer({"/fine": lambda v: (v.reply(), v.close())[1]}) as server:
        answer, events = call(server, "kept", "later")
    assert answer == [["later", 200, None]]
    assert [event[2] for event in events] == [None, None]
    assert [asked.connection for asked in server.asked] == [1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what the other machine has acknowledged")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_request_that_met_a_closed_connection_is_sent_once_more(tmp_path: Path, scheme: str) -> None:
    tls, trust = certificate(tmp_path) if scheme == "https" else (None, "")
    with RawServer({"/then-close": lambda v: (v.reply(), v.close())[1]}, tls) as server:
        answer, events = call(server, "race", SSL_CERT_FILE=str(trust))
    assert answer == [200, "{}", None]
    assert [event[1:3] for event in events] == [("/then-close", None), ("/fine", None)]
    assert [asked.target for asked in server.asked] == ["/then-close", "/fine"]


def test_timeouts_are_total_and_the_shortest_comes_first() -> None:
    def drip(visit: Visit) -> None:
        visit.say(HEAD + b"Content-Length: 1000\r\n\r\n", *[b"x"] * 60, pause_s=0.05)

    with RawServer({"/hang": lambda v: v.say(b"", b"", pause_s=3), "/drip": drip}) as server:
        answer, _ = call(server, "timeouts")
    hang, drips, again, together, after = answer
    for (told, kind, took), limit in ((hang, 0.3), (drips, 0.4), (again, 0.2)):
        assert (told[0], told[1], kind) == (0, None, "timeout") and f"within {limit} s" in told[2]
        assert limit <= took < limit + 1
    assert together[0] == ["timeout"] * 3 and 0.6 <= together[1] < 1.6
    assert after[0] == [200, "{}", None]


def test_an_abandoned_request_gives_its_port_back_at_once() -> None:
    """The server, which hangs, sees a reset. Closed in order, the connection would wait for it for a minute."""
    seen: list[str] = []

    def hang(visit: Visit) -> None:
        visit.sock.settimeout(20)
        try:
            seen.append(repr(visit.sock.recv(1)))
        except ConnectionResetError:
            seen.append("reset")
        visit.closed = True

    with RawServer({"/hang": hang}) as server:
        answer, _ = call(server, "abandoned")
        end = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < end:
            time.sleep(0.02)
    assert answer == ["timeout", [200, "{}", None]]
    assert seen == ["reset", "reset"]


def test_a_user_that_is_stopped_leaves_nothing_half_read() -> None:
    with RawServer({"/hang": lambda v: v.say(b"", HEAD + b"Content-Length: 5\r\n\r\nwrong", pause_s=0.5)}) as server:
        answer, events = call(server, "killed")
    assert answer == [200, "{}", None]
    assert [event[1] for event in events] == ["/fine"]


def test_bodies_of_any_size() -> None:
    def too_big(visit: Visit) -> None:
        visit.reply(b"no", "413 Too Big")

    with RawServer({"/echo": lambda v: v.reply(v.asked.body), "/too-big": too_big}) as server:
        answer, events = call(server, "big")
    assert answer[0] == 6_000_000
    assert answer[1][:2] == [413, "no"] and answer[2][0] == 200
    assert [event[2] for event in events] == [None, "status", None]


def test_redirects_are_followed_on_request_and_never_to_a_stranger() -> None:
    def to(where: str, status: str = "302 Found") -> Script:
        return lambda v: v.reply(b"", status, f"Location: {where}")

    with RawServer() as server:
        server.scripts |= {
            "/to-fine": to("/fine?a=b"),
            "/keeps": to("/kept", "307 Temporary"),
            "/see-other": to("fine", "303 See Other"),
            "/loop": to("/loop"),
            "/away": to("http://example.invalid/x"),
            "/alias": to(f"http://localhost:{server.port}/there"),
        }
        answer, _ = call(server, "redirects", "to-fine keeps see-other loop away alias")
    assert answer["not followed"] == [302, True, "/fine?a=b"]
    assert answer["to-fine"] == [200, None, 1, f"{server.url}/fine?a=b"]
    assert answer["keeps"][:3] == answer["see-other"][:3] == answer["alias"][:3] == [200, None, 1]
    assert answer["loop"][:3] == [302, "protocol", 30]
    assert answer["away"][:3] == [302, "protocol", 0]
    kept, fine, there = server.of("/kept")[0], server.of("/fine")[0], server.of("/there")[0]
    assert (kept.method, kept.body) == ("POST", b"x") and (fine.method, fine.body) == ("GET", b"")
    assert "content-length" not in fine.headers
    assert fine.headers["authorization"] == "a" and "authorization" not in there.headers


def test_cookies_are_kept_by_user_and_path() -> None:
    def log_in(visit: Visit) -> None:
        visit.reply(b"{}", "200 OK", "Set-Cookie: id=7; Path=/; HttpOnly", "Set-Cookie: only=there; Path=/other")

    def log_out(visit: Visit) -> None:
        visit.reply(b"{}", "200 OK", "Set-Cookie: id=; Max-Age=0; Path=/")

    with RawServer({"/log-in": log_in, "/log-out": log_out}) as server:
        call(server, "cookies")
    sent = {asked.target: asked.headers.get("cookie") for asked in server.asked}
    assert sent["/before"] is sent["/log-in"] is sent["/end"] is None
    assert sent["/after"] == sent["/log-out"] == "id=7"
    assert sorted(str(sent["/other"]).split("; ")) == ["id=7", "only=there"]


def test_catch_response_decides() -> None:
    with RawServer({"/status": lambda v: v.reply(b"", "500 Wrong")}) as server:
        answer, events = call(server, "catching")
    assert answer == ["raised", "LocustError", "LocustError"]
    assert [(name, kind) for _, name, kind, _ in events] == [
        ("/fine", "check"),
        ("/status", None),
        ("/status", "status"),
        ("by hand", None),
        ("/fine", None),
        ("/fine", None),
        ("grouped", None),
    ]


def test_what_no_request_can_be_made_of_is_raised() -> None:
    with RawServer() as server:
        answer, events = call(server, "refusals")
    assert answer == ["ValueError", "ValueError", "ValueError", "TypeError", "TypeError", "TypeError"]
    assert not server.asked and not events


def test_whatever_a_call_is_given_the_harness_hears_its_end() -> None:
    """It would take the request for open for ever, and its time-out would come upon the user at some other time."""
    with RawServer({"/echo": lambda v: v.reply(v.asked.body + v.asked.headers.get("x-n", "").encode())}) as server:
        answer, _ = call(server, "odd_arguments")
    sent = {name: value for name, value in answer.items() if value not in ("TypeError", "ValueError")}
    assert sent == {
        "pair of timeouts": "", "long": "", "open": "", "auth of numbers": "", "number as header": "1",
        "yes as header": "True",         "list as header": "[1]", "generator": "abc", "file": "file", "no files": "",
        "null": '{"a":null,"b":"null"}', "name": "",
    }  # fmt: skip
    assert answer["stream"] == answer["files"] == answer["misspelt"] == answer["b'/bytes'"] == "TypeError"
    assert answer["no timeout"] == answer["NaN"] == answer["three timeouts"] == "ValueError"


def test_a_redirect_that_leads_nowhere_is_a_failure_of_the_request() -> None:
    """And no exception in the task: the server chose it."""
    where = {"bad-port": "http://127.0.0.1:99999/", "bad-host": "http://[oops/", "other": "ftp://127.0.0.1/x"}

    def to(location: str) -> Script:
        return lambda v: v.reply(b"", "302 Found", f"Location: {location}")

    with RawServer({f"/{name}": to(location) for name, location in where.items()}) as server, RawServer() as onward:
        server.scripts["/next"] = to(f"{onward.url}/landed")
        answer, _ = call(server, "redirected", " ".join([*where, "next"]))
    assert answer == {**{name: [302, "protocol", 0] for name in where}, "next": [200, None, 1]}
    assert server.of("/next")[0].headers["authorization"] == "class"
    assert "authorization" not in onward.asked[0].headers, "another server, though on the same host"


def test_requests_at_once_have_connections_of_their_own() -> None:
    with RawServer({"/slow": lambda v: v.say(b"", HEAD + b"Content-Length: 0\r\n\r\n", pause_s=0.1)}) as server:
        call(server, "parallel")
    assert sorted(asked.connection for asked in server.asked[:5]) == [1, 2, 3, 4, 5]
    assert {asked.connection for asked in server.asked[5:]} == {1, 2, 3, 4, 5}


def test_certificates_are_verified_unless_told_otherwise(tmp_path: Path) -> None:
    tls, trust = certificate(tmp_path)
    with RawServer({"/echo": lambda v: v.reply(v.asked.body)}, tls) as server:
        (distrusted, careless, sizes), events = call(server, "tls", SSL_CERT_FILE="/dev/null")
        assert distrusted[0] == 0 and "certificate" in distrusted[2].lower()
        assert careless[0] == 200 and sizes == [200, 200, 200]
        assert events[0][2] == "protocol"
        (trusted, _, _), _ = call(server, "tls", SSL_CERT_FILE=str(trust))
        assert trusted[0] == 200


def test_tls_where_none_is_spoken_and_the_other_way_round(tmp_path: Path) -> None:
    with RawServer() as plain:
        plain.url = plain.url.replace("http:", "https:")
        answer, _ = call(plain, "failures", "fine")
        assert answer["fine"][1] in ("protocol", "timeout"), "the server waits for the end of a head"
    with RawServer(tls=certificate(tmp_path)[0]) as secure:
        secure.url = secure.url.replace("https:", "http:")
        answer, _ = call(secure, "failures", "fine")
        assert answer["fine"][1] in ("protocol", "reset")
