"""Does the harness's own memory stay flat in a long run?

    python benchmarks/soak.py --minutes 60
    python benchmarks/soak.py --minutes 20 --rate 1000 --workers 2

One real `harness run` on the embedded stack (redis-latency for 10 s, then load for the rest of the time as the hold's
soak), at its default load of 200 RPS. The resident memory of conductor, load processes and keeper is read every 2 s
from outside. Prints, for each, start, end and highest, and the slope from the third minute of the soak on with its
95 % bounds (least squares; block bootstrap over 10 s, as the harness judges a service's memory), and how many users
the load had at the start and the end of that time: a hiccup of the service starts more of them, and they stay. Flat:
the lower bound of the slope is not above 2 MB an hour, or less than 1 MB was gained. Exit code 1 where one is not.

What ends the run (judging it, the report) is not part of the slope; its highest memory is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness.analysis.rules.memory import trend  # noqa: E402
from harness.model.jsonl import read_lines  # noqa: E402
from harness.model.records.windows import MarkRow, Row  # noqa: E402
from tests.e2e.observe import Run  # noqa: E402

EVERY_S = 2.0
DROP_S = 180.0
MB = 1e6
FLAT_MB_H = 2.0
NOISE_MB = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", help="requests a second (default: that of the scenario at 2 %%)")
    parser.add_argument("--workers", help="load processes")
    options = parser.parse_args()
    more = [w for name in ("rate", "workers") if (value := getattr(options, name)) for w in (f"--{name}", value)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = Run(
            folder,
            *("--fault", "redis-latency", "--scenario", "target", "--warmup", "10s", "--baseline", "15s"),
            *("--fault-for", "10s", "--soak", f"{options.minutes:g}m", "--quiet", *more),
            # A busy machine is no reason to end early.
            *("--target", "p95 < 60s", "--target", "error_rate < 99%", "--target", "rps >= 1% of plan"),
        )
        try:
            points = watch(run)
        finally:
            run.kill_group()
        if not points:
            raise SystemExit(run.text()[-2000:])
        zero = next(event["monotonic"] for event in run.events() if event["event"] == "started")
        phases = {event["phase"]: event["start_s"] + zero for event in run.events() if event["event"] == "phase"}
        if "tail" not in phases:
            raise SystemExit(f"the run ended early:\n{run.text()[-2000:]}")
        files = " ".join(f"{path.name} {path.stat().st_size / MB:.1f} MB" for path in sorted(run.dir.glob("*.jsonl")))
        print(f"exit code {run.process.returncode}; {files}")
        start, end = phases["after"] + DROP_S, phases["tail"]
        print("users: {} at the start, {} at the end".format(*users(run.dir, start - zero, end - zero)))
        return report(points, start, end)


def users(run: Path, *instants: float) -> list[int]:
    """Alive at each instant (seconds since the schedule's start), over all load processes."""
    alive: dict[str, list[int]] = {}
    for row in read_lines(run / "windows.jsonl", Row):
        if isinstance(row, MarkRow):
            counts = alive.setdefault(row.worker, [0] * len(instants))
            for place, instant in enumerate(instants):
                if row.at <= instant:
                    counts[place] = row.users
    return [sum(column) for column in zip(*alive.values(), strict=True)]


def watch(run: Run) -> dict[str, list[tuple[float, float]]]:
    """(CLOCK_MONOTONIC seconds, bytes) of each process of the harness, until the run has ended."""
    points: dict[str, list[tuple[float, float]]] = {}
    known: dict[psutil.Process, str] = {}
    looked = 0.0
    while run.process.poll() is None:
        now = time.monotonic()
        if now - looked > 10.0:
            looked, known = now, processes(run.process)
        for process, name in known.items():
            with contextlib.suppress(psutil.Error):
                points.setdefault(name, []).append((now, float(process.memory_info().rss)))
        time.sleep(EVERY_S)
    return points


def processes(run: subprocess.Popen[bytes]) -> dict[psutil.Process, str]:
    """The harness's own, by what they are; the keeper has a session of its own and may be nobody's child."""
    found: dict[psutil.Process, str] = {}
    with contextlib.suppress(psutil.Error):
        conductor = psutil.Process(run.pid)
        found[conductor] = "conductor"
        ours = conductor.children(recursive=True)
        for process in ours:
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if "harness.load" in words:
                    master = process.parent() == conductor
                    found[process] = "load" if master else f"worker {process.pid}"
                elif "harness.safety.keeper.keeper" in words:
                    found[process] = "keeper"
    return found


def report(points: dict[str, list[tuple[float, float]]], start: float, end: float) -> int:
    flat = True
    print("| process | start | end | highest | slope a hour | at least | seconds |\n|---|---|---|---|---|---|---|")
    for name, all_of in points.items():
        used = [point for point in all_of if start <= point[0] < end]
        found = trend(used, seed=1)
        if found is None:
            print(f"| {name} | too short | | | | | |")
            continue
        slope, lower = found.slope * found.start / MB, found.lower * found.start / MB
        flat &= lower <= FLAT_MB_H or found.growth < NOISE_MB * MB
        sizes = [f"{size / MB:.1f} MB" for size in (used[0][1], used[-1][1], max(rss for _, rss in all_of))]
        print(f"| {name} | {' | '.join(sizes)} | {slope:+.2f} MB | {lower:+.2f} MB | {found.seconds:.0f} |")
    print(f"load average {os.getloadavg()[0]:.1f}; {'flat' if flat else 'NOT flat'}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
