"""After the load: what the target is found to be when nobody asks much of it, with a real process and a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from harness.conductor import after_load
from harness.conductor.recording.history import History
from harness.model.clock import monotonic
from harness.model.jsonl import read_lines
from harness.model.records import events as ev
from harness.model.records.load import UserClass
from tests.analysis.histories import Scene

LOCUSTFILES = {
    "fast": """
from locust import FastHttpUser, task

class Shop(FastHttpUser):
    def on_start(self):
        self.client.get("/login")

    @task
    def item(self):
        self.client.get("/item")
""",
    "requests": """
from locust import HttpUser, TaskSet, task

class Shop(HttpUser):
    @task
    class Pages(TaskSet):
        @task
        def item(self):
            with self.client.get("/item", catch_response=True) as reply:
                if reply.text != "ok":
                    reply.failure("not what was asked for")
""",
    "noted writes": """
from locust import FastHttpUser, task
from harness.load.acknowledged import Acknowledged

ORDERS = Acknowledged("/orders/{id}")

class Shop(FastHttpUser):
    @task
    def item(self):
        self.client.get("/item")
        ORDERS.note(self, 1)
""",
    "own client": """
import socket
from locust import User, events, task

@events.test_start.add_listener
def remember(environment, **_):
    environment.prepared = True

class Shop(User):
    @task
    def item(self):
        host, port = self.host.removeprefix("http://").split(":")
        with self.environment.events.request.measure("TCP", "item"):
            assert self.environment.prepared
            with socket.create_connection((host, int(port)), 2) as one:
                one.sendall(b"GET /item HTTP/1.0\\r\\n\\r\\n")
                assert b" 200 " in one.recv(1000)
""",
}


class Server:
    """mode: ok, fail, wrong (200 with another text), hang or slow (0.3 s)."""

    def __init__(self) -> None:
        self.mode: Callable[[], str] = lambda: "ok"
        self.asked: list[str] = []
        self.connections = 0
        self.released = threading.Event()
        self.url = ""


@contextmanager
def serving() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            state.connections += 1

        def do_GET(self) -> None:
            mode = state.mode()
            state.asked.append(self.path)
            if mode == "hang":
                state.released.wait(60)
            if mode == "slow":
                time.sleep(0.3)
            body = b"no" if mode == "wrong" else b"ok"
            self.send_response(500 if mode == "fail" else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, *_: object) -> None:
            pass  # who asked may have gone

    with Quiet(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield state
        state.released.set()
        server.shutdown()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        yield state


class Keeper:
    """Counts how often its lease was renewed."""

    def __init__(self) -> None:
        self.renewed: list[float] = []
        self.adopted: list[str] = []

    def renew(self) -> None:
        self.renewed.append(monotonic())

    def adopt(self, name: str, pid: int, start_time: float) -> None:
        self.adopted.append(name)


class Ended:
    """A run whose load has just ended; `ask` does what the conductor does then."""

    def __init__(self, folder: Path, url: str, locustfile: str = "fast", *, recovered: bool = False) -> None:
        (folder / "logs").mkdir()
        path = folder / "locustfile.py"
        path.write_text(LOCUSTFILES[locustfile])
        plan = Scene().plan()
        load = msgspec.structs.replace(
            plan.load, host=url, locustfile=str(path), classes=(UserClass(name="Shop"),), request_timeout_s=1.0
        )
        self.plan = msgspec.structs.replace(plan, load=load)
        self.folder = folder
        self.keeper = Keeper()
        self.signals = SimpleNamespace(count=0, name="SIGINT")
        self.said: list[str] = []
        self.history = History(folder / "history.jsonl", "test", self.said.append)
        self.history.start(monotonic() - 100.0)
        if recovered:
            self.history.add(ev.PhaseStarted, phase="after", start_s=80.0)
        self.history.add(ev.LoadEnded, end_s=100.0)
        self.before: Any = SimpleNamespace(limit_ms=None, failing=0.0)

    def ask(self) -> ev.AfterLoad | None:
        session: Any = SimpleNamespace(run_dir=self.folder, keeper=self.keeper)
        signals: Any = self.signals
        after_load.ask_again(self.plan, session, self.history, self.before, signals, self.said.append)
        return next((e for e in self.history.events if isinstance(e, ev.AfterLoad)), None)


@pytest.mark.parametrize("locustfile", LOCUSTFILES)
def test_a_target_that_is_well_is_asked_a_few_requests_of_the_mix_once(
    tmp_path: Path, server: Server, locustfile: str
) -> None:
    ended = Ended(tmp_path, server.url, locustfile)
    seen = ended.ask()
    assert seen is not None and seen.as_in_baseline, (seen, ended.said, (tmp_path / "logs" / "load.log").read_text())
    assert seen.looks == 1 and 6 <= seen.asked <= 20 and seen.good == seen.answered == seen.asked
    assert set(server.asked) <= {"/item", "/login"} and server.connections >= 6
    assert list(read_lines(tmp_path / "history.jsonl", ev.Event))[-1] == seen
    assert not (tmp_path / "windows.jsonl").exists()
    assert ended.keeper.adopted == ["last-look"] and ended.keeper.renewed and not ended.said


def test_one_that_comes_back_when_the_load_is_gone_is_asked_until_then(tmp_path: Path, server: Server) -> None:
    begun: list[float] = []

    def mode() -> str:
        begun.append(monotonic())
        return "ok" if begun[-1] > begun[0] + 2.0 else "fail"

    server.mode = mode
    ended = Ended(tmp_path, server.url, "requests")
    seen = ended.ask()
    assert seen is not None and seen.as_in_baseline and seen.looks >= 2
    assert seen.seconds >= 2.0, "it was not well before"
    assert any("asking it for" in text for text in ended.said), "whoever waits is told why"


@pytest.mark.parametrize(("mode", "answered"), [("fail", True), ("wrong", True), ("slow", True), ("hang", False)])
def test_one_that_stays_bad_is_asked_for_its_time_and_no_longer(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, mode: str, answered: bool
) -> None:
    monkeypatch.setattr(after_load, "LOOK_FOR_S", 4.0)
    monkeypatch.setattr(after_load, "LEAST_S", 4.0)
    server.mode = lambda: mode
    ended = Ended(tmp_path, server.url, "requests")
    ended.before.limit_ms = 100.0
    seen = ended.ask()
    assert seen is not None and not seen.as_in_baseline and seen.looks >= 2
    assert (seen.answered > 0) is answered and seen.example
    assert seen.seconds >= 3.0
    gaps = [b - a for a, b in zip(ended.keeper.renewed, ended.keeper.renewed[1:], strict=False)]
    assert len(gaps) > 10, "the lease is renewed all the while"


def test_one_that_is_down_gave_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(after_load, "LOOK_FOR_S", 2.0)
    monkeypatch.setattr(after_load, "LEAST_S", 2.0)
    with serving() as server:
        url = server.url
    seen = Ended(tmp_path, url).ask()
    assert seen is not None and not seen.as_in_baseline and seen.answered == 0 and "refused" in seen.example


def test_after_a_recovery_nobody_waits_a_minute(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(after_load, "RECOVERED_LOOK_FOR_S", 2.0)
    monkeypatch.setattr(after_load, "LEAST_S", 2.0)
    server.mode = lambda: "fail"
    seen = Ended(tmp_path, server.url, recovered=True).ask()
    assert seen is not None and not seen.as_in_baseline and seen.seconds < after_load.LOOK_FOR_S / 2


def test_a_failure_now_and_then_is_no_news_where_baseline_had_them(tmp_path: Path, server: Server) -> None:
    turns = iter(range(10**6))
    server.mode = lambda: "fail" if next(turns) == 1 else "ok"
    ended = Ended(tmp_path, server.url, "requests")
    ended.before.failing = 0.05
    seen = ended.ask()
    assert seen is not None and seen.as_in_baseline and seen.looks == 1 and seen.good < seen.asked


def test_ctrl_c_ends_it_at_once_and_what_was_seen_stays(tmp_path: Path, server: Server) -> None:
    server.mode = lambda: "fail"
    ended = Ended(tmp_path, server.url)

    def interrupt(text: str) -> None:
        ended.said.append(text)
        ended.signals.count = 1

    ended.said = []
    session: Any = SimpleNamespace(run_dir=ended.folder, keeper=ended.keeper)
    begun = monotonic()
    signals: Any = ended.signals
    after_load.ask_again(ended.plan, session, ended.history, ended.before, signals, interrupt)
    assert monotonic() - begun < after_load.LOOK_FOR_S / 2
    seen = next(e for e in ended.history.events if isinstance(e, ev.AfterLoad))
    assert seen.looks == 1 and not seen.as_in_baseline


@pytest.mark.parametrize("why", ["interrupted", "aborted", "lost load", "no end"])
def test_a_run_that_ended_early_asks_nobody(tmp_path: Path, server: Server, why: str) -> None:
    ended = Ended(tmp_path, server.url)
    match why:
        case "interrupted":
            ended.signals.count = 1
        case "aborted":
            ended.history.add(ev.Stopped, why="abort", text="")
        case "lost load":
            ended.history.add(ev.LoadLost, reason="gone")
        case _:
            ended.history.events = [e for e in ended.history.events if not isinstance(e, ev.LoadEnded)]
    assert ended.ask() is None and not server.asked and not ended.keeper.adopted
