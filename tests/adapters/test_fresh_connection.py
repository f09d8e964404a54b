"""One request on a connection of its own: any answer is one, silence and refusal are none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from harness.adapters.wire.new_connection_probe import FreshConnection


@contextmanager
def answering(answer: Callable[[socket.socket, bytes], None]) -> Iterator[tuple[int, list[bytes]]]:
    """A server that gives each connection to `answer`, with what it was asked; its port, and all that was asked."""
    asked: list[bytes] = []

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                asked.append(connection.recv(65536))
                answer(connection, asked[-1])

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "503 Service Unavailable"])
def test_whatever_the_answer_says_somebody_new_was_served(status: str) -> None:
    with answering(lambda to, _: to.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())) as (
        port,
        asked,
    ):
        probe = FreshConnection(f"http://127.0.0.1:{port}/health")
        assert probe.ask(5.0) and probe.ask(5.0)
    assert len(asked) == 2, "each on a connection of its own"
    head = asked[0].decode().splitlines()
    assert head[0] == "GET /health HTTP/1.1" and f"Host: 127.0.0.1:{port}" in head and "Connection: close" in head


def test_the_name_is_kept_for_the_server_and_the_checked_address_is_where_it_goes() -> None:
    with answering(lambda to, _: to.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as (port, asked):
        assert FreshConnection(f"http://shop.invalid:{port}/", ("127.0.0.1",)).ask(5.0)
    assert f"Host: shop.invalid:{port}".encode() in asked[0]


def test_refusal_silence_and_what_is_no_http_are_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        begun = time.monotonic()
        assert not FreshConnection(f"http://127.0.0.1:{port}/").ask(0.3)
        assert time.monotonic() - begun >= 0.25
    assert not FreshConnection(f"http://127.0.0.1:{port}/").ask(0.3), "nobody listens there any more"
    with answering(lambda to, _: to.sendall(b"-ERR unknown\r\n")) as (port, _):
        assert not FreshConnection(f"http://127.0.0.1:{port}/").ask(5.0)


def test_an_answer_that_drips_does_not_hold_its_caller() -> None:
    def drip(to: socket.socket, _: bytes) -> None:
        to.sendall(b"HTTP/1.1 200 OK\r\n")
        try:
            while True:
                to.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            pass

    with answering(drip) as (port, _):
        begun = time.monotonic()
        assert FreshConnection(f"http://127.0.0.1:{port}/").ask(0.5)
        assert time.monotonic() - begun < 30
