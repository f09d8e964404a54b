"""Does an experiment of a suite say what the same experiment says alone? And how long does one take?

    python benchmarks/suite.py                                  ten experiments, the API as shipped and two defects
    python benchmarks/suite.py --defects sync-kafka --only kafka-latency kafka-down control
    python benchmarks/suite.py --no-single                      the suites alone

For each defect of the sample API (`none`: as shipped) one suite of these experiments on the embedded stack, then each
of them by itself with the command that the suite gives for it. Prints both verdicts, seconds of each experiment, and
the request names that were broken. Exit 1 where two verdicts differ, or an experiment took over a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HARNESS = Path(sys.executable).with_name("harness")
ONLY = (
    "redis-down",
    "redis-hang",
    "redis-latency",
    "redis-flush",
    "kafka-down",
    "kafka-latency",
    "db-down",
    "db-latency",
    "db-connection-limit",
    "control",
)
DEFECTS = ("none", "sync-kafka", "no-fallback")
MOST_S = 60.0
SHOWN = {"pass": "held", "fail": "broken", "inconclusive": "unknown"}
LIMIT_S = 3600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=ONLY, metavar="EXPERIMENT")
    parser.add_argument("--defects", nargs="+", default=DEFECTS)
    parser.add_argument("--no-single", action="store_true")
    given = parser.parse_args()
    bad = 0
    for defect in given.defects:
        environment = {**os.environ, "ANOMALY_API_DEFECT": "" if defect == "none" else defect}
        with tempfile.TemporaryDirectory() as out:
            suite = run(
                ["suite", "--out", out, *(word for name in given.only for word in ("--only", name))], environment
            )
            print(f"\n{defect}: suite exit {suite['exit_code']}, {suite['seconds']:.0f} s in all")
            for one in suite["experiments"]:
                bad += told(one, out, environment, given.no_single)
    print(f"\n{bad} rows out of bounds")
    return 1 if bad else 0


def told(one: dict[str, Any], out: str, environment: dict[str, str], no_single: bool) -> int:
    attempt = one["attempts"][0] if one["attempts"] else {}
    alone = "-"
    if not no_single:
        words = shlex.split(one["command"])[1:]
        alone = SHOWN[run([*words, "--out", out], environment)["verdict"]]
    broken = ", ".join(cell["request"] for cell in attempt.get("cells", ()) if cell["outcome"] == "broken")
    seconds = attempt.get("seconds", 0.0)
    off = (alone not in ("-", one["outcome"])) + (seconds > MOST_S)
    print(
        f"  {one['name']:<22} suite {one['outcome']:<8} alone {alone:<8} {seconds:5.1f} s  "
        f"{'OUT OF BOUNDS  ' if off else ''}{broken}",
        flush=True,
    )
    return int(off > 0)


def run(words: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """The result that `--json` prints."""
    command = [str(HARNESS), *words, "--json", "--quiet"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if not done.stdout:
        raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    sys.exit(main())
