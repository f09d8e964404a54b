"""Is each of eight alert rules of known quality classed as what it is, and is the time to detect right?

    python benchmarks/detection.py [--rounds 3]

An outage of 12 s on a real Prometheus and Alertmanager (on PATH), whose rules are evaluated each second: one is right,
others have too long a `for`, a wrong label, a window longer than the outage, absent(), flap, are inhibited, or always
fire. The truth is Prometheus's own series. Exit 1 where a class is wrong, or a time is off by more than one evaluation
interval.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.e2e.eight_rules import CLASSES, eight_rules

INTERVAL_S = 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    bad = 0
    for number in range(parser.parse_args().rounds):
        with tempfile.TemporaryDirectory() as folder:
            seen = eight_rules(Path(folder))
        classed = {one.alert: one.outcome for one in seen.found.alerts}
        right = next(one for one in seen.found.alerts if one.alert == "Right")
        wrong = {name: outcome for name, outcome in classed.items() if CLASSES[name] != outcome}
        off_s = abs((right.fired_s or 0.0) - seen.truth_s)
        bad += bool(wrong) or off_s > INTERVAL_S
        said = f", wrong: {wrong}" if wrong else ""
        print(f"round {number + 1}: {len(CLASSES) - len(wrong)} of {len(CLASSES)} rules classed right{said};", end=" ")
        print(f"detected {right.seconds or 0:.2f} s after the impact began, {off_s:.2f} s from the truth", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
