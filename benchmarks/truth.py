"""The truth table: does the harness find every known defect, and accuse nobody else?

    python benchmarks/truth.py [--repeat 5] [--first 1] [--defect NAME] [--fault NAME]
                               [--only chosen|found|harmless|hardened] [--rate 200]
                               [--tries 3] [--wait-idle 120] [--out CSV] [--list] [--matrix]

Each row is a real `harness run` on an embedded stack of its own, with one defect of the sample API switched on (or
none) under one fault. There are three kinds: the fault that should reveal the defect; a fault that the defect has
nothing to do with; and the hardened API under every fault. The harness is only told the fault: the defect reaches the
API alone, by its environment, and nothing of the harness reads that variable, the API's log or a hint in its answers.

Right is: a defect revealed is a FAIL (or, for those marked so, a finding is enough) *with* the finding that names it;
everything else is a PASS without a finding that accuses the service. INCONCLUSIVE is the harness's own word that it
cannot tell, on a busy machine mostly: such a run is repeated, --tries times in all, and counted as its last try says.

Phases are the shortest that decide every target (the command's own minima are lowered, as in the tests). Every try is a
row of the CSV, appended as it ends, with date, versions, seed, machine and what was found. Prints the confusion matrix.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from harness.analysis.run_directory import read_plan, read_result
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.report.findings.rules import findings

ROOT = Path(__file__).resolve().parent.parent
SHORTENED = (
    "from harness.plan import phases as p; "
    "p.MIN_BASELINE_S = p.MIN_FAULT_S = p.MIN_HOLD_S = 2.0; p.HOLD_ARRIVALS = 50; p.DECIDING_ARRIVALS = 1; "
    "p.MIN_RECOVERY_LIMIT_S = 30.0; "
    "from harness.cli import main; main()"
)
LOAD = ("--scenario", "target", "--spawn-rate", "5000", "--request-timeout", "5s")
SHORT = ("--warmup", "4s", "--baseline", "6s", "--fault-for", "10s", "--recovery-limit", "30s", "--hold", "6s")
RUN_LIMIT_S = 400.0
IDLE = 0.5

ACCUSING = frozenset(
    {
        *("target-down", "no-fallback", "missing-timeout", "synchronous-call", "pool", "slow-recovery", "relapse"),
        *("lost-writes", "retry-amplification", "reconnect-storm", "cold-cache", "consumer-lag", "memory"),
        *("health-check", "everything-waits"),
    }
)
"""Findings that say something is wrong with the service; the others are about the run, or about strain."""


@dataclass(frozen=True)
class Case:
    """defect None: the hardened API. reveals: the finding that must be there, "" = nothing may be found.

    must_fail: a revealed defect breaks a primary target (or loses data); where not, the finding is all there is.
    """

    defect: str | None
    fault: str
    reveals: str = ""
    must_fail: bool = True
    flags: tuple[str, ...] = ()
    chosen: bool = False

    @property
    def kind(self) -> str:
        return "hardened" if self.defect is None else "found" if self.reveals else "harmless"

    @property
    def name(self) -> str:
        return f"{self.defect or 'hardened'} / {self.fault}"


COLD_START = ("--warmup", "15s")
"""The cache has to fill before baseline: what fills it costs the database and Redis more than usual."""
SELDOM = ("--fault-for", "30s")
"""One request in a dozen asks the risk service, so it takes longer to be sure how often."""
SOAK = ("--soak", "60s")
"""A slope needs a minute of one stretch, after the first 30 s of it."""

CASES = (
    Case("no-fallback", "redis-down", "no-fallback", chosen=True),
    Case("no-timeout", "redis-hang", "missing-timeout", chosen=True),
    Case("upstream-no-timeout", "risk-hang", "missing-timeout", chosen=True),
    Case("sync-kafka", "kafka-latency", "synchronous-call", chosen=True),
    Case("small-pool", "db-connection-limit", "pool", chosen=True),
    Case("leaky-pool", "db-down", "slow-recovery", chosen=True),
    Case("retry-storm", "redis-latency", "retry-amplification", flags=COLD_START),
    Case("retry-storm", "risk-status", "retry-amplification", must_fail=False, flags=(*COLD_START, *SELDOM)),
    Case("cold-start-stampede", "redis-flush", "cold-cache", flags=COLD_START),
    Case("memory-leak", "none", "memory", must_fail=False, flags=SOAK),
    Case("lost-writes", "db-down", "lost-writes", chosen=True),
    Case("no-fallback", "kafka-down"),
    Case("no-timeout", "redis-down"),
    Case("upstream-no-timeout", "redis-hang"),
    Case("sync-kafka", "redis-down"),
    Case("small-pool", "redis-down"),
    Case("leaky-pool", "redis-down"),
    Case("retry-storm", "redis-down"),
    Case("cold-start-stampede", "kafka-latency", flags=COLD_START),
    Case("lost-writes", "redis-down"),
    Case(None, "redis-down", chosen=True),
    Case(None, "redis-hang", chosen=True),
    Case(None, "redis-latency"),
    Case(None, "redis-flush"),
    Case(None, "kafka-latency", chosen=True),
    Case(None, "kafka-down"),
    Case(None, "db-down", chosen=True),
    Case(None, "db-connection-limit", chosen=True),
    Case(None, "risk-hang", chosen=True),
    Case(None, "risk-status"),
    Case(None, "none", flags=SOAK),
)


@dataclass(frozen=True)
class Outcome:
    """One try. findings: their keys. said: right, missed, accused, or inconclusive."""

    plan: Plan
    result: Result
    findings: tuple[str, ...]
    said: str
    seconds: float


def judged(case: Case, result: Result, found: Sequence[str]) -> str:
    """Whether the harness was right about this case."""
    accused = sorted(ACCUSING & set(found))
    if case.reveals:
        if case.reveals in found and (result.verdict == "fail" or not case.must_fail):
            return "right"
        # A defect that shows by a finding alone is missed by a run that says nothing, whatever its verdict.
        return "inconclusive" if result.verdict == "inconclusive" else "missed"
    if accused or result.verdict == "fail":
        return "accused"
    return "inconclusive" if result.verdict == "inconclusive" else "right"


def run(case: Case, folder: Path, rate: float) -> Outcome:
    """One experiment in a folder of its own. Raises RuntimeError when it left no result."""
    fault = ("--fault", case.fault)
    command = [sys.executable, "-c", SHORTENED, "run", *fault, *LOAD, "--rate", f"{rate:g}", *SHORT, *case.flags]
    begun = time.monotonic()
    with (folder / "output.txt").open("wb") as output:
        subprocess.run(
            [*command, "--out", str(folder / "runs"), "--no-live"],
            env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), "ANOMALY_API_DEFECT": case.defect or ""},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=RUN_LIMIT_S,
            check=False,
        )
    runs = sorted((folder / "runs").glob("*")) if (folder / "runs").is_dir() else []
    if not runs:
        raise RuntimeError(f"{case.name}: no run directory\n{(folder / 'output.txt').read_text()[-2000:]}")
    plan, result = read_plan(runs[-1]), read_result(runs[-1])
    found = tuple(dict.fromkeys(finding.key for finding in findings(plan, result)))
    return Outcome(plan, result, found, judged(case, result, found), time.monotonic() - begun)


def wait_idle(limit_s: float) -> None:
    """Until half of the machine has been idle for 2 s: what somebody else does beside it is not the service's fault."""
    until = time.monotonic() + limit_s
    while limit_s and time.monotonic() < until:
        if psutil.cpu_times_percent(2.0).idle >= 100 * IDLE:
            return


COLUMNS = (
    *("date", "git", "machine", "cpus", "load", "python", "versions", "defect", "fault", "flags", "rate", "seed"),
    *("kind", "repeat", "try", "expected", "verdict", "exit_code", "said", "findings", "recovery", "recovery_s"),
    *("broken", "lost", "unchecked", "signatures", "reason", "seconds"),
)


def row(case: Case, outcome: Outcome, repeat: int, attempt: int, rate: float) -> dict[str, object]:
    result, origin = outcome.result, outcome.plan.provenance
    recovery, promised = result.recovery, result.acknowledged
    versions = dict(origin.versions) if origin else {}
    shown = {name: versions[name] for name in sorted(versions)}
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": _git(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": " ".join(f"{name}={version}" for name, version in shown.items()),
        "defect": case.defect or "",
        "fault": case.fault,
        "flags": " ".join(case.flags),
        "rate": rate,
        "seed": result.seed,
        "kind": case.kind,
        "repeat": repeat,
        "try": attempt,
        "expected": case.reveals,
        "verdict": result.verdict,
        "exit_code": result.exit_code,
        "said": outcome.said,
        "findings": " ".join(outcome.findings),
        "recovery": recovery.outcome if recovery else "",
        "recovery_s": recovery.seconds if recovery and recovery.seconds is not None else "",
        "broken": " ".join(
            f"{t.metric}@{t.phase or 'run'}" for t in result.targets if t.primary and t.outcome == "broken"
        ),
        "lost": promised.lost if promised else "",
        "unchecked": promised.unchecked if promised else "",
        "signatures": " ".join(
            f"{s.kind}:{s.dependency}={s.observed:g}/{s.baseline:g}{'!' if s.found else ''}" for s in result.signatures
        ),
        "reason": result.reasons[0] if result.reasons else "",
        "seconds": round(outcome.seconds),
    }


def append(path: Path, values: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(values)


def matrix(rows: Sequence[dict[str, str]]) -> str:
    """The confusion matrix of the last try of every repeat, and a line a case."""
    last: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for one in rows:
        last[one["date"][:10] + one["git"], one["defect"], one["fault"], one["repeat"]] = one
    kinds = {"found": "defect, its fault", "harmless": "defect, another fault", "hardened": "hardened"}
    lines = [f"{'truth':<24}{'runs':>6}{'FAIL':>6}{'finding':>9}{'PASS':>6}{'INCONCL.':>10}{'right':>7}"]
    for kind, words in kinds.items():
        mine = [one for one in last.values() if one["kind"] == kind]
        said = Counter(one["verdict"] for one in mine)
        named = sum(bool(ACCUSING & set(one["findings"].split())) for one in mine)
        right = sum(one["said"] == "right" for one in mine)
        lines.append(
            f"{words:<24}{len(mine):>6}{said['fail']:>6}{named:>9}{said['pass']:>6}{said['inconclusive']:>10}{right:>7}"
        )
    lines += ["", f"{'defect / fault':<40}{'expected':<22}{'right':>9}  other"]
    for case in CASES:
        mine = [one for one in last.values() if one["defect"] == (case.defect or "") and one["fault"] == case.fault]
        if not mine:
            continue
        said = Counter(one["said"] for one in mine)
        other = ", ".join(f"{n} {word}" for word, n in said.items() if word != "right")
        score = f"{said['right']}/{len(mine)}"
        lines.append(f"{case.name:<40}{case.reveals or 'nothing':<22}{score:>9}  {other}".rstrip())
    return "\n".join(lines)


def _git() -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def wanted(args: argparse.Namespace) -> list[Case]:
    return [
        case
        for case in CASES
        if (not args.defect or (case.defect or "hardened") in args.defect)
        and (not args.fault or case.fault in args.fault)
        and (args.only is None or case.kind == args.only or (args.only == "chosen" and case.chosen))
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Does the harness find every known defect, and accuse nobody else?")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--first", type=int, default=1, help="number of the first repeat, for a table made in parts")
    parser.add_argument("--defect", action="append", help="one of the sample API's, or hardened; may be repeated")
    parser.add_argument("--fault", action="append")
    parser.add_argument("--only", choices=("chosen", "found", "harmless", "hardened"))
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--tries", type=int, default=3, help="runs for a repeat, while the verdict is INCONCLUSIVE")
    parser.add_argument("--wait-idle", type=float, default=120.0, help="seconds to wait at most for a quiet machine")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "truth.csv")
    parser.add_argument("--list", action="store_true", help="print the table of cases and run nothing")
    parser.add_argument("--matrix", action="store_true", help="print the matrix of the CSV and run nothing")
    args = parser.parse_args()
    cases = wanted(args)
    if args.list:
        for case in cases:
            print(f"{case.kind:<9} {case.name:<40} {case.reveals or 'nothing':<22} {' '.join(case.flags)}".rstrip())
        return 0
    if not args.matrix:
        for repeat in range(args.first, args.first + args.repeat):
            for case in cases:
                repeat_case(case, repeat, args)
    with args.out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    print(matrix(rows))
    return 0 if all(one["said"] != "missed" and one["said"] != "accused" for one in rows) else 1


def repeat_case(case: Case, repeat: int, args: argparse.Namespace) -> None:
    for attempt in range(1, args.tries + 1):
        wait_idle(args.wait_idle)
        with tempfile.TemporaryDirectory(prefix="truth-") as folder:
            try:
                outcome = run(case, Path(folder), args.rate)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                print(f"{case.name}: {error}", file=sys.stderr, flush=True)
                continue
        append(args.out, row(case, outcome, repeat, attempt, args.rate))
        found = " ".join(outcome.findings) or "no finding"
        print(
            f"{case.name:<40} repeat {repeat} try {attempt}: {outcome.result.verdict:<13} {outcome.said:<13} "
            f"{outcome.seconds:4.0f} s  {found}",
            flush=True,
        )
        if outcome.said != "inconclusive":
            return


if __name__ == "__main__":
    sys.exit(main())
