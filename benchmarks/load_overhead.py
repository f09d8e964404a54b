"""What the open model with recording costs the generator, next to plain Locust: CPU time per request.

    python benchmarks/load_overhead.py [--rate 400] [--seconds 10] [--rounds 3]

Both send the same POST with a small JSON body from one process of FastHttpUsers to the same server on loopback, in
turns, at the same rate. CPU time is the kernel's own account of the load process (user + system) between two
instants, divided by the requests that the server counted between them, so start-up and imports are left out and a
busy machine disturbs both alike. Prints microseconds per request for each and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from harness.load.launcher import LoadProcess
from harness.load.protocol import LoadMessage, Ready
from harness.model.clock import monotonic
from harness.model.load import LoadPlan, UserClass

LOCUSTFILE = """
from locust import FastHttpUser, constant_throughput, task

class Poster(FastHttpUser):
    wait_time = constant_throughput(10)

    @task
    def post(self):
        self.client.post("/predict", json={"hash": "0x1234", "value": 1.5, "gas": 21000})
"""
WARM_UP_S = 3.0


class Server:
    """Answers every request with the same small JSON; counts them."""

    def __init__(self) -> None:
        self.requests = 0
        self.port = 0
        ready = threading.Event()

        class Protocol(asyncio.Protocol):
            def connection_made(protocol, transport: asyncio.BaseTransport) -> None:  # noqa: N805
                protocol.transport, protocol.left = transport, b""  # type: ignore[attr-defined]

            def data_received(protocol, data: bytes) -> None:  # noqa: N805
                # Bodies are short and come in one piece with their head.
                requests = data.count(b"POST /predict")
                self.requests += requests
                answer = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{"ok":true}'
                protocol.transport.write(answer * requests)  # type: ignore[attr-defined]

        async def serve() -> None:
            server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", 0, backlog=500)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        threading.Thread(target=lambda: asyncio.run(serve()), daemon=True).start()
        ready.wait()


def cpu_per_request(pid: int, server: Server, seconds: float) -> tuple[float, float]:
    """(microseconds of CPU a request, requests a second) of a load that has warmed up."""
    process = psutil.Process(pid)

    def look() -> tuple[float, int, float]:
        times = process.cpu_times()
        return times.user + times.system, server.requests, time.monotonic()

    cpu0, n0, t0 = look()
    time.sleep(seconds)
    cpu1, n1, t1 = look()
    return (cpu1 - cpu0) / max(1, n1 - n0) * 1e6, (n1 - n0) / (t1 - t0)


def plain_locust(file: Path, server: Server, rate: int, seconds: float) -> tuple[float, float]:
    load = subprocess.Popen(
        [sys.executable, "-m", "locust", "-f", str(file), "--host", f"http://127.0.0.1:{server.port}", "--headless",
         "-u", str(rate // 10), "-r", str(rate // 10), "--only-summary", "--loglevel", "ERROR"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        before = server.requests
        while server.requests == before:
            time.sleep(0.05)
        time.sleep(WARM_UP_S)
        return cpu_per_request(load.pid, server, seconds)
    finally:
        load.kill()
        load.wait()


def open_model(file: Path, server: Server, rate: int, seconds: float) -> tuple[float, float]:
    ready, ended = threading.Event(), threading.Event()

    def on_message(message: LoadMessage) -> None:
        if isinstance(message, Ready):
            ready.set()

    plan = LoadPlan(
        model="open",
        host=f"http://127.0.0.1:{server.port}",
        locustfile=str(file),
        classes=(UserClass(name="Poster"),),
        seed=1,
        users=10,
        spawn_rate=10,
        ramp_s=0,
        rate=rate,
        limits_ms=(100, 200, 500),
    )
    with tempfile.TemporaryDirectory() as folder:
        load = LoadProcess.start(
            plan,
            windows=Path(folder, "windows.jsonl"),
            log=Path(folder, "load.log"),
            on_message=on_message,
            on_exit=lambda _: ended.set(),
        )
        try:
            if not ready.wait(60):
                raise SystemExit(f"the load process was not ready within 60 s:\n{Path(folder, 'load.log').read_text()}")
            load.begin(monotonic() + 0.1)
            time.sleep(WARM_UP_S)
            return cpu_per_request(load.pid, server, seconds)
        finally:
            load.kill()
            ended.wait(10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    server = Server()
    ratios: list[float] = []
    print(f"{'round':>5}  {'plain Locust':>22}  {'open model, recording':>22}  ratio")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "poster.py"
        file.write_text(LOCUSTFILE)
        for i in range(options.rounds):
            plain, plain_rps = plain_locust(file, server, options.rate, options.seconds)
            ours, our_rps = open_model(file, server, options.rate, options.seconds)
            ratios.append(ours / plain)
            cells = f"{plain:>9.0f} us {plain_rps:>5.0f} RPS  {ours:>9.0f} us {our_rps:>5.0f} RPS"
            print(f"{i + 1:>5}  {cells}  {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} (goal: at most 1.05)")


if __name__ == "__main__":
    main()
