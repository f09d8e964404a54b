"""What was tried against a console and got through, once."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.console import link
from harness.console.app import _event
from harness.console.doors import hashed
from harness.console.invitations import SOCKET, Wanted, _connected
from harness.console.protocol import Seat, Seats
from harness.gameday.board import LAST_ACTIONS
from harness.gameday.commands import Command
from harness.model.jsonl import encode_line
from tests.console.seats import Browser, Day, day
from tests.e2e.observe import wait_until


@pytest.fixture
def open_day(tmp_path: Path) -> Iterator[Day]:
    with day(tmp_path) as found:
        yield found


def operator(found: Day) -> Browser:
    browser = Browser(found.console.port)
    assert browser.enter(found.link()) == 303
    return browser


def sends(port: int, text: str) -> socket.socket:
    other = socket.create_connection(("127.0.0.1", port), timeout=10)
    other.sendall(text.encode())
    return other


def log(found: Day) -> str:
    return (found.desk.folder / "logs" / "console.log").read_text()


def test_made_up_cookies_do_not_use_up_the_rates_of_those_who_come_later(open_day: Day) -> None:
    port = open_day.console.port
    for number in range(1_010):
        cookie = f"console_{port}=made-up-{number}"
        with sends(
            port, f"GET /nix HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n"
        ) as it:
            it.recv(100)
    time.sleep(0.5)
    own = operator(open_day)
    # All at once: on a busy machine one after the other would be slow enough to be let in.
    asked = [
        sends(port, f"GET /nix HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n") for _ in range(150)
    ]
    try:
        assert any(b" 429 " in other.recv(100) for other in asked)
    finally:
        for other in asked:
            other.close()
    assert own.do("abort")[0] == 200


def test_strangers_who_say_nothing_keep_nobody_out(open_day: Day) -> None:
    own, port = operator(open_day), open_day.console.port
    others = [sends(port, "GET / HT") for _ in range(450)]
    try:
        assert own.do("abort")[0] == 200
        # Nobody had to leave for it.
        others[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            others[-1].recv(10)
        others[-1].settimeout(60)
        try:
            assert others[-1].recv(10) == b""
        except ConnectionResetError:
            pass
    finally:
        for other in others:
            other.close()


def test_too_many_fields_and_half_a_body_are_no_error_in_the_log(open_day: Day) -> None:
    own, port = operator(open_day), open_day.console.port
    assert json.loads(own.ask("POST", "/do/note", {f"f{n}": "x" for n in range(50)})[1])["why_not"]
    assert json.loads(own.ask("POST", "/invite", {f"f{n}": "x" for n in range(50)})[1])["why_not"]
    head = f"POST /do/note HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: {own.origin}\r\nCookie: {own.cookie}\r\n"
    sends(port, f"{head}Content-Length: 100\r\n\r\ntext=a").close()
    time.sleep(0.5)
    assert own.do("note", text="x")[0] == 200
    assert "Traceback" not in log(open_day)


def test_what_guests_write_does_not_make_a_board_too_large_for_its_pipe(open_day: Day) -> None:
    own, pid = operator(open_day), open_day.console.pid
    assert json.loads(own.ask("POST", "/do/action", {"text": "x", "owner": "o" * 7_000})[1])["why_not"]
    fields = {"fault": "redis-latency", "param-latency": "1" * 7_000}
    assert json.loads(own.ask("POST", "/do/inject", fields)[1])["why_not"]
    for _ in range(300):
        open_day.desk.do("Bo", "responder", Command(kind="action", text="x" * 400))
    board = open_day.desk.board(hidden=True)
    assert len(board.actions) == LAST_ACTIONS and len(encode_line(board)) < 100_000
    for _ in range(LAST_ACTIONS):
        open_day.desk.do("Bo", "responder", Command(kind="action", text="x" * 200_000))
    time.sleep(2)
    assert open_day.console.pid == pid and own.do("abort")[0] == 200


def test_garbage_at_its_socket_does_not_end_the_invitations(open_day: Day) -> None:
    folder = open_day.desk.folder / "private"
    for text in (b'{"name":"\xff","role":"observer"}', b"{", b"\0" * 1_000):
        other = _connected(folder)
        assert other is not None and (folder / SOCKET).exists()
        with other:
            other.sendall(text)
            assert other.recv(100) == b""
    other = _connected(folder)
    assert other is not None
    with other:
        other.sendall(encode_line(Wanted(name="Bo", role="responder")))
        assert b"/enter/" in other.recv(1_000)


def test_nobody_takes_the_operator_s_seat_away(open_day: Day) -> None:
    own = operator(open_day)
    assert json.loads(own.ask("POST", "/invite", {"name": "Ada", "role": "observer", "revoke": "1"})[1])["why_not"]
    time.sleep(0.5)
    assert own.do("abort")[0] == 200


def test_a_seat_of_a_long_name_is_taken_away_by_that_name(open_day: Day) -> None:
    doors = open_day.console.doors
    doors.invite("x" * 90, "observer")
    assert doors.revoke("x" * 90)


def test_one_guest_does_not_take_all_streams(open_day: Day) -> None:
    doors, port = open_day.console.doors, open_day.console.port
    own = operator(open_day)
    ask = f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {own.cookie}\r\n\r\n"
    others = []
    try:
        codes = []
        for _ in range(12):
            others.append(sends(port, ask))
            codes.append(others[-1].recv(12))
        assert codes[0].endswith(b"200") and codes[-1].endswith(b"503")
        second, cookie = Browser(port, cookie=f"console_{port}={'e' * 43}"), hashed("e" * 43)
        doors._seats[cookie] = Seat(cookie=cookie, name="Eve", role="operator")  # as if there were two
        open_day.console._tell(Seats(seats=doors.seats))
        assert wait_until(lambda: second.ask("GET", "/")[0] == 200, 5)
        others.append(sends(port, ask.replace(own.cookie, second.cookie)))
        assert others[-1].recv(12).endswith(b"200")
    finally:
        for other in others:
            other.close()


def test_a_console_that_dies_too_often_is_given_up_and_the_day_goes_on_in_the_terminal(
    open_day: Day, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once is not too often."""
    monkeypatch.setattr(link, "MOST_DEATHS", 1)
    ours, theirs = os.pipe()
    with os.fdopen(ours) as read, os.fdopen(theirs, "w") as typed:
        monkeypatch.setattr("sys.stdin", read)
        before = open_day.console.pid
        os.kill(before, signal.SIGKILL)
        assert wait_until(lambda: any("was started again" in line for line in open_day.said), 20)
        assert not any("is not started again" in line for line in open_day.said)
        os.kill(open_day.console.pid, signal.SIGKILL)
        assert wait_until(lambda: any("is not started again" in line for line in open_day.said), 20)
        given_up = open_day.said[-1]
        assert "has died 2 times" in given_up and "go on by typing here" in given_up and "Ctrl-C" in given_up
        assert "logs/console.log" in given_up and (open_day.desk.folder / "logs" / "console.log").exists()
        print("abort\nnote by hand", file=typed, flush=True)
        assert wait_until(lambda: open_day.said[-2:] == ["abort: done", "note: done"], 10), open_day.said
        assert open_day.taken == ["abort"] and not open_day.desk.ended
        typed.close()
        # Nobody can say anything any more.
        assert wait_until(lambda: open_day.desk.ended, 10)


def test_a_console_that_hangs_is_replaced(open_day: Day, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "STUCK_S", 1.0)
    before = open_day.console.pid
    os.kill(before, signal.SIGSTOP)
    assert wait_until(lambda: any("was started again" in line for line in open_day.said), 40)
    assert open_day.console.pid != before


def test_a_console_that_hangs_does_not_hold_up_the_end(open_day: Day) -> None:
    os.kill(open_day.console.pid, signal.SIGSTOP)
    time.sleep(4)
    for number in range(60):
        open_day.desk.do("Bo", "responder", Command(kind="note", text=f"{number} " + "x" * 480))
    time.sleep(4)
    ending = threading.Thread(target=open_day.console.close, daemon=True)
    ending.start()
    ending.join(12)
    assert not ending.is_alive()


def test_guests_find_a_new_console_on_the_port_of_the_old_one(open_day: Day) -> None:
    before = open_day.console.guests_port
    os.kill(open_day.console.pid, signal.SIGKILL)
    assert wait_until(lambda: any("was started again" in line for line in open_day.said), 20)
    assert open_day.console.guests_port == before


def test_a_number_that_is_too_long_ticks_nothing(open_day: Day) -> None:
    own = operator(open_day)
    assert json.loads(own.do("tick", what="00011")[1])["why_not"]
    assert own.do("tick", what="1") == (200, '{"why_not":""}')


def test_a_carriage_return_begins_no_line_of_a_stream() -> None:
    assert _event("clock", "a\r\rdata: x\nb") == b"event: clock\ndata: a  data: x\ndata: b\n\n"
