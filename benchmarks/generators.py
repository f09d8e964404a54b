"""The generators that are compared, each in processes of its own, and what they cost: the CPU time (user and system,
the kernel's own account) of the generator's processes between two instants, divided by the requests that nginx counted
between them. So start-up is left out, and a busy machine disturbs all alike.

All send the same POST with a small JSON body to the same nginx, over connections that are kept.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from harness.load.ipc.protocol import Begin, LoadMessage, Ready
from harness.load.process.launcher import LoadProcess
from harness.model.clock import monotonic
from harness.model.records.load import LoadPlan, UserClass

PATH = "/predict"
BODY = {"hash": "0x1234", "value": 1.5, "gas": 21000}
REPLY = '{"is_anomaly":false,"confidence":0.93,"from_cache":true}'

NGINX = """
worker_processes {workers}; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 16000; }}
http {{
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /status {{ stub_status; }}
        location / {{ default_type application/json; return 200 '{reply}'; }}
    }}
}}
"""
LOCUSTFILE = """
from locust import between, constant, task
from {module} import {base} as Base
class Poster(Base):
    wait_time = {wait}
    @task
    def post(self):
        self.client.post("{path}", json={body!r})
"""
K6 = """
import http from 'k6/http';
export const options = {{ discardResponseBodies: false, noVUConnectionReuse: false,
  scenarios: {{ s: {{ executor: 'constant-arrival-rate', rate: {rate}, timeUnit: '1s', duration: '{seconds}s',
                      preAllocatedVUs: 100, maxVUs: 2000 }} }} }};
const body = JSON.stringify({body}), params = {{ headers: {{ 'Content-Type': 'application/json' }} }};
export default function () {{ http.post('{url}', body, params); }}
"""
WRK = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{body}'
"""


class Cost(msgspec.Struct, frozen=True):
    """us: CPU time a request, microseconds. rps: requests a second that nginx counted. unmet: what the generator itself
    said that it did not send, where it says so."""

    us: float
    rps: float
    unmet: str = ""


class Nginx:
    """Counts requests, in all."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def requests(self) -> int:
        with urllib.request.urlopen(f"{self.url}/status", timeout=10) as answer:
            return int(answer.read().split()[9])


@contextmanager
def nginx(program: Path, workers: int = 1) -> Iterator[Nginx]:
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        Path(folder).chmod(0o755)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        config = Path(folder) / "nginx.conf"
        config.write_text(NGINX.format(workers=workers, folder=folder, port=port, reply=REPLY))
        server = subprocess.Popen([program, "-p", folder, "-c", config], stderr=subprocess.DEVNULL)
        try:
            found = Nginx(port)
            for _ in range(100):
                try:
                    found.requests()
                    break
                except OSError:
                    time.sleep(0.05)
            yield found
        finally:
            server.terminate()
            server.wait(10)


def cost_of(pid: int, server: Nginx, seconds: float) -> Cost:
    """Of the process and its children, from now on."""
    process = psutil.Process(pid)

    def look() -> tuple[float, int, float]:
        spent = 0.0
        for each in [process, *process.children(recursive=True)]:
            times = each.cpu_times()
            spent += times.user + times.system
        return spent, server.requests(), time.monotonic()

    cpu0, n0, t0 = look()
    time.sleep(seconds)
    cpu1, n1, t1 = look()
    # One of them is our own question.
    n = max(1, n1 - n0 - 1)
    return Cost(us=(cpu1 - cpu0) / n * 1e6, rps=n / (t1 - t0))


def of_command(
    argv: Sequence[str | Path], server: Nginx, *, warm_up_s: float, seconds: float, stdin: bytes | None = None
) -> tuple[Cost, str]:
    """A generator that is a command, and what it printed; stopped when it has been measured."""
    feed = subprocess.PIPE if stdin is not None else subprocess.DEVNULL
    with tempfile.TemporaryFile() as out:
        running = subprocess.Popen(argv, stdin=feed, stdout=out, stderr=subprocess.STDOUT)
        try:
            if stdin is not None and running.stdin is not None:
                running.stdin.write(stdin)
                running.stdin.close()
            before = server.requests()
            deadline = time.monotonic() + 60
            while server.requests() < before + 20 and time.monotonic() < deadline:
                time.sleep(0.1)
            time.sleep(warm_up_s)
            cost = cost_of(running.pid, server, seconds)
        finally:
            running.terminate()
            try:
                running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
        out.seek(0)
        return cost, out.read().decode(errors="replace")


def vegeta(program: Path, server: Nginx, rate: int, *, warm_up_s: float, seconds: float) -> Cost:
    target = {"method": "POST", "url": server.url + PATH, "header": {"Content-Type": ["application/json"]}}
    with tempfile.TemporaryDirectory() as folder:
        body = Path(folder) / "body.json"
        body.write_text(json.dumps(BODY))
        argv = [program, "attack", "-format=json", "-lazy=false", f"-rate={rate}", "-duration=0", f"-body={body}",
                "-max-workers=2000", "-output=/dev/null"]  # fmt: skip
        return of_command(
            argv, server, warm_up_s=warm_up_s, seconds=seconds, stdin=json.dumps(target).encode() + b"\n"
        )[0]


def k6(program: Path, server: Nginx, rate: int, *, warm_up_s: float, seconds: float) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.js"
        lasting = int(warm_up_s + seconds + 60)
        script.write_text(K6.format(rate=rate, seconds=lasting, body=json.dumps(BODY), url=server.url + PATH))
        argv = [program, "run", "--quiet", "--no-usage-report", "--address=", script]
        cost, said = of_command(argv, server, warm_up_s=warm_up_s, seconds=seconds)
        dropped = [line.split(":")[-1].strip() for line in said.splitlines() if "dropped_iterations" in line]
        return msgspec.structs.replace(cost, unmet=f"dropped {' '.join(dropped[0].split())}" if dropped else "")


def wrk(program: Path, server: Nginx, *, warm_up_s: float, seconds: float, users: int) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "post.lua"
        script.write_text(WRK.format(body=json.dumps(BODY)))
        argv = [program, "-t1", f"-c{users}", f"-d{int(warm_up_s + seconds + 30)}s", "-s", script, server.url + PATH]
        return of_command([str(a) for a in argv], server, warm_up_s=warm_up_s, seconds=seconds)[0]


def plain_locust(file: Path, server: Nginx, *, warm_up_s: float, seconds: float, users: int) -> Cost:
    argv = [sys.executable, "-m", "locust", "-f", file, "--host", server.url, "--headless", "-u", str(users), "-r",
            str(users), "--only-summary", "--loglevel", "ERROR"]  # fmt: skip
    return of_command([str(a) for a in argv], server, warm_up_s=warm_up_s, seconds=seconds)[0]


def harness(
    file: Path,
    server: Nginx,
    *,
    warm_up_s: float,
    seconds: float,
    rate: float | None = None,
    users: int = 20,
    workers: int = 1,
    keep: Path | None = None,
    measured: Callable[[float, float], None] = lambda start, end: None,
    trace: bool = False,
) -> Cost:
    """rate: arrivals a second of the open model; None: closed, as fast as the users go. keep: where windows.jsonl is to
    be. measured: told the measured span, in seconds since t0. trace: whether requests carry a traceparent."""
    ready, ended = threading.Event(), threading.Event()

    def on_message(message: LoadMessage) -> None:
        if isinstance(message, Ready):
            ready.set()

    paced: dict[str, Any] = {"model": "closed"} if rate is None else {"model": "open", "rate": rate, "workers": workers}
    plan = LoadPlan(
        **paced,
        host=server.url,
        locustfile=str(file),
        trace=trace,
        classes=(UserClass(name="Poster"),),
        seed=1,
        users=users,
        spawn_rate=users,
        ramp_s=2.0,
        max_in_flight=5000,
        limits_ms=(100, 200, 500),
    )
    with ExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        log = folder / "load.log"
        load = LoadProcess.start(
            plan, windows=folder / "windows.jsonl", log=log, on_message=on_message, on_exit=lambda _: ended.set()
        )
        try:
            if not ready.wait(60):
                raise SystemExit(f"the load process was not ready within 60 s:\n{log.read_text()}")
            t0 = monotonic() + 0.1
            load.send(Begin(t0=t0))
            time.sleep(2.0 + warm_up_s)
            start = monotonic() - t0
            cost = cost_of(load.pid, server, seconds)
            measured(start, monotonic() - t0)
            return cost
        finally:
            load.kill()
            ended.wait(10)


def write_locustfile(folder: Path, lean: bool, wait: str = "constant(0)") -> Path:
    """Its user is Poster: our client, or Locust's FastHttpUser."""
    file = folder / f"{'lean' if lean else 'fast'}_{len(wait)}.py"
    module, base = ("harness.load.lean", "LeanHttpUser") if lean else ("locust", "FastHttpUser")
    file.write_text(LOCUSTFILE.format(module=module, base=base, wait=wait, path=PATH, body=BODY))
    return file
