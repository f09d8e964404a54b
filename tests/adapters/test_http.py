"""The control-side GET: a total time-out, its own origin only, and an error that says what is known."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from harness.adapters.toxiproxy.client import Toxiproxy
from harness.adapters.wire.exchange import Exchange, ProbeError
from harness.adapters.wire.http import MAX_BODY, Client, get
from harness.model.errors import OutcomeUnknown, Rejected, Unreachable
from harness.model.records.faults import Address

LIMIT_S = 0.5
PATIENCE_S = 15.0
"""Far above LIMIT_S: a test that needs it has found a call that waits for its server."""


@contextmanager
def serving(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on loopback that calls `answer` with each connection whose request head has arrived."""
    stop = threading.Event()
    threads: list[threading.Thread] = []

    def one(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(PATIENCE_S)
            try:
                while True:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        part = connection.recv(65536)
                        if not part:
                            return
                        head += part
                    answer(connection)
            except OSError:
                pass  # the client gave up

    def accept(server: socket.socket) -> None:
        server.settimeout(0.05)
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=accept, args=(server,), daemon=True)
        accepting.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        stop.set()
        accepting.join()


def page(status: str, body: bytes = b"", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def drip(data: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    return answer


def test_any_status_is_an_answer_and_a_connection_is_used_again() -> None:
    seen: list[int] = []

    def answer(connection: socket.socket) -> None:
        seen.append(connection.getpeername()[1])
        connection.sendall(page("503 Busy", b"later"))

    with serving(answer) as url, Client() as client:
        for _ in range(3):
            reply = client.get(f"{url}/health", PATIENCE_S)
            assert (reply.status, reply.text) == (503, "later")
    assert len(set(seen)) == 1


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    with serving(lambda connection: connection.sendall(page("200 OK", b"direct"))) as url:
        assert get(url, PATIENCE_S).body == b"direct"


def test_a_redirect_within_the_origin_is_followed() -> None:
    def answer(connection: socket.socket) -> None:
        replies.pop(0)(connection)

    replies = [
        lambda connection: connection.sendall(page("302 Found", headers="Location: /there\r\n")),
        lambda connection: connection.sendall(page("200 OK", b"there")),
    ]
    with serving(answer) as url:
        assert get(f"{url}/here", PATIENCE_S).body == b"there"


@pytest.mark.parametrize(
    "location", ["http://localhost:1/x", "https://127.0.0.1/", "//example.com/x", "http://127.0.0.1:1/"]
)
def test_a_redirect_that_leaves_is_refused(location: str) -> None:
    reply = page("302 Found", headers=f"Location: {location}\r\n")
    with serving(lambda connection: connection.sendall(reply)) as url, pytest.raises(Rejected, match="another host"):
        get(url, PATIENCE_S)


@pytest.mark.parametrize("location", ["http://127.0.0.1:99999/", "http://[::1/"])
def test_a_redirect_that_is_no_url_is_refused(location: str) -> None:
    reply = page("302 Found", headers=f"Location: {location}\r\n")
    with serving(lambda connection: connection.sendall(reply)) as url, pytest.raises(Rejected, match="URL"):
        get(url, PATIENCE_S)


def test_a_redirect_loop_ends() -> None:
    reply = page("302 Found", headers="Location: /again\r\n")
    with serving(lambda connection: connection.sendall(reply)) as url, pytest.raises(Rejected, match="more than"):
        get(url, PATIENCE_S)


def test_nobody_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Unreachable, match="refused"):
        get(f"http://127.0.0.1:{port}/", PATIENCE_S)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda connection: time.sleep(3), id="silence"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n" + b"X-Header: y\r\n" * 100), id="dripping head"),
        pytest.param(drip(page("200 OK", b"x" * 500)), id="dripping body"),
        pytest.param(lambda connection: connection.sendall(page("200 OK", b"x" * 9)[:-5]), id="body cut short"),
    ],
)
def test_the_time_out_is_the_total(answer: Callable[[socket.socket], None]) -> None:
    """Dripping servers never time out a single read: the whole call must end, and soon."""
    with serving(answer) as url, Client() as client:
        begun = time.monotonic()
        with pytest.raises(OutcomeUnknown, match="no whole answer"):
            client.get(url, LIMIT_S)
        assert time.monotonic() - begun < PATIENCE_S


def test_a_client_goes_on_after_a_time_out() -> None:
    """The connection that timed out is not used again: its late answer belongs to nobody."""
    replies: list[Callable[[socket.socket], None]] = [
        lambda connection: (time.sleep(2), connection.sendall(page("200 OK", b"late")))[1],
        lambda connection: connection.sendall(page("200 OK", b"second")),
    ]
    with serving(lambda connection: replies.pop(0)(connection)) as url, Client() as client:
        with pytest.raises(OutcomeUnknown):
            client.get(url, LIMIT_S)
        assert client.get(url, PATIENCE_S).body == b"second"


def test_a_connection_broken_off_leaves_the_outcome_unknown() -> None:
    with (
        serving(lambda connection: connection.shutdown(socket.SHUT_RDWR)) as url,
        pytest.raises(OutcomeUnknown, match="broke off"),
    ):
        get(url, PATIENCE_S)


def test_an_endless_body_is_refused() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with serving(answer) as url, pytest.raises(Rejected, match=f"{MAX_BODY // 2**20} MB"):
        get(url, PATIENCE_S)


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "127.0.0.1:80", "http://", "http://127.0.0.1:99999/", "http://[::1"]
)
def test_what_is_no_url_is_rejected(url: str) -> None:
    with pytest.raises(Rejected):
        get(url, LIMIT_S)


@cache
def packed() -> bytes:
    """Some 300 kB, which take a second to pack."""
    return gzip.compress(bytes(300_000_000))


def bomb(connection: socket.socket) -> None:
    connection.sendall(page("200 OK", packed(), "Content-Encoding: gzip\r\nContent-Type: application/json\r\n"))


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"1\r\n \r\n")
        time.sleep(0.01)


def test_a_small_answer_that_unpacks_without_end_fills_no_memory() -> None:
    packed()
    with serving(bomb) as url:
        tracemalloc.start()
        try:
            with pytest.raises(Rejected, match="more than 16 MB"):
                get(url, PATIENCE_S)
            with pytest.raises(Unreachable, match="more than 16 MB"):
                Toxiproxy(url, timeout_s=PATIENCE_S).proxies()
            assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BODY
        finally:
            tracemalloc.stop()


def test_chunks_without_end_end_by_a_time_out() -> None:
    with serving(endless) as url:
        began = time.monotonic()
        with pytest.raises(OutcomeUnknown):
            get(url, LIMIT_S)
        with pytest.raises(Unreachable):
            Toxiproxy(url, timeout_s=LIMIT_S).proxies()
        with pytest.raises(OutcomeUnknown):
            Toxiproxy(url, timeout_s=LIMIT_S).set_enabled("redis", False)
        assert time.monotonic() - began < PATIENCE_S


def test_an_answer_that_announces_more_than_anybody_keeps_is_not_waited_for() -> None:
    with serving(lambda connection: connection.sendall(page("200 OK"))) as url:
        host, _, port = url.removeprefix("http://").partition(":")
        with Exchange(Address(host, int(port)), deadline=time.monotonic() + PATIENCE_S) as exchange:
            for size in (2**31 - 1, -5):
                with pytest.raises(ProbeError, match="was announced"):
                    exchange.exactly(size)
