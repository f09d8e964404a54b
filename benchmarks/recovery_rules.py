"""Do the rules of measurement hold what they promise? Simulated runs with known truth, judged as real ones are.

    python benchmarks/recovery_rules.py [--runs 200] [--jobs 2] [--only REGEX] [--rates 20,50,200,1000,10000]
        [--live]

Every run is a complete record (benchmarks/simulated.py) that `harness.analysis.verdict.judge` turns into a result. A
row of a table is a cell: a kind of service at a rate, what was seen over its runs, the bound on it and whether it is
met. Error and interval of recovery are over the runs called recovered. Seeded: prints the same every time. Exit 1 when
a bound is missed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from conducted import Seen, simulate, targets_of
from recovery_cells import CELLS, GROUPS, MATRICES, Cell, Measure, Runs

from harness.model.errors import UsageError

Task = tuple[str, int, int, bool]
"""(cell, requests a second, number of the run, whether the live rules say when the service has recovered)."""
HEAD = "| service | RPS | runs | seen | bound | |\n|---|---|---|---|---|---|"
Mapper = Callable[[list[Task]], Iterable[Seen]]


def one(task: Task) -> Seen:
    name, rate, number, live = task
    return simulate(CELLS[name].case, rate, f"{name} {rate} {number}", by_live_rules=live)


def main() -> int:
    parser = argparse.ArgumentParser(description="The rules of measurement on simulated runs with known truth.")
    parser.add_argument("--runs", type=int, default=200, help="simulated runs a cell")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--only", default="", metavar="REGEX", help='cells whose name it matches, such as "^9 .*5 %%"')
    parser.add_argument("--rates", default="20,50,200,1000,10000", help="requests per second")
    parser.add_argument("--live", action="store_true", help="the live rules say when the service has recovered")
    parser.add_argument("--list", action="store_true", help="print the names of the cells")
    arguments = parser.parse_args()
    rates = {int(rate) for rate in arguments.rates.split(",")}
    chosen = [name for name, cell in CELLS.items() if re.search(arguments.only, name) and rates & set(cell.rates)]
    if arguments.list:
        print("\n".join(chosen))
        return 0
    began = time.monotonic()
    if arguments.jobs > 1:
        with multiprocessing.Pool(arguments.jobs) as pool:
            missed, made = tables(chosen, rates, arguments, lambda tasks: pool.imap(one, tasks, chunksize=5))
    else:
        missed, made = tables(chosen, rates, arguments, lambda tasks: map(one, tasks))
    print(f"\n{made:,} runs in {time.monotonic() - began:.0f} s", file=sys.stderr)
    print(f"\n{len(missed)} cells missed a bound." if missed else "\nEvery bound was met.")
    for name in missed:
        print(f"- {name}")
    return 1 if missed else 0


def tables(chosen: list[str], rates: set[int], asked: argparse.Namespace, mapper: Mapper) -> tuple[list[str], int]:
    """Print a table a group; (cells that missed a bound, runs made)."""
    missed: list[str] = []
    made = 0
    for group, title in GROUPS.items():
        cells = [name for name in chosen if CELLS[name].group == group]
        if not cells:
            continue
        print(
            f"\n## {group}. {title}\n\n| service | RPS | runs | seen | bound | |\n|---|---|---|---|---|---|", flush=True
        )
        figures: dict[tuple[str, int], str] = {}
        for name, rate in pairs(cells, rates):
            cell = CELLS[name]
            if (why := unknown_target(cell)) is not None:
                print(f"| {cell.name} | {rate:,} | 0 | not tried: {why} | | |", flush=True)
                continue
            seen = list(mapper([(name, rate, i, asked.live) for i in range(round(cell.times * asked.runs))]))
            made += len(seen)
            line, met = row(cell, rate, seen)
            print(line, flush=True)
            figures[(cell.column, rate)] = brief(cell, rate, seen)
            if met is False:
                missed.append(f"{name}, {rate:,} RPS")
            print(f"{name}, {rate:,} RPS: {cost(seen)}", file=sys.stderr, flush=True)
        if group in MATRICES and len(figures) > 1:
            print_matrix(figures)
    return missed, made


def pairs(cells: list[str], rates: set[int]) -> Iterator[tuple[str, int]]:
    return ((name, rate) for name in cells for rate in CELLS[name].rates if rate in rates)


def unknown_target(cell: Cell) -> str | None:
    """Why the cell cannot be tried with the grammar as it is."""
    try:
        targets_of(cell.case.targets, cell.case.only)
    except UsageError as error:
        return f"the grammar does not know it ({error})"
    return None


def row(cell: Cell, rate: int, seen: Runs) -> tuple[str, bool | None]:
    """(the line, whether every bound is met; None: there is none)."""
    told, bounds, met = [], [], []
    for measure in cell.measures(rate):
        value = measure.value(seen)
        told.append(f"{measure.label} {shown(value, measure)}")
        verdict = measure.met(value)
        if verdict is not None:
            met.append(verdict)
            bounds.append(f"{measure.label} {bound(measure)}" + ("" if verdict else " (missed)"))
    result = None if not met else all(met)
    word = {None: "", True: "met", False: "**NOT met**"}[result]
    return f"| {cell.name} | {rate:,} | {len(seen)} | {', '.join(told)} | {', '.join(bounds)} | {word} |", result


def shown(value: float | None, measure: Measure) -> str:
    if value is None:
        return "–"
    if measure.unit == "s":
        return f"{value:.2f} s"
    return f"{value:.2f}" if measure.unit == "number" else f"{100 * value:.3g}%"


def bound(measure: Measure) -> str:
    if measure.at_most is not None:
        return f"≤ {shown(measure.at_most, measure)}"
    return f"≥ {shown(measure.at_least, measure)}"


def brief(cell: Cell, rate: int, seen: Runs) -> str:
    """One field of the group's matrix: the first figures."""
    count = 3 if cell.group == 12 else 2
    told = " / ".join(shown(measure.value(seen), measure) for measure in list(cell.measures(rate))[:count])
    others = sum(not run.recovered for run in seen)
    return told if cell.group == 12 or not others else f"{told} ({others / len(seen):.0%} others)"


def print_matrix(figures: dict[tuple[str, int], str]) -> None:
    columns = list(dict.fromkeys(column for column, _ in figures))
    print("\n| RPS | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
    for rate in sorted({rate for _, rate in figures}):
        print(f"| {rate:,} | " + " | ".join(figures.get((column, rate), "") for column in columns) + " |", flush=True)


def cost(seen: Runs) -> str:
    drawing, judging = (sum(getattr(run, which) for run in seen) / len(seen) for which in ("drawing_s", "judging_s"))
    return f"{drawing:.3f} s to draw, {judging:.3f} s to judge a run"


if __name__ == "__main__":
    sys.exit(main())
