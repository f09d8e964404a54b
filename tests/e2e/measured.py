"""A run whose truth is known: a programmable service, a dependency behind a real Toxiproxy, and outages timed to it.

MeasuredSystem   the service, Toxiproxy with the proxy `payments` to its TCP service, and the harness.toml of both
watch            follows a run and breaks the service when its fault is injected, mends it after the undo
Truth            when the service was really broken and well, in the run's seconds since t0
"""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

from harness.model.records.faults import Address
from harness.stack.starting.ports import Ports
from tests.e2e.observe import Run
from tests.e2e.own_system import toxiproxy_call
from tests.e2e.programmable import Change, Kind, Programmable, background, outage, p95_limit
from tests.support.servers.real import SubprocessLauncher, start_toxiproxy

LOCUSTFILE = Path(__file__).with_name("locustfile_simple.py")
LEAD_S = 0.1
"""A plan is given so long before it begins: longer than a busy machine takes to read it."""


class Truth(NamedTuple):
    """Seconds since the run's t0. start, end: None when it was never broken. changes: what the service says it did
    from then on.
    """

    start: float | None
    end: float | None
    changes: list[Change]


class MeasuredSystem:
    """folder: each run gets one in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = 0
        self._launcher = SubprocessLauncher()
        self.service = Programmable()
        try:
            self.toxiproxy, self.toxiproxy_process = start_toxiproxy(self._launcher)
            with Ports() as ports:
                self.path = Address("127.0.0.1", ports.take())
            self.direct = Address("127.0.0.1", self.service.echo_port)
            proxy = {"name": "payments", "listen": str(self.path), "upstream": str(self.direct)}
            toxiproxy_call(self.toxiproxy, "POST", "/proxies", proxy)
        except BaseException:
            self.close()
            raise

    def start(self, *args: str, shortened: bool = False) -> Run:
        """`harness run` in a new folder with the harness.toml of this system."""
        self._runs += 1
        folder = self.folder / f"run{self._runs}"
        folder.mkdir()
        (folder / "harness.toml").write_text(
            f"""
[target]
name = "measured"
url = "{self.service.url}"

[toxiproxy]
url = "{self.toxiproxy}"

[dependencies.payments]
kind = "tcp"
proxy = "payments"
path = "assumed"
direct = "{self.direct}"
probe_send = "hello\\n"
"""
        )
        return Run(folder, *args, shortened=shortened)

    def close(self) -> None:
        self.service.close()
        self._launcher.close()


def run_options(kind: Kind, rps: float) -> tuple[str, ...]:
    """Of `harness run`: this rate, phases as short as the rules allow, and the targets that the truth is about."""
    return (
        *("--scenario", "target", "--locustfile", str(LOCUSTFILE), "--rate", f"{rps:g}", "--users", "100"),
        *("--spawn-rate", "1000", "--warmup", "1s", "--baseline", "15s", "--fault-for", "10s"),
        *("--recovery-limit", "60s", "--request-timeout", "2s", "--target", f"p95 < {p95_limit(kind)}"),
    )


def watch(run: Run, service: Programmable, kind: Kind, draw: random.Random, *, mitigated: bool = False) -> Truth:
    """Break the service 0.5 to 1.5 s after the injection. It is well again 1 to 5 s after the undo, or, mitigated,
    2 to 4 s after it broke, with the fault still on. Waits for the undo, then for the end of the outage."""
    lead, lasts, late = draw.uniform(0.5, 1.5), draw.uniform(2.0, 4.0), draw.uniform(1.0, 5.0)
    service.plan(*background(kind))
    run.wait_for(lambda e: e["event"] == "fault_injected")
    start = time.monotonic() + lead
    open_end = start + lasts if mitigated else math.inf
    planned = outage(kind, start, open_end, open_end)
    service.plan(*planned.segments)
    run.wait_for(lambda e: e["event"] == "undone")
    if not mitigated:
        undone = time.monotonic() + LEAD_S
        planned = outage(kind, start, undone, undone + late)
        service.plan(*planned.segments)
    ends = [s.end for s in planned.segments if math.isfinite(s.end)]
    time.sleep(max(0.0, max(ends, default=0.0) + 0.5 - time.monotonic()))
    t0: float = next(event["monotonic"] for event in run.events() if event["event"] == "started")
    changes = [
        Change(c.at - t0, None if c.last_before is None else c.last_before - t0, c.first_after - t0)
        for c in service.changes()
        if planned.start is not None and c.at >= planned.start - 1e-6
    ]
    return Truth(
        None if planned.start is None else planned.start - t0,
        None if planned.end is None else planned.end - t0,
        changes,
    )


def error(found: float | None, truth: float | None) -> float | None:
    return None if found is None or truth is None else found - truth


def recovery_truth(result: dict[str, Any], truth: Truth) -> float | None:
    """Seconds from the result's zero to the end of the outage: 0 when that came before; None without a zero."""
    zero = result["recovery"]["zero_s"]
    if zero is None:
        return None
    return 0.0 if truth.end is None else max(0.0, truth.end - zero)
