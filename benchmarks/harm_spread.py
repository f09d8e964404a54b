"""How much does harm differ from run to run of the same? What a comparison can show depends on it.

    python benchmarks/harm_spread.py                               30 runs of kafka-latency on the defect sync-kafka
    python benchmarks/harm_spread.py --defect no-fallback --fault redis-down --runs 30 --rate 100

Runs the experiment so many times in one session on the embedded stack (`harness run --repeat`), and prints each run's
harm, its median and range, the standard deviation of log(harm + 10) of single runs, and that of the log ratio within
pairs of neighbours, with the 90 % interval of each (chi-square), and what 10 pairs of such a spread can show.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from harness.analysis.comparison.answer import log_harm
from harness.analysis.comparison.power import what_pairs_show

HARNESS = Path(sys.executable).with_name("harness")
MARGIN = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--defect", default="sync-kafka", help="of the sample API; none: as shipped")
    parser.add_argument("--fault", default="kafka-latency")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--rate", default="100")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        words = ["run", "--fault", given.fault, "--rate", given.rate, "--repeat", str(given.runs), "--out", out]
        words += ["--baseline", "15s", "--fault-for", "10s", "--quiet"]
        environment = {**os.environ, "ANOMALY_API_DEFECT": "" if given.defect == "none" else given.defect}
        done = subprocess.run([str(HARNESS), *words], env=environment, capture_output=True, text=True, check=False)
        found = sorted(Path(out).glob("*-suite/suite.json"))
        if not found:
            raise SystemExit(f"harness {' '.join(words)} ended with {done.returncode}: {done.stderr[-500:]}")
        experiments = json.loads(found[0].read_text())["experiments"]
    harms = [attempt.get("harm") for one in experiments for attempt in one["attempts"]]
    print(f"{given.fault} on {given.defect}, {given.rate} requests/s, {len(harms)} runs in one session")
    print("harm:", ", ".join("-" if harm is None else f"{harm:.0f}" for harm in harms))
    known = [harm for harm in harms if harm is not None]
    print(f"median {statistics.median(known):.0f}, from {min(known):.0f} to {max(known):.0f}")
    logs = [None if harm is None else log_harm(harm) for harm in harms]
    single = [one for one in logs if one is not None]
    ratios = [b - a for a, b in zip(logs[::2], logs[1::2], strict=False) if a is not None and b is not None]
    told("SD of log(harm + 10), single runs", statistics.stdev(single), len(single) - 1)
    within = math.sqrt(statistics.fmean(one * one for one in ratios))
    told(f"SD of the log ratio within {len(ratios)} pairs of neighbours", within, len(ratios))
    shown = what_pairs_show(10, within, len(ratios), MARGIN)
    print(f"10 pairs of such a spread: {shown}")
    return 0


def told(what: str, spread: float, free: int) -> None:
    """With the 90 % interval of a standard deviation: Wilson and Hilferty's approximation of chi-square."""

    def chi(z: float) -> float:
        part = 2 / (9 * free)
        return float(free * (1 - part + z * math.sqrt(part)) ** 3)

    low, high = (spread * math.sqrt(free / chi(z)) for z in (1.645, -1.645))
    print(f"{what}: {spread:.2f} (90 % interval {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    sys.exit(main())
