"""Are faults recorded when they really happened? The path through the proxy is watched every 2 ms, with load on.

    python benchmarks/fault_edges.py                     the embedded stack at its default scale (200 RPS): redis
    python benchmarks/fault_edges.py --external 1000     a service and Toxiproxy of our own at 1,000 RPS: payments
    python benchmarks/fault_edges.py --times 10 --scale 0.05

One run with the dependency down for 2 s and slow by 300 ms for 2 s, in turns. From outside, a process sees a connection
cut, refused and accepted, and answers held back and let go (tests/e2e/edges.py): each edge lies for certain between two
looks, some milliseconds apart. Prints how far `injected` and `undone` in history.jsonl (the reply to the statement) are
from that bracket, at least and at most; how often [sent, replied] meets it; and the same for recovery's zero, whose
doubt is about 50 ms because a probe starts every 50 ms. Bound for injected and undone: 20 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e import edges  # noqa: E402
from tests.e2e.edges import Bracket, Seen, Watcher  # noqa: E402
from tests.e2e.measured import MeasuredSystem, run_options  # noqa: E402
from tests.e2e.observe import Run  # noqa: E402
from tests.e2e.standing import StandingStack  # noqa: E402

BOUND_S = 0.020
LATENCY_S = 0.3
EVERY_S = 8.0


class Edge(NamedTuple):
    """CLOCK_MONOTONIC seconds. doubt: where the history says that it lies. truth: None when nothing was seen."""

    name: str
    recorded: float
    doubt: Bracket
    truth: Bracket | None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="of each of the two faults")
    parser.add_argument("--external", type=int, metavar="RPS", help="against an own service at this rate")
    parser.add_argument("--scale", type=float, help="of the embedded stack's load")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.external:
            found = external(folder, arguments.external, arguments.times)
        else:
            found = embedded(folder, arguments.scale, arguments.times)
    return report(found)


def timeline(dependency: str, times: int) -> str:
    repeat = f"repeat: {{every: {EVERY_S:g}s, times: {times}}}"
    return (
        "baseline: 15s\nfaults:\n"
        f"  - {{fault: {dependency}-down, at: 1s, for: 2s, {repeat}}}\n"
        f"  - {{fault: {dependency}-latency, latency: {LATENCY_S * 1000:g}ms, at: 5s, for: 2s, {repeat}}}\n"
        "targets: [p95 < 60s, error_rate < 99%, rps >= 1% of plan]\n"
    )


def external(folder: Path, rps: int, times: int) -> list[Edge]:
    system = MeasuredSystem(folder)
    try:
        watcher = Watcher(system.path.host, system.path.port)
        options = run_options("none", rps)
        return watched("payments", times, watcher, lambda path: system.start(path, *options, "--quiet"))
    finally:
        system.close()


def embedded(folder: Path, scale: float | None, times: int) -> list[Edge]:
    stack = StandingStack(folder)
    try:
        path = stack.dependency("redis")["path"]
        # It lets nobody in without a password, and says so as quickly as it would answer.
        watcher = Watcher(path["host"], path["port"], b"PING\r\n", b"-NOAUTH Authentication required.\r\n")
        more = ("--scale", f"{scale:g}") if scale else ()
        with_load = ("--scenario", "target", "--spawn-rate", "100000", "--warmup", "2s", "--request-timeout", "5s")
        env = {"XDG_STATE_HOME": str(stack.state)}
        return watched("redis", times, watcher, lambda path: Run(folder, path, *with_load, *more, "--quiet", env=env))
    finally:
        stack.down()


def watched(dependency: str, times: int, watcher: Watcher, start: Callable[[str], Run]) -> list[Edge]:
    """One run; every edge that it recorded, with what was seen of it."""
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(timeline(dependency, times))
            file.flush()
            run = start(file.name)
            run.wait_for(lambda event: event["event"] == "started")
        try:
            # What comes after the last undo says nothing about edges.
            run.wait_for(lambda _: run.count("undo_verified") == 2 * times or run.ended(), timeout_s=300)
            run.process.terminate()
            run.end()
            events = run.events()
        finally:
            run.kill_group()
        seen = watcher.stop()
    finally:
        watcher.kill()
    if not any(event["event"] == "undone" for event in events):
        raise SystemExit(run.text()[-2000:])
    result = run.result()
    generator = result["generator"]
    print(
        f"{result['scenario']}, {result['stack']}: {result['phases'][1]['rps']:.0f} RPS; load's lateness p99 "
        f"{generator['lateness_p99_ms']} ms, saturated {generator['saturated']}; load average {os.getloadavg()[0]:.1f}"
    )
    t0 = next(event["monotonic"] for event in events if event["event"] == "started")
    found = []
    for event in events:
        if event["event"] not in ("fault_injected", "undone"):
            continue
        injected = event["event"] == "fault_injected"
        down = "-down" in event["fault"]
        sent, recorded = event["sent_s"] + t0, event["at"] + t0
        name = ("down" if down else "latency") + (" injected" if injected else " undone")
        real = truth(seen, down, injected, recorded)
        found.append(Edge(name, recorded, (sent, recorded), real))
        zeros = [e for e in events if e["event"] == "zero" and 0 <= e["zero_s"] - event["sent_s"] < EVERY_S / 3]
        if zeros and not injected:
            zero, low, high = (zeros[0][key] + t0 for key in ("zero_s", "lower_s", "upper_s"))
            found.append(Edge(f"zero after {name.split()[0]}", zero, (low, high), real))
    return found


def truth(seen: Seen, down: bool, injected: bool, about: float) -> Bracket | None:
    if down:
        return edges.cut(seen, about) if injected else edges.opened(seen, about)
    return edges.slowed(seen, about, LATENCY_S) if injected else edges.quickened(seen, about, LATENCY_S)


def report(found: list[Edge]) -> int:
    worst = 0.0
    print(
        "\n| edge | seen | error at least, median / worst | error at most, median / worst | bracket, median "
        "| recorded doubt meets it |\n|---|---|---|---|---|---|"
    )
    for name in sorted({edge.name for edge in found}):
        all_of = [edge for edge in found if edge.name == name]
        seen = [(edge, edge.truth) for edge in all_of if edge.truth is not None]
        if not seen:
            print(f"| {name} | 0 of {len(all_of)} | – | – | – | – |")
            worst = float("inf")
            continue
        least = [max(0.0, low - edge.recorded, edge.recorded - high) for edge, (low, high) in seen]
        most = [max(abs(edge.recorded - low), abs(edge.recorded - high)) for edge, (low, high) in seen]
        widths = [high - low for _, (low, high) in seen]
        meets = sum(edge.doubt[0] <= high and low <= edge.doubt[1] for edge, (low, high) in seen)
        if not name.startswith("zero"):
            worst = max(worst, *least)
        print(
            f"| {name} | {len(seen)} of {len(all_of)} | {_ms(least)} | {_ms(most)} "
            f"| {statistics.median(widths) * 1000:.1f} ms | {meets} of {len(seen)} |"
        )
    print(f"\nworst error of an edge: {worst * 1000:.1f} ms at least (bound {BOUND_S * 1000:g} ms)")
    return 0 if worst <= BOUND_S else 1


def _ms(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:.1f} / {max(values) * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
