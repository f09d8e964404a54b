"""What a request costs the generator, beside the tools people would take instead: CPU time, all against one nginx.

    python benchmarks/load_cpu.py [paced] [saturated] [locust] [trace] [--rate 5000] [--seconds 8] [--rounds 3]

paced       the open model at a rate, with recording: the harness with its own client, vegeta, k6
saturated   as fast as one process goes: the harness (closed model, with recording), wrk, plain Locust with FastHttpUser
            and with our client
trace       the open model at a rate, with a traceparent on each request, and without
locust      the same users (FastHttpUser) at the same rate: the open model with recording, and plain Locust

In turns, several rounds; a line each, and the median of the ratios of each round. nginx is held to one process. What is
missing is installed first (benchmarks/tools.py).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import generators as g
import tools
from generators import Cost

WARM_UP_S = 2.0
USERS = 20
LOCUST_RATE = 600
"""One process of plain Locust with FastHttpUser keeps it up."""
OURS = "harness"
PARTS = ["paced", "saturated", "locust", "trace"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; all of them where none is named")
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    parts = options.parts or PARTS
    # Not by choices=, which refuses that there are none.
    if not set(parts) <= set(PARTS):
        parser.error(f"the parts are {', '.join(PARTS)}")
    print(tools.machine(), flush=True)
    with tempfile.TemporaryDirectory() as folder, g.nginx(tools.find("nginx")) as server:
        lean = g.write_locustfile(Path(folder), lean=True)
        fast = g.write_locustfile(Path(folder), lean=False)
        # Users of constant_throughput that were spawned together would ask together, which the open model does not.
        paced = g.write_locustfile(Path(folder), lean=False, wait="between(0.05, 0.15)")
        for part in parts:
            compare(part, runs(part, server, lean, fast, paced, options.rate, options.seconds), options.rounds)


def runs(
    part: str, server: g.Nginx, lean: Path, fast: Path, paced: Path, rate: int, seconds: float
) -> dict[str, tuple[Callable[[], Cost], str]]:
    """name -> (how to measure it, the goal of the harness beside it)."""
    span = {"warm_up_s": WARM_UP_S, "seconds": seconds}
    if part == "paced":
        vegeta, k6 = tools.find("vegeta"), tools.find("k6")
        return {
            OURS: (lambda: g.harness(lean, server, rate=rate, **span), ""),
            "vegeta": (lambda: g.vegeta(vegeta, server, rate, **span), "at most 1"),
            "k6": (lambda: g.k6(k6, server, rate, **span), "at most 0.5"),
        }
    if part == "saturated":
        wrk = tools.find("wrk")
        return {
            OURS: (lambda: g.harness(lean, server, users=USERS, **span), "at most 60 us"),
            "wrk": (lambda: g.wrk(wrk, server, users=USERS, **span), ""),
            "Locust, our client": (lambda: g.plain_locust(lean, server, users=USERS, **span), ""),
            "Locust, FastHttpUser": (lambda: g.plain_locust(fast, server, users=USERS, **span), ""),
        }
    if part == "trace":
        return {
            OURS: (lambda: g.harness(lean, server, rate=rate, trace=True, **span), ""),
            "without tracing": (lambda: g.harness(lean, server, rate=rate, **span), "at most 1.05"),
        }
    return {
        OURS: (lambda: g.harness(fast, server, rate=LOCUST_RATE, **span), ""),
        "Locust": (lambda: g.plain_locust(paced, server, users=LOCUST_RATE // 10, **span), "at most 1.05"),
    }


def compare(part: str, measures: dict[str, tuple[Callable[[], Cost], str]], rounds: int) -> None:
    print(f"\n{part}")
    found: dict[str, list[Cost]] = {name: [] for name in measures}
    for i in range(rounds):
        # Whoever goes first finds other caches and clocks: in every second round that is the other end of the list.
        for name, (measure, _) in list(measures.items())[:: 1 if i % 2 == 0 else -1]:
            cost = measure()
            found[name].append(cost)
            print(f"  {i + 1}  {name:<22}{cost.us:8.1f} us {cost.rps:9.0f} RPS  {cost.unmet}", flush=True)
    for name, (_, goal) in measures.items():
        us = statistics.median(cost.us for cost in found[name])
        ratio = statistics.median(a.us / b.us for a, b in zip(found[OURS], found[name], strict=True))
        beside = f"harness/{name} {ratio:.2f}" if name != OURS else ""
        print(f"  median {name:<22}{us:8.1f} us  {beside}{f' (goal: {goal})' if goal else ''}")


if __name__ == "__main__":
    main()
