"""How long a killed run stays broken: SIGKILL to healthy, and SIGINT to exit, with load on.

    python benchmarks/undo.py [--tries 100] [--jobs 1] [--signal KILL|INT] [--only front]

Each try is a real `harness run` at 200 RPS on a stack that `harness stack up` keeps, with four changes on at once (a
disabled proxy, a toxic, a role limit, a paused service), or with those of --only: `front` is all three faults of an
Envoy, each on half of the requests. Its shortest baseline is lowered to 2 s, which no undo depends on, so that 100
tries take about a quarter of an hour. When all are proven the run gets the signal at a random moment, and everything is
watched from outside, each in a thread of its own, every few milliseconds:

    toxics  no toxic in Toxiproxy's raw answer, and Kafka answers through the proxy in under 100 ms
    down    the proxy is enabled, and PING is answered through it
    role    pg_roles as before, and the application's role can log in through the proxy
    pause   no process of the service is stopped, and GET /health is answered
    front   no runtime key of the front is set in Envoy's raw answer, and the upstream answers through it

A time ends when the first good look ends, so it is rather too long than too short. They are undone one after the
other; each time contains the undos before it. Prints median, 95th percentile and worst, and how many were within 1 s
(SIGKILL to healthy) and 2 s (SIGINT to exit; an interrupted run does not wait for open requests, so it drains nothing).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import psutil
import psycopg

from harness.dependencies.probe import path_probe
from harness.model.records.faults import Dependency
from harness.model.records.stack import StackUp

HARNESS = Path(sys.executable).parent / "harness"
SHORT_BASELINE = (
    "from harness.plan import phases as p; p.MIN_BASELINE_S = 2.0; p.DECIDING_ARRIVALS = 1; "
    "from harness.cli import main; main()"
)
FAULTS = {
    "toxics": ("kafka-latency",),
    "down": ("redis-down",),
    "role": ("db-connection-limit",),
    "front": ("risk-status:share=50%", "risk-delay:delay=2s,share=50%", "risk-slow-body:share=50%"),
    "pause": ("api-pause",),
}
FOUR = ["toxics", "down", "role", "pause"]
OPTIONS = (
    *("--scenario", "target", "--rate", "200", "--spawn-rate", "100000", "--warmup", "1s", "--baseline", "2s"),
    *("--fault-for", "60s", "--request-timeout", "2s", "--quiet"),
    *("--target", "p95 < 60s", "--target", "error_rate < 99%", "--target", "rps >= 1% of plan"),
)
WAIT_S = 60.0


class Stack:
    """A stack that stays up, and looks at it from outside. only: what is changed of FAULTS."""

    def __init__(self, folder: Path, only: list[str]) -> None:
        self.folder = folder
        self.only = only
        self.env = {**os.environ, "XDG_STATE_HOME": str(folder / "state")}
        self.command("stack", "up")
        self.up = msgspec.json.decode(self.command("stack", "status", "--json"), type=StackUp)
        self.by_name: dict[str, Dependency] = {d.name: d for d in self.up.dependencies}
        self.admin = psycopg.connect(self.by_name["db"].credentials.admin or "", autocommit=True)
        self.roles = self.role_limits()

    def command(self, *args: str) -> bytes:
        return subprocess.run([str(HARNESS), *args], env=self.env, check=True, stdout=subprocess.PIPE).stdout

    def role_limits(self) -> list[tuple[Any, ...]]:
        return self.admin.execute("SELECT rolname, rolconnlimit FROM pg_roles ORDER BY rolname").fetchall()

    def proxy(self, name: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.by_name[name].proxy.url}/proxies/{name}", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def answers(self, name: str, within_s: float) -> bool:
        result = path_probe(self.by_name[name])(within_s)
        return result.ok and result.seconds < within_s

    def looks(self) -> dict[str, Callable[[], bool]]:
        every = {
            "toxics": lambda: not self.proxy("kafka")["toxics"] and self.answers("kafka", 0.1),
            "down": lambda: bool(self.proxy("redis")["enabled"]) and self.answers("redis", 1.0),
            "role": lambda: self.role_limits() == self.roles and self.answers("db", 1.0) and self.login(),
            "front": lambda: not self.keys() and self.answers("risk", 1.0),
            "pause": lambda: not self.stopped() and self.health(),
        }
        return {name: every[name] for name in self.only}

    def keys(self) -> list[str]:
        front = self.by_name["risk"].front
        assert front is not None
        with urllib.request.urlopen(f"{front.url}/runtime", timeout=5) as answer:
            return [key for key in json.load(answer)["entries"] if key.startswith("harness.")]

    def login(self) -> bool:
        """As the application's role: its limit of two is in use while the fault is on."""
        db = self.by_name["db"]
        assert db.path is not None
        try:
            with psycopg.connect(f"{db.credentials.login} host={db.path.host} port={db.path.port} connect_timeout=2"):
                return True
        except psycopg.Error:
            return False

    def stopped(self) -> bool:
        root = psutil.Process(self.up.target.pid)
        return any(p.status() == psutil.STATUS_STOPPED for p in (root, *root.children(recursive=True)))

    def health(self) -> bool:
        try:
            with urllib.request.urlopen(self.up.target.url + "/health", timeout=1.0):
                return True
        except OSError:
            return False

    def broken(self) -> bool:
        return not any(look() for look in self.looks().values())

    def down(self) -> None:
        self.admin.close()
        self.command("stack", "down")


def one_try(stack: Stack, number: int, how: signal.Signals) -> dict[str, float]:
    """Seconds from the signal to each of them being healthy, and to the end of the process (`exit`)."""
    folder = stack.folder / f"try{number}"
    folder.mkdir()
    faults = [word for name in stack.only for fault in FAULTS[name] for word in ("--fault", fault)]
    with (folder / "output").open("wb") as output:
        run = subprocess.Popen(
            [sys.executable, "-c", SHORT_BASELINE, "run", *faults, *OPTIONS, "--out", str(folder)],
            env=stack.env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        try:
            _wait("all to be proven", lambda: _proven(folder) == len(faults) // 2, run)
        except SystemExit as error:
            raise SystemExit(f"{error}\n{(folder / 'output').read_text()[-2000:]}") from None
        assert stack.broken(), "not everything is broken"
        time.sleep(random.uniform(0.0, 0.5))
        began = time.monotonic()
        run.send_signal(how)
        taken: dict[str, float] = {}
        watchers = [
            threading.Thread(target=lambda n, w: taken.update({n: _until(w, began)}), args=(name, look))
            for name, look in stack.looks().items()
        ]
        for watcher in watchers:
            watcher.start()
        run.wait(WAIT_S)
        taken["exit"] = time.monotonic() - began
        for watcher in watchers:
            watcher.join()
        _wait("the keeper to end", lambda: not any((stack.folder / "state" / "harness" / "active").iterdir()))
        return taken
    finally:
        if run.poll() is None:
            run.send_signal(signal.SIGINT)
            run.wait(WAIT_S)


def _proven(folder: Path) -> int:
    return sum(file.read_bytes().count(b'"event":"fault_proven"') for file in folder.glob("*/history.jsonl"))


def _until(look: Callable[[], bool], began: float) -> float:
    while not look():
        if time.monotonic() - began > WAIT_S:
            return float("inf")
        time.sleep(0.002)
    return time.monotonic() - began


def _wait(what: str, done: Callable[[], bool], run: subprocess.Popen[bytes] | None = None) -> None:
    end = time.monotonic() + WAIT_S
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"waited {WAIT_S:g} s for {what}")
        if run is not None and run.poll() is not None:
            raise SystemExit(f"the run ended (exit {run.returncode}) before {what}")
        time.sleep(0.01)


def several(folder: Path, tries: list[int], how: signal.Signals, only: list[str]) -> list[dict[str, float]]:
    folder.mkdir()
    stack = Stack(folder, only)
    try:
        return [one_try(stack, number, how) for number in tries]
    finally:
        stack.down()


def report(how: signal.Signals, found: list[dict[str, float]]) -> None:
    names = [name for name in found[0] if name != "exit" or how == signal.SIGINT]
    for name in names:
        times = sorted(row[name] for row in found)
        limit = 2.0 if name == "exit" else 1.0
        p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
        print(
            f"{how.name:8} {name:7} median {statistics.median(times) * 1000:6.0f} ms   p95 {p95 * 1000:6.0f} ms"
            f"   worst {times[-1] * 1000:6.0f} ms"
            f"   within {limit:g} s: {sum(t <= limit for t in times)} of {len(times)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100, help="for each signal")
    parser.add_argument("--jobs", type=int, default=1, help="stacks side by side")
    parser.add_argument("--signal", choices=["KILL", "INT"], help="only this one")
    parser.add_argument(
        "--only", action="append", choices=[*FAULTS], help="change this instead of the four; repeatable"
    )
    options = parser.parse_args()
    signals = [signal.SIGKILL, signal.SIGINT] if options.signal is None else [signal.Signals[f"SIG{options.signal}"]]
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(options.jobs) as pool:
        for how in signals:
            shares = [list(range(options.tries))[job :: options.jobs] for job in range(options.jobs)]
            jobs = [
                pool.submit(several, Path(temporary) / f"{how.name}{job}", share, how, options.only or FOUR)
                for job, share in enumerate(shares)
            ]
            report(how, [row for job in jobs for row in job.result()])


if __name__ == "__main__":
    main()
