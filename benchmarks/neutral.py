"""How long an Envoy stays changed when the run that changed it is killed: SIGKILL to neutral.

    python benchmarks/neutral.py [--kills 100]

A real Envoy before the sample API's risk service. Each time a run in miniature (journal, keeper and faults as in a real
one, no load; tests/safety/run_driver.py) has all three faults of the front on, each on half of the requests, and gets
SIGKILL at a random moment. From then on Envoy's raw admin page is looked at every few milliseconds: neutral is no
runtime key left, and a request of an application answered by the service. A time ends when the first good look ends.
Prints median, 95th percentile and worst, and how many were within 1 s. With load and a whole run around it:
`benchmarks/undo.py --only front`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness.model.records.faults import Address, Dependency  # noqa: E402
from harness.stack.embedded import risk  # noqa: E402
from harness.stack.embedded.private_folder import PrivateFolder  # noqa: E402
from harness.stack.starting.ports import Ports  # noqa: E402
from harness.stack.starting.ready import wait_ready  # noqa: E402
from tests.safety.world import Run, gone, wait_for  # noqa: E402
from tests.support.servers.envoy import answered, fronted, runtime  # noqa: E402
from tests.support.servers.real import SubprocessLauncher  # noqa: E402

FAULTS = [
    ["status", {"status": 503, "share": 0.5}],
    ["delay", {"delay": 2.0, "share": 0.5}],
    ["slow-body", {"rate": "8", "share": 0.5}],
]
KEYS = 5
LIMIT_S = 60.0


def one_kill(front: Dependency, state: Path) -> float:
    """Seconds from SIGKILL to neutral."""
    run = Run(state, dependency=msgspec.to_builtins(front), faults=FAULTS)
    try:
        run.wait("injected")
        assert len(runtime(front)) == KEYS, runtime(front)
        time.sleep(random.uniform(0.0, 0.3))
        began = time.monotonic()
        run.kill()
        while runtime(front) or answered(f"http://{front.path}{risk.HEALTH}")[0] != 200:
            if time.monotonic() - began > LIMIT_S:
                return float("inf")
            time.sleep(0.002)
        taken = time.monotonic() - began
        wait_for("the keeper to end", lambda: gone(run.said["keeper"]), LIMIT_S)
        return taken
    finally:
        run.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    given = parser.parse_args()
    launcher, times = SubprocessLauncher(), list[float]()
    try:
        with tempfile.TemporaryDirectory() as temporary, Ports() as ports:
            folder, address = Path(temporary), Address("127.0.0.1", ports.take())
            log = folder / "risk.log"
            launcher.launch(risk.spec(PrivateFolder(launcher).sub(risk.NAME), address, log))
            wait_ready(
                risk.TITLE, lambda: risk.probe(address), launcher=launcher, name=risk.NAME, log=log, limit_s=LIMIT_S
            )
            with fronted(launcher, address, name=risk.NAME) as (front, _):
                for number in range(given.kills):
                    times.append(one_kill(front, folder / f"state{number}"))
    finally:
        launcher.close()
        if times:
            report(times)


def report(times: list[float]) -> None:
    """Also of those that there were when it was interrupted."""
    times.sort()
    p95 = times[min(len(times) - 1, int(0.95 * len(times)))]
    print(
        f"SIGKILL to neutral: median {statistics.median(times) * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms,"
        f" worst {times[-1] * 1000:.0f} ms; within 1 s: {sum(t <= 1.0 for t in times)} of {len(times)};"
        f" load average {os.getloadavg()[0]:.0f}"
    )


if __name__ == "__main__":
    main()
