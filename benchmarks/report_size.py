"""How large report.html of a long run is, how long it takes to make, and how long Chromium takes to draw it.

    python benchmarks/report_size.py [--minutes 10] [--rps 10000] [--names 12]

The records are those of a run of this length with an outage in its middle: every kind of failure, eight processes,
forty signals that moved. The goals: at most 400 KB, opened and drawn in at most 1 s.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from harness.analysis.verdict.timeline import ChartData  # noqa: E402
from harness.model.records.result import SignalResult  # noqa: E402
from harness.model.records.windows import FAILURE_KINDS  # noqa: E402
from harness.report.html import document  # noqa: E402
from tests.report import browser, sample  # noqa: E402

GOAL_BYTES = 400_000
GOAL_S = 1.0
DRAWN = """<script>requestAnimationFrame(() => requestAnimationFrame(() => {
  console.log("drawn in " + Math.round(performance.now()) + " ms"); }))</script></body>"""


def records(minutes: float, rps: float) -> tuple[ChartData, dict[str, SignalResult]]:
    draw = random.Random(1)
    step = 1.0 if minutes <= 20 else 2.0
    t = [i * step for i in range(int(60 * minutes / step))]
    broken = [0.4 * len(t) <= i < 0.6 * len(t) for i in range(len(t))]
    data = ChartData(
        step_s=step,
        t=t,
        lengths_s=[step] * len(t),
        planned_rps=[rps] * len(t),
        rps=[draw.gauss(rps * (0.8 if bad else 1), rps**0.5) for bad in broken],
        failures={kind: [draw.uniform(0, rps / 20) * bad for bad in broken] for kind in (*FAILURE_KINDS, "unsent")},
        p50_ms=[draw.uniform(8, 12) for _ in t],
        p95_ms=[draw.uniform(20, 60) * (8 if bad else 1) for bad in broken],
        p99_ms=[draw.uniform(60, 200) * (12 if bad else 1) for bad in broken],
        failed_p95_ms=[draw.uniform(900, 1500) if bad else None for bad in broken],
        in_flight=[draw.uniform(50, 90) * (40 if bad else 1) for bad in broken],
        sample_t=t,
        cpu={f"process-{i}": [draw.uniform(0, 2) for _ in t] for i in range(8)},
        rss={f"process-{i}": [draw.uniform(1e8, 2e8) for _ in t] for i in range(8)},
        signals={f"answers_{i}_total": [draw.uniform(0, rps) * bad for bad in broken] for i in range(40)},
    )
    return data, {
        name: SignalResult(by_phase={"baseline": 0.0, "fault": rps / 2}, counter=True) for name in data.signals
    }


def drawn_ms(page: str, times: int = 3) -> list[int]:
    """From the start of the navigation to the second frame, by the page's own clock; without the page's policy, which
    would refuse the script that reads it."""
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page).replace("</body>", DRAWN)
    found = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "report.html"
        path.write_text(page, encoding="utf-8")
        for number in range(times):
            flags = [*browser.FLAGS, f"--user-data-dir={folder}/profile{number}", "--enable-logging=stderr"]
            # With a port to debug it, it stays until it is ended: a page alone would be left at once, undrawn.
            command = [browser.find(), *flags, "--remote-debugging-port=0", path.as_uri()]
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
                limit = threading.Timer(30, child.kill)
                limit.start()
                assert child.stderr is not None
                told = next((m for line in child.stderr if (m := re.search(r"drawn in (\d+) ms", line))), None)
                limit.cancel()
                child.terminate()
            if told is None:
                sys.exit("Chromium drew nothing in 30 s")
            found.append(int(told[1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rps", type=float, default=10_000)
    parser.add_argument("--names", type=int, default=12, help="request names")
    args = parser.parse_args()
    data, signals = records(args.minutes, args.rps)
    result = sample.result("fail")
    rows = [row for row in result.requests if row.name == sample.NAMES[0]]
    requests = tuple(msgspec.structs.replace(row, name=f"GET /{i}") for i in range(args.names) for row in rows)
    result = msgspec.structs.replace(result, signals=signals, requests=requests)
    document.template()
    began = time.perf_counter()
    page = document.render(sample.plan_of("fail"), result, data, sample.history("fail"))
    made_s = time.perf_counter() - began
    size = len(page.encode())
    told: dict[str, object] = {"bytes": size, "made_s": round(made_s, 2), "size_met": size <= GOAL_BYTES}
    if any(shutil.which(name) for name in browser.NAMES):
        drawn = sorted(drawn_ms(page))
        told |= {"drawn_ms": drawn, "drawn_met": drawn[len(drawn) // 2] <= GOAL_S * 1000}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
