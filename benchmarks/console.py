"""What the console of a game day costs the run, and how fast it lets go.

    python benchmarks/console.py [--tries 10] [--rounds 4] [--watchers 50] [--rate 200]

A real `harness gameday` on the embedded stack, driven over HTTP by its operator. Three things are measured:

    watchers  p99 of the load's lateness in rounds of 20 s with and without so many open streams, in turn
    abort     from the moment the abort is posted to the verified undo of redis-down, as the drill's history has it
    killed    from SIGKILL of the console's process to the same

Both clocks are CLOCK_MONOTONIC of this machine. Prints medians and the worst; the goals are 2 s for an abort, and 1 s
for a console that was killed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import psutil

from harness.analysis.rules.generator import lateness_p99
from harness.model.jsonl import read_lines
from harness.model.records.windows import MarkRow, Row

SHORT = (
    "from harness.plan import phases as p; p.MIN_BASELINE_S = p.MIN_HOLD_S = 2.0; p.HOLD_ARRIVALS = 50; "
    "p.DECIDING_ARRIVALS = 1; from harness.cli import main; main()"
)
"""Phases do not change how an abort goes."""
ROUND_S = 20.0
WAIT_S = 120.0


class Day:
    def __init__(self, folder: Path, drills: int, rate: float) -> None:
        self.folder = folder
        lines = [
            "title: benchmark",
            "roles: {operator: [Ada]}",
            f"rate: {rate:g}",
            *("spawn_rate: 100000", "warmup: 1s", "baseline: 2s", "hold: 2s", "request_timeout: 2s", "no_extend: true"),
            'targets: ["p95 < 60s", "error_rate < 99%", "rps >= 1% of plan"]',
            "drills:",
            *(f"  - {{name: drill {n}, faults: [redis-down], fault_for: 120s}}" for n in range(1, drills + 1)),
        ]
        (folder / "day.yaml").write_text("\n".join(lines) + "\n")
        self.said = folder / "said.txt"
        with self.said.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SHORT, "gameday", "day.yaml"],
                cwd=folder,
                env={**os.environ, "XDG_STATE_HOME": str(folder / "state")},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait(lambda: "next is drill 1" in self.said.read_text(errors="replace"), "the first wait")
        found = re.search(r"http://127\.0\.0\.1:(\d+)/enter/(\S+)", self.said.read_text())
        assert found is not None
        self.port, self.cookie = int(found[1]), ""
        _, headers = self.ask("POST", f"/enter/{found[2]}")
        self.cookie = headers["set-cookie"].partition(";")[0]
        self.dir = next((folder / "runs").glob("*-gameday"))

    def ask(self, method: str, path: str, **fields: str) -> tuple[str, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            origin = f"http://127.0.0.1:{self.port}"
            headers = {"Origin": origin, "Cookie": self.cookie, "Accept": "application/json"}
            connection.request(method, path, urlencode(fields), headers)
            answer = connection.getresponse()
            return answer.read().decode(), {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()

    def do(self, kind: str, **fields: str) -> None:
        why_not = json.loads(self.ask("POST", f"/do/{kind}", **fields)[0])["why_not"]
        assert not why_not, f"{kind}: {why_not}"

    def console(self) -> int:
        family = psutil.Process(self.process.pid).children(recursive=True)
        return next(one.pid for one in family if "harness.console.process" in " ".join(one.cmdline()))

    def history(self, number: int) -> list[dict[str, Any]]:
        try:
            lines = (self.dir / f"drill-{number:02d}" / "history.jsonl").read_bytes().splitlines(keepends=True)
        except OSError:
            return []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]

    def until(self, number: int, event: str) -> float:
        """CLOCK_MONOTONIC of that event in a drill's history."""
        wait(lambda: any(one["event"] == event for one in self.history(number)), f"{event} of drill {number}")
        history = self.history(number)
        return float(history[0]["monotonic"] + next(one["at"] for one in history if one["event"] == event))

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def wait(seen: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_S
    while not seen():
        if time.monotonic() > until:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.02)


def watch(day: Day, over: threading.Event, counted: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", day.port, timeout=10)
    connection.request("GET", "/stream", headers={"Cookie": day.cookie})
    answer = connection.getresponse()
    while not over.is_set() and (line := answer.readline()):
        if line.startswith(b"event:"):
            counted.append(1)
    connection.close()


def marks(day: Day) -> list[Any]:
    """What each load process told of itself, about every 100 ms."""
    rows: Iterator[Row] = read_lines(day.dir / "windows.jsonl", Row)
    return [row for row in rows if isinstance(row, MarkRow)]


def lateness(day: Day, spans: list[tuple[float, float]]) -> list[float]:
    """The p99 of lateness over each span of the session's clock, in ms."""
    told = marks(day)
    return [lateness_p99([one for one in told if start <= one.at < end]) or float("nan") for start, end in spans]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--watchers", type=int, default=50)
    parser.add_argument("--rate", type=float, default=200.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        day = Day(Path(folder), 2 * args.tries, args.rate)
        try:
            measure(day, args)
        finally:
            day.close()


def now_of(day: Day) -> float:
    """On the session's clock: the newest mark's."""
    return float(max(one.at for one in marks(day)))


def measure(day: Day, args: argparse.Namespace) -> None:
    spans: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    events: list[int] = []
    for number in range(args.rounds):
        watched = number % 2 == 1
        over = threading.Event()
        watchers = [
            threading.Thread(target=watch, args=(day, over, events), daemon=True)
            for _ in range(args.watchers if watched else 0)
        ]
        for thread in watchers:
            thread.start()
        time.sleep(2.0)
        begun = now_of(day)
        time.sleep(ROUND_S)
        spans[watched].append((begun, now_of(day)))
        over.set()
        for thread in watchers:
            thread.join(10)
    without, with_them = lateness(day, spans[False]), lateness(day, spans[True])
    print(
        f"lateness p99: {statistics.median(without):.2f} ms without, {statistics.median(with_them):.2f} ms with "
        f"{args.watchers} watchers, {len(events):,} events read ({len(without)} and {len(with_them)} rounds)"
    )
    aborted, killed = [], []
    for number in range(1, 2 * args.tries + 1):
        wait(lambda: may(day, "begin"), "a drill that may begin")
        day.do("begin_anyway")
        day.until(number, "fault_proven")
        sent = time.monotonic()
        if number % 2:
            day.do("abort")
            aborted.append(day.until(number, "undo_verified") - sent)
        else:
            os.kill(day.console(), signal.SIGKILL)
            killed.append(day.until(number, "undo_verified") - sent)
    for what, goal, found in (("abort", 2.0, aborted), ("console killed", 1.0, killed)):
        within = sum(seconds <= goal for seconds in found)
        print(
            f"{what} to verified undo: median {statistics.median(found):.2f} s, worst {max(found):.2f} s, "
            f"within {goal:g} s {within} of {len(found)}"
        )


def may(day: Day, kind: str) -> bool:
    """Whether the operator's page offers it now; False while a console comes back."""
    try:
        page, _ = day.ask("GET", "/")
    except OSError:
        return False
    found = re.search(rf'<button id="do-{kind}"[^>]*>', page)
    return found is not None and "disabled" not in found[0]


if __name__ == "__main__":
    main()
