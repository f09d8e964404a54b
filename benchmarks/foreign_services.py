"""Does the harness tell the truth about services that nobody here wrote?

    python benchmarks/foreign_services.py [--only SERVICE/FAULT] [--list] [--rate 24] [--prober-rate 5]
                                           [--tries 2] [--keep FOLDER]
    python benchmarks/foreign_services.py --again FOLDER       judges kept runs again

Kinto (Python, threads) and Parse Server (Node), each with a real PostgreSQL and a real Redis (Valkey) behind a real
Toxiproxy, go through six faults in a `harness run` each, while an independent prober asks for the same things over
connections of its own and writes down what it got. What the harness said is then held against what the prober saw: when
the outage began and ended, how much failed, which requests were hurt, the verdict, the exit code. The first sentence
stands beside the facts, for what only a person can judge.

The first use installs the services at pinned versions into the harness's cache folder. A run that leaves verdict or
recovery undecided because of the generator is repeated, --tries times in all. Writes a table to
benchmarks/results/foreign.md. Exit code 1 when a statement was not so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import foreign_truth as truth  # noqa: E402
from foreign_systems import SPREAD, SYSTEMS, System, Where, wait_for  # noqa: E402

from harness.analysis.run_directory import read_plan, read_result  # noqa: E402
from harness.model.records.faults import Address  # noqa: E402
from harness.report.sentences.recovery_words import recovery_sentence  # noqa: E402
from harness.report.sentences.story import headline  # noqa: E402
from harness.stack.embedded import postgres, toxiproxy  # noqa: E402
from harness.stack.starting.ports import Ports  # noqa: E402
from tests.support.servers.real import PostgresServer, SubprocessLauncher, start_postgres, start_toxiproxy, start_valkey  # noqa: E402

FAULTS = ("redis-down", "redis-hang", "db-down", "db-hang", "db-connection-limit", "kill")
LIMITS = truth.Limits(failed=0.01, slow_s=0.5, recovery_s=30.0)
TIMEOUT_S = 5.0
FEWEST = 430
"""Arrivals without which the harness refuses to judge a phase."""
RUN_LIMIT_S = 240.0
UNDO_LIMIT_S = 60.0
"""What an interrupted run gets to undo its fault."""


class Bench:
    """One service with servers of its own. folder: of the run, with harness.toml, logs and pid files."""

    def __init__(self, system: System, folder: Path, cleanup: ExitStack) -> None:
        self.system, self.folder = system, folder
        packages = system.installed(say)
        launcher = SubprocessLauncher()
        cleanup.callback(launcher.close)
        self.postgres = start_postgres(launcher)
        redis = start_valkey(launcher).address
        with Ports() as ports:
            paths = {name: Address("127.0.0.1", ports.take()) for name in ("redis", "db")}
            port = ports.take()
            proxies = (
                toxiproxy.Proxy("redis", str(paths["redis"]), str(redis)),
                toxiproxy.Proxy("db", str(paths["db"]), str(self.postgres.address)),
            )
            control, _ = start_toxiproxy(launcher, proxies)
        self.where = Where(folder, port, paths["redis"], paths["db"], self.postgres.role, postgres.DATABASE)
        self.command = system.configure(self.where, packages)
        (folder / "users.py").write_bytes((ROOT / "benchmarks" / "foreign_users.py").read_bytes())
        (folder / "harness.toml").write_text(declared(system, self.where, self.command, control, redis, self.postgres))
        cleanup.callback(self.stop)
        self.start()
        self.write_requests(system.prepare(self.where))

    def write_requests(self, headers: dict[str, str]) -> None:
        requests = [
            {
                **{"name": one.name, "method": one.method, "path": one.path, "body": one.body, "spread": SPREAD},
                "headers": {**headers, **({"Content-Type": "application/json"} if one.body else {})},
            }
            for one in self.system.requests
        ]
        told = {"host": "127.0.0.1", "port": self.where.port, "requests": requests}
        (self.folder / "requests.json").write_text(json.dumps(told), "utf-8")

    def start(self) -> None:
        with (self.folder / "service.log").open("ab") as log:
            subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(self.where.url(self.system.health))

    def stop(self) -> None:
        """Whoever started it: after a kill it is nobody's child."""
        with suppress(OSError, ValueError, psutil.Error):
            service = psutil.Process(int((self.folder / "service.pid").read_text()))
            # A pid that was used again belongs to a process in another folder.
            if Path(service.cwd()) == self.folder:
                service.kill()
                with suppress(psutil.TimeoutExpired, ChildProcessError):
                    service.wait(10)


def declared(
    system: System, where: Where, command: tuple[str, ...], control: str, redis: Address, db: PostgresServer
) -> str:
    """The harness.toml."""
    return f"""
[target]
name = "{system.name}"
url = "{where.url("")}"
health = "{system.health}"
metrics = ""
pid_file = "service.pid"
start = {json.dumps(command)}
log = "service.log"

[toxiproxy]
url = "{control}"

[dependencies.redis]
kind = "redis"
proxy = "redis"
direct = "{redis}"

[dependencies.db]
kind = "postgres"
proxy = "db"
direct = "{db.address}"
login = "{db.login}"
admin = "{db.admin}"
probe_login = "{db.probe_login}"

[run]
locustfile = "users.py"
"""


def run(bench: Bench, fault: str, rate: float, prober_rate: float) -> tuple[Path, int]:
    """One experiment beside the prober: its run directory and exit code. Raises RuntimeError without a result."""
    number = len(list(bench.folder.glob("run-*")))
    folder = bench.folder / f"run-{number}"
    folder.mkdir()
    judged_s = max(20, math.ceil(FEWEST / rate))
    options = (
        f"--fault {fault} --scenario target --rate {rate:g} --users 20 --spawn-rate 1000 "
        f"--request-timeout {TIMEOUT_S:g}s --warmup 3s --baseline {judged_s}s --fault-for {judged_s}s "
        f"--recovery-limit 60s --hold {judged_s}s --no-live"
    )
    targets = (
        f"p95 < {LIMITS.slow_s * 1000:g}ms",
        f"error_rate < {LIMITS.failed:.0%}",
        f"recovery < {LIMITS.recovery_s:g}s",
    )
    command = [str(Path(sys.executable).parent / "harness"), "run", *options.split(), "--out", str(folder)]
    for target in targets:
        command += ["--target", target]
    program = str(ROOT / "benchmarks" / "foreign_prober.py")
    watch = (str(bench.folder / "requests.json"), str(folder / "prober.jsonl"), f"{prober_rate:g}", f"{TIMEOUT_S:g}")
    prober = [sys.executable, "-I", program, *watch]
    with ExitStack() as cleanup, (folder / "output.txt").open("wb") as output:
        watching = subprocess.Popen(prober, stdin=subprocess.DEVNULL, stderr=output, start_new_session=True)
        cleanup.callback(end, watching, signal.SIGTERM, TIMEOUT_S + 5)
        running = subprocess.Popen(
            command,
            cwd=bench.folder,
            env={**os.environ, "XDG_STATE_HOME": str(bench.folder / "state")},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        cleanup.callback(end, running, signal.SIGINT, UNDO_LIMIT_S)
        with suppress(subprocess.TimeoutExpired):
            running.wait(RUN_LIMIT_S)
        if running.poll() is None:
            raise RuntimeError(f"the run did not end within {RUN_LIMIT_S:.0f} s")
    made = [path.parent for path in folder.glob("*/result.json")]
    if not made:
        raise RuntimeError(f"no result:\n{(folder / 'output.txt').read_text()[-3000:]}")
    return made[0], running.returncode


def end(process: subprocess.Popen[bytes], how: signal.Signals, limit_s: float) -> None:
    if process.poll() is not None:
        return
    process.send_signal(how)
    try:
        process.wait(limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cell(bench: Bench, fault: str, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    name = fault if fault != "kill" else f"{bench.system.name}-kill"
    for attempt in range(1, args.tries + 1):
        bench.stop()
        bench.start()  # what one fault left in a pool is not the next one's doing
        directory, exit_code = run(bench, name, args.rate, args.prober_rate)
        case = {"case": f"{bench.system.name}/{fault}", "try": attempt, "exit_code": exit_code}
        (directory.parent / "case.json").write_text(json.dumps({**case, "load": os.getloadavg()[0]}), "utf-8")
        result = read_result(directory)
        told = result.verdict != "inconclusive" and (result.recovery is None or result.recovery.outcome != "undecided")
        if told or result.generator is None or not result.generator.saturated:
            break
        if attempt < args.tries:
            say(f"{case['case']}: the generator could not keep up; again")
    return judged(directory)


def judged(directory: Path) -> dict[str, Any]:
    """The row of a run, from its files alone."""
    case = json.loads((directory.parent / "case.json").read_text("utf-8"))
    plan, result = read_plan(directory), read_result(directory)
    row = {**case, "headline": headline(plan, result), "recovery": recovery_sentence(plan, result)}
    row |= {"reasons": result.reasons, "facts": None, "checks": []}
    history = truth.read_history(directory)
    zero = next(one["monotonic"] for one in history if one["event"] == "started")
    with suppress(LookupError):
        row["facts"] = truth.facts(truth.read_log(directory.parent / "prober.jsonl", zero), history, LIMITS)
        said = json.loads((directory / "result.json").read_text("utf-8"))
        row["checks"] = truth.checks(said, case["exit_code"], row["facts"], LIMITS)
    return row


def kept(folder: Path) -> list[dict[str, Any]]:
    """Rows of the runs that --keep left, the last try of each case."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/run-*/case.json")):
        made = sorted(path.parent.glob("*/result.json"))
        row = judged(made[0].parent)
        rows[row["case"]] = row
    return list(rows.values())


def show(row: dict[str, Any]) -> str:
    """For a person who asks whether each sentence is so."""
    lines = [f"### {row['case']}", "", f"> {row['headline']}", ">", f"> {row['recovery']}", ""]
    if row["reasons"]:
        lines += [*(f"- {reason}" for reason in row["reasons"]), ""]
    found: truth.Facts | None = row["facts"]
    if found is None:
        return "\n".join(lines)
    at = (*found.injected, *found.undo, found.load_end)
    lines += ["injected {:.2f} to {:.2f} s, undone {:.2f} to {:.2f} s, load until {:.1f} s.".format(*at), ""]
    lines += ["| request | during the fault | stretches of bad requests (s) | after them |", "|---|---|---|---|"]
    for name, during in found.during.items():
        spans = ", ".join(f"{first:.2f}–{last:.2f}" for first, last in found.stretches[name]) or "none"
        lines.append(f"| {name} | {during} | {spans} | {found.after[name]} |")
    strays = f"Bad requests in no stretch: {found.strays}. The prober was {found.late * 1000:.0f} ms late (p99)."
    lines += ["", f"{strays} Load average {row['load']:.1f}, try {row['try']}.", ""]
    words = {True: "so", False: "**NOT SO**", None: "cannot be told"}
    lines += [f"- {one.what}: {words[one.right]} ({one.why})" for one in row["checks"]]
    return "\n".join([*lines, ""])


def summary(rows: list[dict[str, Any]]) -> str:
    lines = ["| case | first sentence | onset | end | verdict | not so |", "|---|---|---|---|---|---|"]
    for row in rows:
        by = {one.what: one for one in row["checks"]}
        wrong = ", ".join(one.what for one in row["checks"] if one.right is False) or "–"
        told = [by[what].why if what in by else "–" for what in ("onset", "end", "verdict")]
        lines.append(f"| {row['case']} | {row['headline']} | {' | '.join(told)} | {wrong} |")
    return "\n".join(lines)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description="Does the harness tell the truth about other people's services?")
    parser.add_argument("--only", action="append", help="SERVICE, or SERVICE/FAULT; may be repeated")
    parser.add_argument("--rate", type=float, default=24.0, help="requests per second of the harness")
    parser.add_argument("--prober-rate", type=float, default=5.0, help="of the prober, of each of three requests")
    parser.add_argument("--tries", type=int, default=2, help="runs of a case while the generator could not keep up")
    parser.add_argument("--list", action="store_true", help="print the cases and run nothing")
    parser.add_argument("--keep", type=Path, help="a new folder for run directories and logs, which stays")
    parser.add_argument("--again", type=Path, help="run nothing: judge again what --keep left in this folder")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "foreign.md")
    args = parser.parse_args()
    cases = [(system, fault) for system in SYSTEMS for fault in FAULTS]
    wanted = [c for c in cases if not args.only or {c[0].name, f"{c[0].name}/{c[1]}"} & set(args.only)]
    if args.list:
        print("\n".join(f"{system.name}/{fault}" for system, fault in wanted))
        return 0
    signal.signal(signal.SIGTERM, interrupted)
    rows = kept(args.again) if args.again else measured(wanted, args)
    print(summary(rows))
    args.out.write_text("\n".join([summary(rows), "", *map(show, rows)]), "utf-8")
    wrong = any(one.right is False for row in rows for one in row["checks"])
    return 1 if wrong or (len(rows) < len(wanted) and not args.again) else 0


def measured(wanted: list[tuple[System, str]], args: argparse.Namespace) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for system in SYSTEMS:
        faults = [fault for one, fault in wanted if one is system]
        if not faults:
            continue
        with ExitStack() as cleanup:
            if args.keep:
                folder = args.keep.resolve() / system.name
                folder.mkdir(parents=True)
            else:
                folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="foreign-")))
            bench = Bench(system, folder, cleanup)
            for fault in faults:
                try:
                    rows.append(cell(bench, fault, args))
                except RuntimeError as error:
                    say(f"{system.name}/{fault}: {error}")
                    continue
                say(show(rows[-1]))
    return rows


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
