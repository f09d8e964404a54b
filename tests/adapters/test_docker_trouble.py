"""An engine that is absent, denied, too old, silent or broken: one clear line each, and what was done is not guessed.

A real engine cannot be made to be ten years old or to stop in the middle of an answer; there a few lines of HTTP on a
socket stand in for it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import parse_headers
from pathlib import Path

import pytest

from harness.adapters.docker.engine import Engine, connect, full_id
from harness.adapters.docker.errors import Conflict, EngineAbsent, EngineTooOld
from harness.model.errors import Gone, OutcomeUnknown, Refused, Rejected, Unreachable

ID = "a" * 64
VERSION = b'{"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}'
CONTAINER = b'{"Id": "%s", "Name": "/one", "State": {"Status": "running", "Running": true}}' % ID.encode()


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@contextmanager
def stand_in(folder: Path, answer: Callable[[str], bytes | None]) -> Iterator[str]:
    """answer: request line -> the whole answer; None = never. b"" = hang up."""
    path = str(folder / "engine.sock")
    held: list[socket.socket] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection.makefile("rb") as read:  # with its body: closed on what is unread, a socket says "reset"
                words = read.readline()
                length = int(parse_headers(read).get("Content-Length", 0)) if words else 0
                read.read(length)
            if not words:
                connection.close()
                continue
            said = answer(words.decode().rstrip())
            if said is None:
                held.append(connection)
                continue
            connection.sendall(said)
            connection.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(20)
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            for connection in held:
                connection.close()


def usual(request: str) -> bytes | None:
    if " /version" in request:
        return http(VERSION)
    return http(CONTAINER) if request.startswith("GET") else http(b"", "204 No Content")


def test_no_engine_is_said_with_the_socket_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineAbsent, match=f"{tmp_path}/docker.sock: there is no such socket") as absent:
        connect(f"unix://{tmp_path}/docker.sock")
    assert "start it" in str(absent.value.hint)
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
    with pytest.raises(EngineAbsent, match="nobody listens there"):
        connect(f"unix://{left}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EngineAbsent, match="nobody listens there"):
        connect(f"tcp://127.0.0.1:{port}")


def test_no_permission_is_said_with_the_group(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    code = (
        "import os, sys\n"
        "from harness.adapters.docker.engine import connect, preload\n"
        "from harness.adapters.docker.errors import EngineDenied\n"
        "preload()\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "try: connect(sys.argv[1])\n"
        "except EngineDenied as error: print(error, '|', error.hint)\n"
    )
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o600 if os.geteuid() == 0 else 0)
        done = subprocess.run(
            [sys.executable, "-c", code, f"unix://{path}"], capture_output=True, text=True, timeout=60, check=False
        )
    assert "permission denied on its socket" in done.stdout, done.stderr
    assert "usermod -aG" in done.stdout


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (b'{"Version": "19.03.1", "ApiVersion": "1.40"}', "19.03.1 .* speaks API 1.40; 1.41 is needed"),
        (b'{"Version": "99.0", "ApiVersion": "9.99", "MinAPIVersion": "9.0"}', "speaks no API below 9.0"),
        (b"{}", "is needed"),
    ],
)
def test_an_engine_of_another_age_is_refused(tmp_path: Path, version: bytes, words: str) -> None:
    with stand_in(tmp_path, lambda _: http(version)) as url, pytest.raises(EngineTooOld, match=words):
        connect(url)


def test_a_newer_engine_is_spoken_to_in_a_version_that_both_know(tmp_path: Path) -> None:
    asked: list[str] = []

    def newer(request: str) -> bytes | None:
        asked.append(request)
        if " /version" in request:
            return http(b'{"Version": "31.0", "ApiVersion": "1.99", "MinAPIVersion": "1.44"}')
        return http(CONTAINER)

    with stand_in(tmp_path, newer) as url, connect(url) as engine:
        engine.container(ID)
    assert "/v1.51/" in asked[-1]


def test_what_is_no_engine_is_told(tmp_path: Path) -> None:
    with (
        stand_in(tmp_path, lambda _: http(b"<html>hello</html>")) as url,
        pytest.raises(Rejected, match="does not answer as a Docker engine does"),
    ):
        connect(url)


def test_a_read_without_an_answer_is_unreachable_and_a_write_is_unknown(tmp_path: Path) -> None:
    stopped = False

    def answer(request: str) -> bytes | None:
        return None if stopped and not request.startswith("GET /v1.41/containers") else usual(request)

    with stand_in(tmp_path, answer) as url, Engine(url, timeout_s=0.3) as engine:
        stopped = True
        with pytest.raises(Unreachable, match=r"did not answer within 0\.3 s"):
            engine.info()


@pytest.mark.parametrize("answer", [b"", http(b'{"message": "starting up"}', "503 Service Unavailable")])
def test_a_write_whose_answer_is_cut_off_may_have_been_done(tmp_path: Path, answer: bytes) -> None:
    def cut(request: str) -> bytes | None:
        return answer if request.startswith("POST") else usual(request)

    with stand_in(tmp_path, cut) as url, connect(url) as engine, pytest.raises(OutcomeUnknown):
        engine.pause(ID)


@pytest.mark.parametrize(
    ("status", "kind"), [("404 Not Found", Gone), ("409 Conflict", Conflict), ("500 Internal Server Error", Rejected)]
)
def test_what_the_engine_says_is_told_in_its_words(tmp_path: Path, status: str, kind: type[Exception]) -> None:
    def no(request: str) -> bytes | None:
        return http(b'{"message": "it will not"}', status) if request.startswith("POST") else usual(request)

    with stand_in(tmp_path, no) as url, connect(url) as engine, pytest.raises(kind, match="it will not"):
        engine.pause(ID)


def test_a_container_that_only_has_that_text_for_a_name_is_not_touched(tmp_path: Path) -> None:
    written: list[str] = []

    def other(request: str) -> bytes | None:
        if request.startswith("POST"):
            written.append(request)
        return http(CONTAINER.replace(b"a" * 64, b"b" * 64)) if "containers" in request else usual(request)

    with stand_in(tmp_path, other) as url, connect(url) as engine, pytest.raises(Gone):
        engine.kill(ID)
    assert not written


@pytest.mark.parametrize("text", ["a" * 63, "a" * 12, "A" * 64, "redis", "", None, "a" * 64 + "/../x"])
def test_only_full_ids_are_taken(text: object) -> None:
    with pytest.raises(Refused, match="full ID"):
        full_id(text)


@pytest.mark.parametrize("running", [False, True])
def test_a_program_in_a_container_is_told_by_its_exit_code_and_both_streams(tmp_path: Path, running: bool) -> None:
    def frame(stream: int, text: bytes) -> bytes:
        return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text

    order = "e" * 64
    stream = frame(2, b"a warning\n") + frame(1, b'{"a"') + frame(1, b": 1}")

    def answer(request: str) -> bytes | None:
        if f"/containers/{ID}/exec " in request:
            return http(b'{"Id": "%s"}' % order.encode(), "201 Created")
        if f"/exec/{order}/start " in request:  # as long as the program has something to say
            return b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n" + stream
        if f"/exec/{order}/json " in request:
            return http(b'{"Running": true}' if running else b'{"Running": false, "ExitCode": 3}')
        return usual(request)

    with stand_in(tmp_path, answer) as url, connect(url) as engine:
        if running:
            with pytest.raises(OutcomeUnknown, match="has not ended"):
                engine.run(ID, ("rabbitmqctl", "status"), limit_s=5.0)
        else:
            ran = engine.run(ID, ("rabbitmqctl", "status"), limit_s=5.0)
            assert (ran.exit_code, ran.out, ran.err) == (3, b'{"a": 1}', b"a warning\n")
