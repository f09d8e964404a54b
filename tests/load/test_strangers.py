"""Nobody but the run's own load processes adds a row, whatever reaches the port of the load's main process."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import psutil
import pytest
import zmq
from load_run import Run, make_plan, named
from load_target import Target
from remote_run import HARNESS, Worker, key_of, key_of_no_run, remote_plan, warned

from harness.load.ipc.keys import WorkerKey, make_keys, write_key_file
from harness.load.ipc.protocol import Ready, WorkerLost
from harness.model.jsonl import encode_line
from harness.model.records.load import LoadPlan
from harness.model.records.windows import ClassCounts, DeltaRow

PATHS = Path(__file__).parent / "files" / "paths.py"
BOTH = {"classes": named("Right", "Left")}
FORGED = 900_000


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


def forged(worker: str) -> bytes:
    counts = ClassCounts(planned=FORGED, ended=FORGED, replied=FORGED)
    return encode_line(DeltaRow(worker=worker, step=5, classes={"Right": counts}, requests={}))


def rows_message(number: int, rows: bytes, node: str) -> bytes:
    return msgpack.dumps(("harness.rows", {"worker": number, "rows": rows, "final": False}, node))


@contextmanager
def connection(port: int, node: str, key: WorkerKey | None = None) -> Iterator[Any]:
    """A bare zmq connection to the load's port, as anybody on the machine can make it."""
    context = zmq.Context()
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, node.encode())
    socket.setsockopt(zmq.LINGER, 0)
    if key is not None:
        key.put_on(socket)
    socket.connect(f"tcp://127.0.0.1:{port}")
    try:
        yield socket
    finally:
        socket.close()
        context.term()


def listening_port(run: Run) -> int:
    """As anybody finds it out: ss -ltn."""
    found = [c.laddr.port for c in psutil.Process(run.process.pid).net_connections("tcp") if c.status == "LISTEN"]
    assert len(found) == 1, found
    return int(found[0])


def end(run: Run) -> None:
    """The run goes on as if nothing had been, and nothing forged is in its record."""
    run.finish(max(20, round((time.monotonic() - run.t0) * 10) + 5))
    assert not [m for m in run.messages if isinstance(m, WorkerLost)]
    assert sum(counts.planned for counts in run.classes().values()) < FORGED
    assert {mark.worker for mark in run.marks() if mark.final} == {f"w{n}" for n in range(run.plan.workers)}


def test_a_stranger_without_a_key_adds_nothing(target: Target, tmp_path: Path) -> None:
    with Run(make_plan(PATHS, target.url, workers=2, **BOTH), tmp_path) as run:
        run.begin().at(0.5)
        with connection(listening_port(run), "stranger") as stranger:
            for frame in (rows_message(1, forged("w1"), "stranger"), b""):
                with suppress(zmq.Again):  # turned away already: nothing takes what it sends
                    stranger.send(frame, zmq.NOBLOCK)
            run.at(2)
            end(run)


def test_a_pair_of_its_own_and_the_runs_public_key_let_nobody_in(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, local=1, **BOTH)
    assert plan.remote is not None
    own = make_keys(1)[1][0]
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as worker:
        theirs = msgspec.json.decode(worker.key.read_bytes(), type=WorkerKey)
        key = msgspec.structs.replace(own, server=theirs.server)
        run.begin().at(0.5)
        with connection(plan.remote.port, "stranger", key) as stranger:
            with suppress(zmq.Again):
                stranger.send(rows_message(1, forged("w1"), "stranger"), zmq.NOBLOCK)
            assert "without a key of this run" in warned(run, "tried to join")
            end(run)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "it is none of Locust's"),
        (b"\xc1 not msgpack", "it is none of Locust's"),
        (msgpack.dumps({"a": 1}), "it is none of Locust's"),
        (msgpack.dumps(("harness.rows", {"worker": 1, "rows": forged("w1"), "final": False}, "w1's")), "whose it is"),
        (msgpack.dumps(("harness.rows", None, "other")), "harness.rows is not as it should be"),
        (msgpack.dumps(("harness.rows", {"worker": "1", "rows": 7}, "other")), "harness.rows is not as it should be"),
        (rows_message(1, forged("w1"), "other"), "another connection than the worker's own"),
        (rows_message(0, forged("w0"), "other"), "it speaks for w0, whose key it does not have"),
        (msgpack.dumps(("harness.connected", {"worker": 1, "token": 1}, "other")), "harness.connected is not as"),
        (msgpack.dumps(("harness.pong", {"sent": "x"}, "other")), "harness.pong is not as it should be"),
        (msgpack.dumps(("stats", {}, "other")), "another connection than the worker's own"),
    ],
)
def test_what_an_admitted_key_sends_beside_its_worker_is_dropped_and_said_once(
    remote_run: tuple[Run, WorkerKey, int], content: bytes, why: str
) -> None:
    run, key, port = remote_run
    before = len(run.messages)
    with connection(port, "other", key) as other:
        for _ in range(3):
            other.send(content)
        text = warned(run, why)
        other.send(msgpack.dumps(("harness.pong", {}, "other")))
        warned(run, "harness.pong is not as it should be")
    assert "load worker w1" in text
    assert sum(why in getattr(m, "text", "") for m in run.messages[before:]) <= 1
    assert sum(counts.planned for counts in run.classes().values()) < FORGED
    assert not [m for m in run.messages if isinstance(m, WorkerLost)]


@pytest.fixture(scope="module")
def remote_run(target: Target, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, WorkerKey, int]]:
    """One run that goes on through all of it, and ends well."""
    folder = tmp_path_factory.mktemp("run")
    plan = remote_plan(PATHS, target.url, local=1, rate=20.0, **BOTH)
    assert plan.remote is not None
    with Run(plan, folder) as run, Worker(plan, folder) as worker:
        key = msgspec.json.decode(worker.key.read_bytes(), type=WorkerKey)
        run.begin().at(0.5)
        yield run, key, plan.remote.port
        end(run)


ODD = """
import os
from locust import FastHttpUser, events, task
from harness.load.record.recorder import Recorder
flush = Recorder.flush
def odd(self, *args, **options):
    rows = flush(self, *args, **options)
    step = round(10 * args[0]) if args else 0
    odd.count += 1
    return ODD_ROWS.get(self.worker, rows) if odd.count == 5 else rows
odd.count = 0
Recorder.flush = odd
class Right(FastHttpUser):
    @task
    def go(self): self.client.get("/right")
"""


def test_lines_that_are_no_record_of_the_worker_that_sends_them_are_dropped(target: Target, tmp_path: Path) -> None:
    """Also where the connection and the key are right. One worker for each kind, beside one that sends its own."""
    odd = {"w1": b"garbage\n", "w2": forged("w0"), "w3": forged("w3").rstrip(b"\n"), "w4": b'{"row":"delta"}\n'}
    file = tmp_path / "odd.py"
    file.write_text(ODD.replace("ODD_ROWS", repr(odd)))
    with Run(make_plan(file, target.url, workers=5, classes=named("Right")), tmp_path) as run:
        run.begin()
        for worker in odd:
            warned(run, f"load worker {worker} was dropped: it has lines that are no record of this worker")
        end(run)


def test_a_local_workers_key_is_on_no_command_line_and_in_no_environment(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, local=2, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as worker:
        run.message(Ready)
        key = msgspec.json.decode(worker.key.read_bytes(), type=WorkerKey)
        processes = [psutil.Process(pid) for pid in (run.process.pid, worker.process.pid, *run.worker_pids)]
        for process in processes:
            seen = " ".join(process.cmdline()) + " ".join(f"{k}={v}" for k, v in process.environ().items())
            assert key.secret not in seen and key.server not in seen


def test_the_key_file_is_the_owners_alone_and_goes_when_the_load_begins(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, **BOTH)
    with Run(plan, tmp_path) as run:
        text = warned(run, "waiting for a remote worker")
        path = Path(text.split("--key-file: ")[1])
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        with Worker(plan, tmp_path) as worker:
            run.go(1)
            assert worker.end() == 0, worker.text
    assert not path.exists() and not path.parent.exists()


def test_one_key_lets_in_one_worker(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, remote=2, **BOTH)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as first:
        first.wait_text("load on")
        with Worker(plan, tmp_path, key=first.key) as again, Worker(plan, tmp_path, number=1) as second:
            assert again.end() == 2, again.text
            assert "its key is that of load worker w0, which the run has already" in again.text
            run.go(1)
            assert (first.end(), second.end()) == (0, 0)


def test_a_key_of_another_run_is_refused_at_once(target: Target, tmp_path: Path) -> None:
    plan = remote_plan(PATHS, target.url, **BOTH)
    with Run(plan, tmp_path) as run:
        warned(run, "waiting for")
        with Worker(plan, tmp_path, key=key_of_no_run(tmp_path)) as wrong:
            assert wrong.end(30) == 2, wrong.text
            assert "does not admit this key" in wrong.text
        server = msgspec.json.decode(key_of(tmp_path, 0).read_bytes(), type=WorkerKey).server
        own = tmp_path / "own.key"
        write_key_file(own, msgspec.structs.replace(make_keys(1)[1][0], server=server))
        with Worker(plan, tmp_path, key=own) as wrong:
            assert wrong.end(30) == 2, wrong.text
            assert "does not admit this key" in wrong.text


def test_a_key_file_that_is_none_is_one_line_and_exit_2(tmp_path: Path) -> None:
    good = msgspec.json.encode(make_keys(1)[1][0])
    broken = msgspec.json.decode(good)
    cases: list[tuple[str, bytes, int, str]] = [
        ("open", good, 0o640, "others can read it"),
        ("empty", b"", 0o600, "not a worker's key"),
        ("garbage", b"\xff\x00" * 40, 0o600, "not a worker's key"),
        ("short", msgspec.json.encode({**broken, "secret": "abc"}), 0o600, "not a worker's key"),
        ("foreign", msgspec.json.encode({**broken, "public": broken["server"]}), 0o600, "not a worker's key"),
        ("long", good + b" " * 5000, 0o600, "not a worker's key"),
    ]
    for name, content, mode, _ in cases:
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(mode)
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe", 0o600)
    told = [(name, text) for name, _, _, text in cases]
    told += [("absent", "No such file"), ("folder", "directory"), ("pipe", "regular file")]
    for name, text in told:
        command = [HARNESS, "worker", "--master-host", "127.0.0.1", "--key-file", str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and text in done.stderr, (name, done)
        assert "Traceback" not in done.stderr and broken["secret"] not in done.stderr
        assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
    done = subprocess.run([HARNESS, "worker", "--master-host", "127.0.0.1"], capture_output=True, text=True)
    assert done.returncode == 2 and "--key-file" in done.stderr


def test_a_file_that_only_root_may_read_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("NOT TESTED HERE: root reads every file")
    path = tmp_path / "k"
    path.write_bytes(b"")
    path.chmod(0)
    command = [HARNESS, "worker", "--master-host", "127.0.0.1", "--key-file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "Permission denied" in done.stderr


_NO_CURVE = "import sys, zmq; zmq.has = lambda what: False; from harness.cli import main; sys.exit(main())"


def test_without_curve_several_load_processes_are_refused(tmp_path: Path) -> None:
    import sys

    def plan(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _NO_CURVE, "plan", "--fault", "none", "--scenario", "baseline", *more]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    assert plan("--workers", "1").returncode == 0
    for more in (("--workers", "2"), ("--rate", "5000", "--model", "open", "--workers", "3")):
        done = plan(*more)
        assert done.returncode == 2 and "CURVE" in done.stderr, done
        assert re.search(r"\n.*Traceback", done.stderr) is None
    assert isinstance(make_plan(PATHS, "http://127.0.0.1:1", **BOTH), LoadPlan)
