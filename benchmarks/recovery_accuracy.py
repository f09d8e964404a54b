"""How accurate is a run's answer? Real runs against a service whose outage has known instants.

    python benchmarks/recovery_accuracy.py                              all kinds at 50, 200 and 1,000 RPS, once each
    python benchmarks/recovery_accuracy.py --rps 200 --kind hard,5% --repeat 10 --jobs 4 --csv rows.csv

Each run is the real command with real load, and the shortest phases that the rules allow (about 45 s): `payments-down`
on a real Toxiproxy, and a service in a process of its own that breaks 0.5 to 1.5 s after the injection and is well
again 1 to 5 s after the undo (tests/e2e/programmable.py: by the clock, at every single request). A second kind of run,
`--mode mitigated`, breaks for 2 to 4 s while the fault is on, and is well when the undo comes. Target:
`error_rate < 1%`; for slow and hang `p95 < 500ms` too.

Prints, by kind and rate, the errors of recovery, impact start and time to mitigate against the truth (median and worst,
seconds), how often the interval held the true recovery, and beside it what docs/measurement.md promises for the rules
alone (95th percentile and coverage, simulated). Runs that were not called recovered (or not hurt, where that is the
truth) are counted as others, with their reasons. --csv writes one row a run.
"""

from __future__ import annotations

import argparse
import csv
import os
import queue
import random
import statistics
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.e2e import programmable  # noqa: E402
from tests.e2e.measured import MeasuredSystem, error, recovery_truth, run_options, watch  # noqa: E402

PROMISED = {
    "none": {50: "0", 200: "0", 1000: "0", 5000: "0"},
    "hard": {50: "0.06 / 100 %", 200: "0.07 / 100 %", 1000: "0.06 / 100 %", 5000: "0.06 / 100 %"},
    "60%": {50: "0.11 / 100 %", 200: "0.07 / 100 %", 1000: "0.06 / 100 %", 5000: "0.07 / 100 %"},
    "20%": {50: "0.23 / 99 %", 200: "0.08 / 100 %", 1000: "0.08 / 100 %", 5000: "0.08 / 100 %"},
    "5%": {50: "2.18 / 88 %", 200: "0.26 / 99 %", 1000: "0.08 / 100 %", 5000: "0.08 / 100 %"},
    "tail": {50: "2.02 / 76 %", 200: "1.06 / 92 %", 1000: "0.08 / 100 %", 5000: "0.08 / 100 %"},
}
"""Of the rules alone, as `recovery_rules.py` printed them (docs/measurement.md); for 5,000 those at 10,000."""


class Row(msgspec.Struct):
    """One run. Times in seconds; *_error: what the run said less the truth."""

    kind: str
    rps: int
    mode: str
    number: int
    verdict: str
    outcome: str
    true_s: float | None = None
    seconds: float | None = None
    lower_s: float | None = None
    upper_s: float | None = None
    recovery_error: float | None = None
    holds: bool | None = None
    impact_error: float | None = None
    mitigated_error: float | None = None
    at_least: bool | None = None
    served_late_s: float | None = None
    lateness_p99_ms: float | None = None
    unsent: int | None = None
    saturated: bool | None = None
    machine_load: float | None = None
    why: str = ""

    def well(self) -> bool:
        """Called recovered, or not hurt where it was well before the undo."""
        return self.outcome in ("recovered", "no_impact")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rps", default="50,200,1000")
    every = ",".join(programmable.KINDS)
    parser.add_argument("--kind", default=every, help=f"of {every.replace('%', '%%')}")
    parser.add_argument("--mode", default="recovery", help="recovery, mitigated, or both with a comma")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, each with servers of its own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--keep", type=Path, help="leave the run directories here")
    options = parser.parse_args()
    kinds = options.kind.split(",")
    if unknown := set(kinds) - set(programmable.KINDS):
        parser.error(f"no such kind: {', '.join(unknown)}")
    cells: queue.SimpleQueue[tuple[Any, ...]] = queue.SimpleQueue()
    for number in range(options.repeat):
        for rps in map(int, options.rps.split(",")):
            for mode in options.mode.split(","):
                for kind in kinds:
                    if mode == "recovery" or kind not in ("none", "tail"):
                        cells.put((kind, rps, mode, options.seed + number))
    rows: list[Row] = []
    print(f"{cells.qsize()} runs, {options.jobs} side by side", file=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        jobs = [
            threading.Thread(target=work, args=(folder / f"job{job}", cells, rows, options.csv))
            for job in range(options.jobs)
        ]
        for job in jobs:
            job.start()
        for job in jobs:
            job.join()
    for mode in options.mode.split(","):
        print_table([row for row in rows if row.mode == mode], mode)
    return 0


def work(folder: Path, cells: queue.SimpleQueue[tuple[Any, ...]], rows: list[Row], to: Path | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    system = MeasuredSystem(folder)
    try:
        while True:
            try:
                kind, rps, mode, number = cells.get_nowait()
            except queue.Empty:
                return
            row = one(system, kind, rps, mode, number)
            rows.append(row)
            if to is not None:
                write(to, rows)
            print(
                f"{kind:9} {rps:5} {mode:9} {row.outcome:13} true {_text(row.true_s)} "
                f"found {_text(row.seconds)} in [{_text(row.lower_s)}, {_text(row.upper_s)}], "
                f"impact {_text(row.impact_error)}, mitigated {_text(row.mitigated_error)} {row.why}",
                file=sys.stderr,
            )
    finally:
        system.close()


def one(system: MeasuredSystem, kind: Any, rps: int, mode: str, number: int) -> Row:
    draw = random.Random(f"{kind} {rps} {mode} {number}")
    row = Row(kind, rps, mode, number, "none", "run failed")
    more = ["--fault", "payments-down", "--seed", str(draw.randrange(1_000_000)), "--quiet"]
    if mode == "mitigated":
        # The rest of the phase must be longer than the longest window.
        more += ["--fault-for", "16s"]
    run = system.start(*run_options(kind, rps), *more)
    try:
        truth = watch(run, system.service, kind, draw, mitigated=mode == "mitigated")
        run.end()
        result = run.result()
    except AssertionError as problem:
        row.why = run.text().strip().replace("\n", " ")[-300:] or str(problem)[:300]
        return row
    finally:
        run.kill_group()
        system.service.plan()
    found, generator = result["recovery"], result["generator"]
    row.verdict, row.outcome = result["verdict"], found["outcome"]
    row.true_s = recovery_truth(result, truth)
    row.seconds, row.lower_s, row.upper_s = found["seconds"], found["lower_s"], found["upper_s"]
    row.recovery_error = error(row.seconds, row.true_s)
    if row.true_s is not None and row.lower_s is not None and row.upper_s is not None:
        row.holds = row.lower_s <= row.true_s <= row.upper_s
    row.impact_error = error(result["impact"]["start_s"], truth.start)
    if mode == "mitigated":
        row.mitigated_error = error(result["impact"]["mitigated_s"], truth.end)
        row.at_least = result["impact"]["mitigated_at_least"]
    row.served_late_s = max((change.first_after - change.at for change in truth.changes), default=None)
    row.lateness_p99_ms, row.unsent = generator["lateness_p99_ms"], generator["unsent"]
    row.saturated = bool(generator["saturated"])
    row.machine_load = os.getloadavg()[0]
    if not row.well():
        row.why = found["why"] or "; ".join(result["reasons"])
    return row


def write(to: Path, rows: list[Row]) -> None:
    with to.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(Row.__struct_fields__)
        table.writerows(msgspec.structs.astuple(row) for row in rows)


def print_table(rows: list[Row], mode: str) -> None:
    print(
        f"\n{mode}: errors in seconds, median / worst\n\n"
        "| RPS | kind | runs | recovery | interval holds | width | others | impact start | mitigated | rules alone |\n"
        "|---|---|---|---|---|---|---|---|---|---|"
    )
    for rps, kind in sorted({(row.rps, row.kind) for row in rows}, key=lambda c: (c[0], _order(c[1]))):
        cell = [row for row in rows if (row.rps, row.kind) == (rps, kind)]
        well = [row for row in cell if row.well()]
        widths = [row.upper_s - row.lower_s for row in well if row.upper_s is not None and row.lower_s is not None]
        held = sum(bool(row.holds) for row in well)
        print(
            f"| {rps:,} | {kind} | {len(cell)} | {_errors(row.recovery_error for row in well)} "
            f"| {held} of {len(well)} | {statistics.median(widths) if widths else 0:.2f} | {len(cell) - len(well)} "
            f"| {_errors(row.impact_error for row in cell)} | {_errors(row.mitigated_error for row in cell)} "
            f"| {PROMISED.get(kind, {}).get(rps, '–') if mode == 'recovery' else '–'} |"
        )
    late = [row.lateness_p99_ms for row in rows if row.lateness_p99_ms is not None]
    served = [row.served_late_s for row in rows if row.served_late_s is not None]
    loads = [row.machine_load for row in rows if row.machine_load is not None]
    print(
        f"\nload average {min(loads, default=0):.1f} to {max(loads, default=0):.1f}; lateness p99 of a run at most "
        f"{max(late, default=0):.1f} ms; saturated: {sum(bool(row.saturated) for row in rows)} of {len(rows)} runs; "
        f"first request after a change at most {max(served, default=0) * 1000:.0f} ms after it"
    )


def _order(kind: str) -> int:
    return [*programmable.KINDS].index(kind)  # type: ignore[arg-type]


def _errors(found: Any) -> str:
    sizes = sorted(abs(value) for value in found if value is not None)
    return f"{statistics.median(sizes):.2f} / {sizes[-1]:.2f}" if sizes else "–"


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
