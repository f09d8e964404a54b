"""Writes that a locustfile notes: sampled and bounded, recorded by every worker, read back, and told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from load_run import Run, make_plan

from harness.load.ipc.protocol import ReadBackBegun, ReadBackDone, ReadBackStart
from harness.load.writes.acknowledged import Acknowledged, Notes
from harness.model.clock import monotonic
from harness.model.jsonl import read_lines
from harness.model.records.acknowledged import Answers, Noted

LOCUSTFILE = """
from locust import FastHttpUser, constant, task
from harness.load.acknowledged import Acknowledged

ORDERS = Acknowledged("/orders/{id}", within_s=1.5)
PAYMENTS = Acknowledged(lambda client, id: client.get(f"/payments?order={id}").json()["found"], name="payment")

class Shop(FastHttpUser):
    wait_time = constant(0.1)

    @task
    def order(self):
        with self.client.post("/orders", json={}, catch_response=True) as reply:
            if reply.status_code == 201:
                made = reply.json()["id"]
                ORDERS.note(self, made)
                ORDERS.note(self, made)
                PAYMENTS.note(self, made)
"""


class Shop:
    """Orders have the numbers 0, 1, 2, ...; what is said of one later is the test's business."""

    def __init__(self, later: Callable[[int, int], int]) -> None:
        """later: (number, how often it was asked for before) -> status."""
        self.later = later
        self.made = 0
        self.asked: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.url = ""


@contextmanager
def shop(later: Callable[[int, int], int]) -> Iterator[Shop]:
    state = Shop(later)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            with state.lock:
                number, state.made = state.made, state.made + 1
            self.answer(201, {"id": number})

        def do_GET(self) -> None:
            number = int("".join(filter(str.isdigit, self.path)))
            with state.lock:
                before = state.asked[self.path]
                state.asked[self.path] += 1
            if self.path.startswith("/payments"):
                self.answer(200, {"found": True})
            else:
                self.answer(state.later(number, before), {})

        def answer(self, status: int, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that left before its answer is no news."""

    with Server(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def locustfile(tmp_path: Path) -> Path:
    path = tmp_path / "locustfile.py"
    path.write_text(LOCUSTFILE)
    return path


def ask(locustfile: Path, url: str, asks: list[tuple[str, str]]) -> Answers:
    start = ReadBackStart(host=url, addresses=(), locustfile=str(locustfile), asks=tuple(asks), rate=200.0)
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "harness.load", "read-back"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        # The pipe stays open: its end would be the end of the program.
        child.stdin.write(msgspec.json.encode(start) + b"\n")
        child.stdin.flush()
        begun = msgspec.json.decode(child.stdout.readline(), type=ReadBackBegun)
        line = child.stdout.readline()
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
    assert 60 < begun.limit_s < 120
    return msgspec.json.decode(line, type=ReadBackDone).answers


@pytest.mark.parametrize("workers", [1, 2])
def test_every_worker_s_acknowledged_ids_are_in_the_run_folder(locustfile: Path, tmp_path: Path, workers: int) -> None:
    with shop(lambda number, before: 200) as target:
        with Run(make_plan(locustfile, target.url, rate=40.0, workers=workers), tmp_path) as run:
            run.go(2.5)
        noted: list[Noted] = list(read_lines(tmp_path / "acknowledged.jsonl", Noted))
        by_name = {
            name: [id_ for row in noted if row.name == name for id_ in row.ids] for name in ("/orders/{id}", "payment")
        }
        every = {str(number) for number in range(target.made)}
    assert len({row.worker for row in noted}) == workers
    # Each id once a worker that wrote it, although it was noted twice; nothing that was not acknowledged.
    assert sorted(by_name["/orders/{id}"]) == sorted(by_name["payment"]) == sorted(every)
    assert all(row.left_out == 0 and 0 <= row.at < 10 for row in noted)


def test_what_is_there_what_is_lost_and_what_nobody_can_tell(locustfile: Path) -> None:
    def later(number: int, before: int) -> int:
        match number % 10:
            case 0:
                return 404  # never there
            case 1:
                return 404 if before == 0 else 200  # eventually consistent
            case 2:
                return 503 if before == 0 else 200  # not well yet
            case _:
                return 200

    with shop(later) as target:
        asks = [("/orders/{id}", str(number)) for number in range(40)] + [("payment", "7")]
        answers = ask(locustfile, target.url, asks)
    assert {id_ for _, id_ in answers.lost} == {"0", "10", "20", "30"}
    assert answers.there == 37 and answers.unanswered == 0
    # A loss is said only after the time that the kind allows, so after looking again.
    assert all(target.asked[f"/orders/{number}"] >= 2 for number in (0, 10, 20, 30))


def test_a_kind_that_the_file_does_not_declare_is_unanswered_and_the_others_are_checked(locustfile: Path) -> None:
    code = (
        "import locust, sys\n"
        "from pathlib import Path\n"
        "from harness.load.generator.locustfile import load_classes\n"
        "from harness.load.writes.acknowledged import declared\n"
        "from harness.load.writes.asking import read_back, session\n"
        f"load_classes((Path({str(locustfile)!r}),))\n"
        "found = read_back([('/orders/{id}', '1'), ('invoice', '1'), ('/orders/{id}', '2')], session(sys.argv[1]),\n"
        "                  declared, rate=100, silent_s=2.0)\n"
        "print(found.there, len(found.lost), found.unanswered, found.example)\n"
    )
    with shop(lambda number, before: 503 if number == 2 else 200) as target:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, target.url], capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout.split()[:3] == ["1", "0", "2"], done.stdout


def test_what_was_found_lost_by_the_limit_stays_lost(locustfile: Path) -> None:
    """One kind may take its time, and is asked again and again; the other's loss is certain long before."""
    code = (
        "import locust, sys\n"
        "from harness.load.acknowledged import Acknowledged\n"
        "from harness.load.writes.acknowledged import declared\n"
        "from harness.load.writes.asking import limit_of, read_back, session\n"
        "Acknowledged('/orders/{id}', within_s=0.5); Acknowledged('/slow/{id}', within_s=600)\n"
        "asks = [('/orders/{id}', '1'), ('/slow/{id}', '1'), ('/orders/{id}', '2')]\n"
        "found = read_back(asks, session(sys.argv[1]), declared, rate=100, limit_s=4.0)\n"
        "print(found.there, len(found.lost), found.unanswered, limit_of(asks, declared, 100.0), found.example)\n"
    )
    with shop(lambda number, before: 200 if number == 2 else 404) as target:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, target.url], capture_output=True, text=True, timeout=60, check=True
        )
    assert done.stdout.split(maxsplit=4)[:3] == ["1", "1", "1"], done.stdout
    assert float(done.stdout.split()[3]) > 600 and "not decided within 4 s" in done.stdout


def test_notes_are_bounded_and_say_what_they_left_out() -> None:
    environment = SimpleNamespace()
    notes = Notes("w0", per_second=50)
    notes.begin(monotonic())
    notes.install(environment)
    kind = Acknowledged("/x/{id}")
    user = SimpleNamespace(environment=environment)
    for number in range(5_000):
        kind.note(user, number)
    rows = [msgspec.json.decode(line, type=Noted) for line in notes.take(final=True).splitlines()]
    for row in rows:
        assert len(row.ids) <= 50 and len(row.ids) + row.left_out <= 5_000
        # An even sample, not the first ones.
        assert row.left_out == 0 or max(map(int, row.ids)) > 500


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Acknowledged("/orders"), "needs {id}"),
        (lambda: Acknowledged(lambda client, id_: True), "name="),
        (lambda: Acknowledged("/orders/{id}", within_s=-1), "seconds"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_at_import(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (404, 1)])
def test_plain_locust_reads_back_too_and_a_loss_is_its_exit_code(
    locustfile: Path, tmp_path: Path, status: int, code: int
) -> None:
    # Ends after some orders, not after some time: on a busy machine a second may be over before the first of them.
    enough = "                if made == 5:\n                    gevent.spawn(self.environment.runner.quit)\n"
    locustfile.write_text("import gevent\n" + LOCUSTFILE + enough)
    with shop(lambda number, before: status) as target:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "locust",
                "-f",
                str(locustfile),
                "--host",
                target.url,
                "--headless",
                "-u",
                "2",
                "-r",
                "2",
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "default"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == code, done.stdout[-3000:]
    assert "acknowledged writes read back" in done.stdout
    assert ("acknowledged writes are lost" in done.stdout) == (status == 404)
