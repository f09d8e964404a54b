"""How far does one conductor scale? CPU of the conductor and of the load's main process with 1 to 24 load workers.

    python benchmarks/many_workers.py [--workers 1 4 8 16 24] [--rate 10] [--seconds 20]

Each worker sends a few requests a second, so that one machine has room for all of them: what the two processes in the
middle have to do depends on the workers (rows, marks and clock round trips, ten times a second each), hardly on their
requests, which come as counts. A line for each: percent of a core, and where that would reach a whole core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

HARNESS = Path(sys.executable).with_name("harness")
LOCUSTFILE = """
from harness.load.lean import LeanHttpUser
from locust import task


class Reader(LeanHttpUser):
    @task
    def read(self):
        self.client.get("/")
"""


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 4, 8, 16, 24])
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second of each worker")
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for workers in given.workers:
        with tempfile.TemporaryDirectory() as folder:
            middle, conductor = measured(Path(folder), server.server_address[1], workers, given.rate, given.seconds)
            room = int(workers / max(middle, conductor))
            print(
                f"{workers:3} workers: the load's main process {middle:.1%} of a core, the conductor {conductor:.1%};"
                f" a whole core at about {room}",
                flush=True,
            )
    return 0


def measured(folder: Path, port: int, workers: int, rate: float, seconds: float) -> tuple[float, float]:
    """CPU seconds a second of the load's main process and of the conductor, in the run's baseline."""
    (folder / "locustfile.py").write_text(LOCUSTFILE)
    command = [str(HARNESS), "run", "--fault", "none", "--host", f"http://127.0.0.1:{port}", "--warmup", "3s"]
    command += ["--baseline", f"{max(seconds + 20, 500 / (rate * workers)):g}s", "--rate", f"{rate * workers:g}", "--workers", str(workers)]
    command += ["--locustfile", "locustfile.py", "--out", "runs", "--no-extend"]
    with (folder / "log").open("wb") as log:
        run = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        conductor = psutil.Process(run.pid)
        while not in_baseline(folder):
            if run.poll() is not None:
                raise SystemExit((folder / "log").read_text()[-2000:])
            time.sleep(0.2)
        load = next(one for one in conductor.children() if one.cmdline()[-1] == "harness.load")
        before = [used(load), used(conductor)]
        time.sleep(seconds)
        after = [used(load), used(conductor)]
    finally:
        run.terminate()
        run.wait(60)
    return (after[0] - before[0]) / seconds, (after[1] - before[1]) / seconds


def used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def in_baseline(folder: Path) -> bool:
    for file in folder.glob("runs/*/history.jsonl"):
        for line in file.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n") and json.loads(line).get("phase") == "baseline":
                return True
    return False


if __name__ == "__main__":
    sys.exit(main())
