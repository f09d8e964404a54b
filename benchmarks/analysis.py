"""How fast is the analysis of a long run? 10 minutes at 10,000 RPS: 6 M requests, two workers, five names.

    python benchmarks/analysis.py            bounds: 3 s and 300 MB
    python benchmarks/analysis.py --keep DIR the run directory stays there

Writes the run directories first (untimed: about as many rows as the load writes, each step in three deltas a worker),
then reads and judges each in a process of its own, and prints seconds and peak memory. Half the length must take
about half the time: the analysis is linear.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from harness.model.jsonl import encode_line
from harness.model.records import events as ev
from harness.model.records.faults import Change, Dependency, FaultSpec
from harness.model.records.load import LoadPlan, Scenario, UserClass
from harness.model.records.plan import PhasePlan, Plan, PlannedFault
from harness.model.records.samples import ProcessUse, Sample
from harness.model.records.windows import ClassCounts, DeltaRow, MarkRow, RequestCounts
from harness.model.sketch import bucket_of, bucket_value
from harness.model.target_grammar import defaults
from harness.plan.schedule import planned_counts

MAX_SECONDS = 3.0
MAX_MB = 300.0
NAMES = ("POST /predict", "POST /batch/predict", "GET /anomalies", "GET /health", "GET /models")
SHARES = (0.6, 0.13, 0.12, 0.1, 0.05)
CLASSES = ("AnomalyDetectionUser", "HighThroughputUser")
WORKERS = 2
PARTS = (0.5, 0.4, 0.1)
"""How a step's requests are spread over the flushes in which they end."""
INJECT_S, FAULT_S = 120, 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=10_000.0)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        return read(options.read)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="harness-bench-"))
    figures = []
    for minutes in (options.minutes / 2, options.minutes):
        run_dir = folder / f"{minutes:g}min"
        write(run_dir, options.rate, minutes * 60)
        done = subprocess.run(
            [sys.executable, __file__, "--read", str(run_dir)], check=True, capture_output=True, text=True
        )
        seconds, cpu, megabytes = (float(part) for part in done.stdout.split()[:3])
        size = (run_dir / "windows.jsonl").stat().st_size / 1e6
        figures.append(cpu)
        print(
            f"{minutes:>5g} min at {options.rate:,.0f} RPS ({size:.0f} MB of windows): "
            f"{seconds:.2f} s (bound {MAX_SECONDS:g}; CPU {cpu:.2f} s), {megabytes:.0f} MB (bound {MAX_MB:g})"
        )
    print(f"twice the length takes {figures[1] / figures[0]:.2f} times the CPU time (linear: 2)")
    if not options.keep:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.unlink() if path.is_file() else path.rmdir()
        folder.rmdir()
    return 0 if seconds <= MAX_SECONDS and megabytes <= MAX_MB else 1


def read(run_dir: Path) -> int:
    """Analyse in this fresh process; prints wall seconds, CPU seconds, peak MB and the verdict."""
    from harness.analysis.run_directory import analyze

    begun, used = time.perf_counter(), time.process_time()
    result = analyze(run_dir)
    seconds, cpu = time.perf_counter() - begun, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    print(f"{seconds:.3f} {cpu:.3f} {peak:.1f} {result.verdict}")
    return 0


def make_plan(rate: float) -> Plan:
    load = LoadPlan(
        model="open",
        host="http://127.0.0.1:9",
        locustfile="anomaly.py",
        classes=tuple(UserClass(name=name) for name in CLASSES),
        seed=1,
        users=5000,
        spawn_rate=500,
        ramp_s=10.0,
        rate=rate,
        limits_ms=(100.0, 200.0, 500.0),
        workers=WORKERS,
    )
    change = Change(
        kind="down", dependency=Dependency(name="redis", kind="redis"), params={}, does="", undoes="", proves=""
    )
    spec = FaultSpec(name="redis-down", dependency="redis", kind="down")
    return Plan(
        experiment="bench",
        created="2026-01-01T00:00:00Z",
        scenario=Scenario(name="target", summary="", users=5000, spawn_rate=500, run_time_s=600, rate=rate),
        scale=1.0,
        stack="embedded",
        load=load,
        phases=PhasePlan(
            warmup_s=20, baseline_s=90, gap_s=12, fault_s=60, recovery_limit_s=400, hold_s=15, after_s=400, tail_s=10
        ),
        targets=defaults(True),
        faults=(PlannedFault(id="redis-down", spec=spec, change=change, at_s=0, for_s=60),),
    )


def write(run_dir: Path, rate: float, seconds: float) -> None:
    run_dir.mkdir(parents=True, exist_ok=True)
    plan = make_plan(rate)
    (run_dir / "plan.json").write_bytes(msgspec.json.encode(plan))
    undone = INJECT_S + FAULT_S
    zero = undone + 0.05
    history = [
        event(ev.Started, 0, monotonic=0.0),
        *(event(ev.PhaseStarted, at, phase=name, start_s=at) for name, at in phases(seconds)),
        event(ev.FaultRequested, INJECT_S, fault="redis-down"),
        event(ev.FaultInjected, INJECT_S + 0.01, fault="redis-down", sent_s=float(INJECT_S)),
        event(ev.FaultProven, INJECT_S + 0.05, fault="redis-down"),
        event(ev.UndoRequested, undone, fault="redis-down", sent_s=float(undone)),
        event(ev.Undone, undone + 0.01, fault="redis-down", sent_s=float(undone)),
        event(ev.UndoVerified, undone + 0.1, fault="redis-down"),
        event(ev.ZeroFound, zero, zero_s=zero, lower_s=undone, upper_s=zero + 0.02, source="probe"),
        event(ev.LoadEnded, seconds + 1, end_s=seconds),
    ]
    (run_dir / "history.jsonl").write_bytes(b"".join(encode_line(e) for e in history))
    samples = (
        Sample(at=float(at), trees={"target": ProcessUse(cpu_s=0.5 * at, rss=200_000_000 + at % 7)})
        for at in range(int(seconds))
    )
    (run_dir / "samples.jsonl").write_bytes(b"".join(encode_line(s) for s in samples))
    with (run_dir / "windows.jsonl").open("wb") as file:
        for row in rows(plan, round(seconds * 10)):
            file.write(encode_line(row))


def phases(seconds: float) -> list[tuple[str, float]]:
    undone = INJECT_S + FAULT_S
    return [
        ("warmup", 0.0),
        ("baseline", 20.0),
        ("gap", 110.0),
        ("fault", float(INJECT_S)),
        ("recovery", undone + 0.1),
        ("after", undone + 2.0),
        ("tail", seconds - 10.0),
    ]


def event(kind: type, at: float, **fields: object) -> object:
    return kind(at=float(at), wall="2026-01-01T00:00:00Z", experiment="bench", **fields)


def rows(plan: Plan, steps: int) -> object:
    draw = random.Random(1)
    counts = planned_counts(plan.load, 0, steps)
    usual, hurt = Latencies(30.0, 0.6), Latencies(120.0, 0.8)
    for step in range(steps):
        latencies = hurt if INJECT_S * 10 <= step < (INJECT_S + FAULT_S) * 10 + 15 else usual
        for worker in range(WORKERS):
            mine = {n: c[step] // WORKERS + (worker < c[step] % WORKERS) for n, c in counts.items()}
            total = sum(mine.values())
            for part, share in enumerate(PARTS):
                classes = {}
                if part == len(PARTS) - 1:
                    classes = {n: ClassCounts(planned=c, ended=c, replied=c) for n, c in mine.items()}
                requests = {
                    name: latencies.counts(round(total * weight * share), draw)
                    for name, weight in zip(NAMES, SHARES, strict=True)
                }
                yield DeltaRow(worker=f"w{worker}", step=step, classes=classes, requests=requests)
            yield MarkRow(
                worker=f"w{worker}",
                at=(step + 1) / 10 + 0.01,
                done=step + 1,
                open=[step, 200, step - 1, 40],
                cpu=0.6,
                lateness_p99_ms=2.5,
                lateness_n=total,
                users=900,
            )


class Latencies:
    """Lognormal latencies drawn bucket by bucket: as many distinct buckets as real requests fill."""

    def __init__(self, median_ms: float, sigma: float) -> None:
        low, high = bucket_of(median_ms / 12), bucket_of(median_ms * 12)
        self.buckets = list(range(low, high))
        z = [math.log(bucket_value(b) / median_ms) / sigma for b in self.buckets]
        self.cumulative = list(itertools.accumulate(math.exp(-x * x / 2) for x in z))

    def counts(self, n: int, draw: random.Random) -> RequestCounts:
        found: dict[int, int] = {}
        top = self.cumulative[-1]
        for _ in range(n):
            bucket = self.buckets[bisect.bisect(self.cumulative, draw.random() * top)]
            found[bucket] = found.get(bucket, 0) + 1
        values = [(bucket_value(b), c) for b, c in found.items()]
        over = {
            key: c
            for key, limit in (("100", 100), ("200", 200), ("500", 500))
            if (c := sum(c for v, c in values if v >= limit))
        }
        return RequestCounts(
            ok=n,
            sum_ms=sum(v * c for v, c in values),
            max_ms=max((v for v, _ in values), default=0.0),
            sketch=[x for pair in sorted(found.items()) for x in pair],
            over=over,
        )


if __name__ == "__main__":
    sys.exit(main())
