"""How soon is the harness there? `--help` and `--version` (bound 200 ms), the embedded stack (bound 5 s when set up).

    python benchmarks/startup.py [--times 20] [--stacks 5]

Wall time of the real commands, from starting the process to its end: `harness stack up` ends when every server and the
sample API are ready. The bounds are held against the median; the fastest shows what the machine can do when nothing
else runs on it.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HARNESS = Path(sys.executable).parent / "harness"
HELP_S = 0.2
STACK_S = 5.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--stacks", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        env = {**os.environ, "XDG_STATE_HOME": state}
        plain = [seconds("-c", "pass", env=env, program=sys.executable) for _ in range(options.times)]
        show("python -c pass", plain)
        well = show("harness --help", [seconds("--help", env=env) for _ in range(options.times)], HELP_S)
        well &= show("harness --version", [seconds("--version", env=env) for _ in range(options.times)], HELP_S)
        ups = []
        for number in range(options.stacks + 1):
            took = seconds("stack", "up", env=env)
            seconds("stack", "down", env=env)
            if number:  # the first may have set it up
                ups.append(took)
        if ups:
            well &= show("harness stack up", ups, STACK_S)
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 0 if well else 1


def seconds(*args: str, env: dict[str, str], program: str = str(HARNESS)) -> tuple[float, float]:
    """Wall time, and CPU time of the process itself (what it leaves running is not in it)."""
    begun, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([program, *args], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - begun, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def show(name: str, times: list[tuple[float, float]], bound: float | None = None) -> bool:
    found, cpu = [wall for wall, _ in times], statistics.median(cpu for _, cpu in times)
    median = statistics.median(found)
    said = "" if bound is None else f"   bound {bound * 1000:.0f} ms: {'met' if median <= bound else 'NOT met'}"
    print(
        f"{name:18} median {median * 1000:6.0f} ms   fastest {min(found) * 1000:6.0f} ms   "
        f"slowest {max(found) * 1000:6.0f} ms   CPU {cpu * 1000:5.0f} ms{said}"
    )
    return bound is None or median <= bound


if __name__ == "__main__":
    sys.exit(main())
