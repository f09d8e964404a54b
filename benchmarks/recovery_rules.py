"""How accurate are the rules of recovery? Simulated runs with known truth.

    python benchmarks/recovery_rules.py [--runs 100] [--rates 20,50,200,1000,10000]

Poisson arrivals, 60 s of baseline and of fault, true recovery 1 to 5 s after the undo, error target 1 %. A cell is
the 95th percentile of the error of `recovery.seconds`, and how often lower_s..upper_s held the truth, over the runs
in which the service was called recovered (the share of others is given where there are any). Seeded: prints the same
every time, in some four minutes on an idle core.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "analysis"))

import synthetic

ACCURACY = {
    "100 % failing": synthetic.failing(1.0),
    "60 %, 0.5 % background": synthetic.failing(0.6, 0.005),
    "20 %": synthetic.failing(0.2),
    "5 %": synthetic.failing(0.05),
    "hard, then a tail of 10 %": synthetic.HARD_THEN_TAIL,
    "no impact": synthetic.NO_IMPACT,
    "harmless pauses": synthetic.PAUSES,
    "well 2 s before the undo, 0.5 % background": synthetic.failing(0.2, 0.005, early_s=2.0),
}
"""Shown as error and coverage."""

OUTCOMES = {
    "stays at 1.5 %": synthetic.never(0.015),
    "stays at 2 %": synthetic.never(0.02),
    "20 % failing, then 1.5 % for ever": synthetic.partly(0.2, 0.015),
}
"""Never recover: shown as the share called recovered, undecided and not recovered."""


def accuracy(case: synthetic.Case, rps: int, runs: int, name: str) -> str:
    all_runs = [synthetic.simulate(case, rps, f"{name} {rps} {i}") for i in range(runs)]
    judged = [run for run in all_runs if run.called_healthy]
    if not judged:
        return "none recovered"
    errors = sorted(run.error_s for run in judged)
    p95 = errors[math.ceil(0.95 * len(errors)) - 1]
    held = sum(run.holds_truth for run in judged) / len(judged)
    others = "" if len(judged) == runs else f" ({1 - len(judged) / runs:.0%} others)"
    return f"{p95:.2f} / {held:.0%}{others}"


def outcomes(case: synthetic.Case, rps: int, runs: int, name: str) -> str:
    found = [synthetic.simulate(case, rps, f"{name} {rps} {i}").recovery.outcome for i in range(runs)]
    shares = [
        sum(o in kinds for o in found) / runs
        for kinds in (("recovered", "no_impact"), ("undecided",), ("not_recovered",))
    ]
    return " / ".join(f"{share:.0%}" for share in shares)


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of the recovery rules on simulated runs.")
    parser.add_argument("--runs", type=int, default=100, help="simulated runs a cell")
    parser.add_argument("--rates", default=",".join(map(str, synthetic.RATES)), help="requests per second")
    arguments = parser.parse_args()
    rates = [int(rate) for rate in arguments.rates.split(",")]
    began = time.monotonic()
    print("Error of the recovery time (95th percentile, s) / how often the interval held the truth")
    print_table(ACCURACY, rates, accuracy, arguments.runs)
    print("\nServices that never recover: called recovered / undecided / not recovered")
    print_table(OUTCOMES, rates, outcomes, arguments.runs)
    print(f"\n{arguments.runs} runs a cell, {time.monotonic() - began:.0f} s", file=sys.stderr)


def print_table(cases, rates, cell, runs) -> None:  # type: ignore[no-untyped-def]
    print("\n| RPS | " + " | ".join(cases) + " |")
    print("|---" * (len(cases) + 1) + "|")
    for rps in rates:
        print(
            f"| {rps:,} | " + " | ".join(cell(case, rps, runs, name) for name, case in cases.items()) + " |", flush=True
        )


if __name__ == "__main__":
    main()
