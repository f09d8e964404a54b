"""samples.jsonl while things go wrong around it: hanging metrics, full disks, processes that end."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.conductor.recording.sampler import Sampler
from harness.model.clock import monotonic
from harness.model.jsonl import read_lines
from harness.model.records.faults import Address, Dependency, DependencyProcess
from harness.model.records.samples import Sample
from harness.model.records.stack import TargetInfo

FAST_S = 0.1
LIMIT_S = 60.0


def samples(path: Path) -> list[Sample]:
    return list(read_lines(path, Sample)) if path.exists() else []


def wait_for(what: str, condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {LIMIT_S:g} s"
        time.sleep(0.02)


@contextmanager
def sampling(out: Path, target: TargetInfo, *dependencies: Dependency) -> Iterator[Sampler]:
    sampler = Sampler(interval_s=FAST_S)
    sampler.start(monotonic(), target, dependencies, out)
    try:
        yield sampler
    finally:
        sampler.stop()


@contextmanager
def metrics_page(answer: Callable[[int], bytes | None]) -> Iterator[str]:
    """A metrics page: answer(number of the request) is its text, None hangs."""
    stop = threading.Event()

    def serve(server: socket.socket) -> None:
        number = 0
        held = []
        server.settimeout(0.05)
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except TimeoutError:
                continue
            held.append(connection)
            connection.settimeout(LIMIT_S)
            connection.recv(65536)
            text = answer(number)
            number += 1
            if text is not None:
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
                connection.sendall(head.encode() + text)
        for connection in held:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/metrics"
        stop.set()
        thread.join()


@contextmanager
def redis_that_says(stats: str) -> Iterator[Dependency]:
    """A server that speaks as much of Redis as its counters need, and has these in its INFO. A real one cannot be
    brought to say such things; what is called Redis somewhere is not always one."""
    text = stats.replace("\n", "\r\n").encode()

    class Talk(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                words = [(self.rfile.readline(), self.rfile.readline().strip())[1] for _ in range(int(line[1:]))]
                if words[0].upper() == b"INFO":
                    self.wfile.write(b"$%d\r\n%s\r\n" % (len(text), text))
                elif words[0].upper() == b"HELLO":
                    self.wfile.write(b"%1\r\n+proto\r\n:3\r\n")
                else:
                    self.wfile.write(b"+OK\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Dependency(name="redis", kind="redis", direct=Address("127.0.0.1", server.server_address[1]))
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("odd", ["nan", "inf", "-inf", "1e999", "9" * 400, "many", ""])
def test_a_figure_that_is_no_finite_number_costs_itself_alone(tmp_path: Path, odd: str) -> None:
    out = tmp_path / "samples.jsonl"
    stats = f"total_connections_received:{odd}\ntotal_commands_processed:5\nkeyspace_hits:{odd}\nconnected_clients:2\n"
    with redis_that_says(stats) as redis, sampling(out, me(), redis) as sampler:
        wait_for("three samples with counters", lambda: sum(bool(s.counters) for s in samples(out)) >= 3)
    for sample in samples(out):
        for counted in sample.counters.values():
            assert counted.pop("at") >= 0
            assert counted == {"commands": 5.0, "clients": 2.0}
    assert sampler.problem is None


def me(metrics_url: str | None = None) -> TargetInfo:
    return TargetInfo(url="http://127.0.0.1:1", metrics_url=metrics_url, pid=os.getpid())


def test_a_row_has_trees_signals_and_the_machine(tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    redis = Dependency(name="redis", kind="redis", process=DependencyProcess(pid=os.getppid()))
    outside = Dependency(name="kafka", kind="kafka")
    with (
        metrics_page(lambda number: f'http_requests_total{{status="200"}} {number}\nlag 3\n'.encode()) as url,
        sampling(out, me(url), redis, outside) as sampler,
    ):
        wait_for("a row with signals", lambda: any(row.signals for row in samples(out)[2:]))
        rows = samples(out)
        latest = sampler.latest()
    assert latest is not None
    row = next(row for row in rows[2:] if row.signals)
    assert set(row.trees) == {"target", "redis"}
    assert row.trees["target"].rss > 1_000_000
    assert row.signals["lag"] == 3 and "http_requests_total" in row.signals
    assert row.net_bytes_s is not None and row.machine_cpu is not None
    times = [row.at for row in rows]
    assert times == sorted(times) and times[0] >= 0


def test_a_metrics_page_that_hangs_delays_no_sample_and_repeats_no_old_signal(tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    with (
        metrics_page(lambda number: b"lag 1\n" if number == 0 else None) as url,
        sampling(out, me(url)) as sampler,
    ):
        wait_for("the time-out", lambda: sampler.problem is not None)
        before = len(samples(out))
        wait_for("rows while the page hangs", lambda: len(samples(out)) >= before + 3)
        begun = time.monotonic()
        sampler.stop()
        assert time.monotonic() - begun < LIMIT_S
    rows = samples(out)
    assert sum("lag" in row.signals for row in rows) == 1
    assert all("target" in row.trees for row in rows)
    assert sampler.problem is not None and "no whole answer" in sampler.problem


def test_a_target_that_ends_leaves_the_others_measured(tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process.stdin is not None
    target = TargetInfo(url="http://127.0.0.1:1", pid=process.pid)
    redis = Dependency(name="redis", kind="redis", process=DependencyProcess(pid=os.getpid()))
    with sampling(out, target, redis):
        wait_for("both", lambda: any(set(row.trees) == {"target", "redis"} for row in samples(out)))
        process.stdin.close()
        process.wait(LIMIT_S)
        wait_for("the rest", lambda: set(samples(out)[-1].trees) == {"redis"})


def test_a_server_that_is_started_again_goes_on_being_measured(tmp_path: Path) -> None:
    """CPU time never falls: what the first process used stays counted, and the second one's is added."""
    out, pid_file = tmp_path / "samples.jsonl", tmp_path / "pid"
    burn = "import time\nwhile time.process_time() < 0.4: pass\ninput()"

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE)
        pid_file.write_text(str(process.pid))
        return process

    def target_cpu() -> float:
        rows = [row for row in samples(out) if "target" in row.trees]
        return rows[-1].trees["target"].cpu_s if rows else 0.0

    first = start()
    itself = Dependency(
        name="api",
        kind="http",
        process=DependencyProcess(pid=first.pid, pid_file=str(pid_file)),
        target=True,
        runtime="process",
    )
    target = TargetInfo(url="http://127.0.0.1:1", pid=first.pid)
    with sampling(out, target, itself):
        wait_for("the first one's work", lambda: target_cpu() >= 0.2)
        first.kill()
        first.communicate()
        wait_for("a row without it", lambda: "target" not in samples(out)[-1].trees)
        before = target_cpu()
        second = start()
        wait_for("the second one's work on top of it", lambda: target_cpu() >= before + 0.3)
        second.communicate()
    rows = [row.trees["target"].cpu_s for row in samples(out) if "target" in row.trees]
    assert rows == sorted(rows)
    assert all(set(row.trees) <= {"target"} for row in samples(out)), "the target is measured once, under one name"


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    with sampling(tmp_path / "missing" / "samples.jsonl", me()) as sampler:
        wait_for("the problem", lambda: sampler.problem is not None)
        wait_for("a live sample", lambda: sampler.latest() is not None)
        first = sampler.latest()
        wait_for("another live sample", lambda: sampler.latest() != first)
        assert sampler.problem is not None and "No such file" in sampler.problem
        (tmp_path / "missing").mkdir()
        wait_for("rows once it can be written", lambda: samples(tmp_path / "missing" / "samples.jsonl"))


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """A file-size limit stands for the full disk: the kernel cuts a write short, then refuses, in the same way."""
    out = tmp_path / "samples.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with sampling(out, me()) as sampler:
            wait_for("the first row", lambda: samples(out))
            resource.setrlimit(resource.RLIMIT_FSIZE, (out.stat().st_size + 400, hard))
            wait_for("the disk to be full", lambda: sampler.problem is not None)
            assert sampler.problem is not None and os.strerror(errno.EFBIG) in sampler.problem
            full = len(samples(out))
            assert out.read_bytes().endswith(b"\n")
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            wait_for("rows once there is room", lambda: len(samples(out)) >= full + 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert len(samples(out)) == out.read_bytes().count(b"\n")


def test_stop_is_safe_before_start_and_twice() -> None:
    sampler = Sampler()
    sampler.stop()
    sampler.stop()
    assert sampler.latest() is None


def test_the_target_is_asked_on_fresh_connections_all_the_while(tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    with metrics_page(lambda number: b"ok" if number < 3 else None) as page:
        target = TargetInfo(url=page.removesuffix("/metrics"), health="/metrics", pid=os.getpid())
        with sampling(out, target):
            wait_for("one that is kept waiting", lambda: any(s.fresh and not s.fresh.ok for s in samples(out)))
        seen = [sample.fresh for sample in samples(out) if sample.fresh is not None]
    assert any(one.ok for one in seen)
    assert next(one for one in seen if not one.ok).ms >= 900
    assert [one.at for one in seen] == sorted({one.at for one in seen}), "each is in one sample only"
    assert len(samples(out)) > len(seen), "one that hangs delays no sample"
