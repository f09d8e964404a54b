"""Whether the rate is held: the open model at 10,000 arrivals a second, beside vegeta and k6.

    python benchmarks/rate.py [--rate 10000] [--workers 2] [--seconds 15] [--rounds 1]

All three against one nginx on the same machine, in turns. Prints for the harness, from its own rows: arrivals planned,
unsent, failed, and the 99th percentile of lateness (from the instant at which an arrival was meant to start to when it
was taken off the schedule). For all: requests that nginx counted a second, and CPU time a request.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import generators as g
import tools

from harness.analysis.rules.generator import lateness_p99
from harness.model.jsonl import read_lines
from harness.model.records.windows import DeltaRow, MarkRow, Row

WARM_UP_S = 3.0
MAX_LATE_MS = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    print(tools.machine(), flush=True)
    span = {"warm_up_s": WARM_UP_S, "seconds": options.seconds}
    with tempfile.TemporaryDirectory() as name, g.nginx(tools.find("nginx")) as server:
        folder = Path(name)
        file = g.write_locustfile(folder, lean=True)
        for _ in range(options.rounds):
            spans: list[tuple[float, float]] = []
            windows = folder / "windows.jsonl"
            windows.unlink(missing_ok=True)
            cost = g.harness(
                file, server, rate=options.rate, workers=options.workers, keep=folder,
                measured=lambda *found, into=spans: into.append(found), **span,
            )  # fmt: skip
            say(f"harness, {options.workers} workers", cost, account(windows, *spans[0]))
            say("vegeta", g.vegeta(tools.find("vegeta"), server, options.rate, **span))
            k6 = g.k6(tools.find("k6"), server, options.rate, **span)
            say("k6", k6, k6.unmet)


def say(name: str, cost: g.Cost, more: str = "") -> None:
    print(f"{name:<20}{cost.rps:9.0f} RPS {cost.us:8.1f} us  {more}", flush=True)


def account(windows: Path, start_s: float, end_s: float) -> str:
    """Of the measured span, in seconds since t0."""
    planned = unsent = failed = 0
    marks: list[MarkRow] = []
    for row in read_lines(windows, Row):
        if isinstance(row, DeltaRow) and start_s <= row.step / 10 < end_s:
            for counts in row.classes.values():
                planned += counts.planned
                unsent += counts.unsent_cap + counts.unsent_generator
            failed += sum(sum(counts.fail.values()) for counts in row.requests.values())
        elif isinstance(row, MarkRow) and start_s <= row.at < end_s:
            marks.append(row)
    late = lateness_p99(marks)
    said = f"planned {planned}, unsent {unsent}, failed {failed}"
    if late is None:
        return said
    met = "met" if unsent == 0 and late <= MAX_LATE_MS else "not met"
    return f"{said}, lateness p99 {late:.1f} ms (goal: 0 unsent, at most {MAX_LATE_MS:g} ms: {met})"


if __name__ == "__main__":
    main()
