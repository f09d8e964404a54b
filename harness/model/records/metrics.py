"""What a target may be about: one row a metric, and all that the rest of the harness asks of it.

Nobody else compares a metric's name (tests/test_architecture.py): they ask `target.traits`. How a metric is computed
and judged is in the tables of harness/analysis/rules/targets.py.
"""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Literal

import msgspec

Unit = Literal["ms", "proportion", "per_s", "s", "per_h", "number"]

ALLOWED_OVER: dict[str, float] = {"p50": 0.5, "p90": 0.1, "p95": 0.05, "p99": 0.01, "p99.9": 0.001}
"""Percentile metric -> the proportion of ok requests that may take the limit or longer."""


Origin = Enum("Origin", "REQUESTS VIOLATIONS RECOVERY CPU MEMORY ALERTS SIGNAL")
"""Where a metric's value comes from."""


class Metric(msgspec.Struct, frozen=True):
    """label: for people. broken, headline: what a reason and a report's first sentence say where it is broken, of
    {metric} (its name; in a headline its label), {seen}, {of}; {the}: where {of} is given; {few}: where it fell short.

    by_name: known for each request name, second by second. relative: may be compared with baseline. of_plan: with what
    the schedule asked for as well. whole_run: it is of no single phase. by_generator: a saturated generator worsens
    it by itself. of_alert: it is of an alert, whose name it needs. upper: only < and <= make sense.

    watched: a share of bad requests, told step by step: recovery waits for it, a phase may go on for it, each request
    name is judged by itself. failures: the bad ones are those that failed, not those that were slow. slow: its limit is
    where a request counts as slow in harm and in the cells of a suite.

    field: of the result's rows of phases and requests. column: of Locust's CSV file. k6: the same in a summary of k6's,
    "metric value".
    """

    unit: Unit
    label: str = ""
    broken: str = "{metric} was {seen}"
    headline: str = "{metric}{of} was {seen}"
    origin: Origin = Origin.REQUESTS
    by_name: bool = False
    relative: bool = False
    of_plan: bool = False
    whole_run: bool = False
    by_generator: bool = False
    of_alert: bool = False
    upper: bool = False
    watched: bool = False
    failures: bool = False
    slow: bool = False
    field: str = ""
    column: str = ""
    k6: str = ""

    @property
    def share(self) -> bool:
        """Of all requests: so many decide it, and so many of them it hurt."""
        return self.unit == "proportion" and self.origin is Origin.REQUESTS


_of_requests = partial(Metric, by_name=True, relative=True, by_generator=True)
_of_run = partial(Metric, whole_run=True)
_of_alerts = partial(_of_run, origin=Origin.ALERTS, upper=True)


def _percentile(name: str) -> Metric:
    broken = f"the {name} latency{{of}} was {{seen}} ({name[1:]}% of successful requests were faster)"
    field = f"{name}_ms" if name in ("p50", "p95", "p99") else ""
    kept = partial(_of_requests, watched=True, slow=name == "p95")
    k6 = "http_req_duration med" if name == "p50" else f"http_req_duration p({name[1:]})"
    return kept("ms", f"{name.upper()} Latency", broken, field=field, column=f"{name[1:]}%", k6=k6)


METRICS: dict[str, Metric] = {
    **{name: _percentile(name) for name in ALLOWED_OVER},
    "max": _of_requests(
        "ms",
        "Max Latency",
        "the slowest successful request{of} took {seen}",
        field="max_ms",
        column="Max Response Time",
        k6="http_req_duration max",
    ),
    "error_rate": _of_requests(
        "proportion",
        "Failure Rate",
        "{seen} of the requests{of} failed",
        "{seen} of {the}requests{of} failed",
        watched=True,
        failures=True,
        field="error_rate",
        column="Failure Count",
    ),
    "rps": _of_requests(
        "per_s",
        "RPS",
        "only {seen} replies a second came{of}",
        "{few}{seen} requests{of} a second were answered",
        of_plan=True,
        field="rps",
        column="Requests/s",
        k6="http_reqs rate",
    ),
    "recovery": _of_run("s", "Recovery", "recovery took {seen}", origin=Origin.RECOVERY),
    "violating": Metric(
        "s",
        "Violating Time",
        "targets were broken for {seen}",
        "targets were broken for {seen}",
        origin=Origin.VIOLATIONS,
        by_generator=True,
        field="violating_s",
    ),
    "cpu": Metric(
        "proportion", "CPU", "the service used {seen} of the CPU it may use", origin=Origin.CPU, relative=True
    ),
    "memory_growth": _of_run(
        "per_h", "Memory Growth", "the memory of the service grew by {seen}", origin=Origin.MEMORY
    ),
    "detect": _of_alerts("s", "Time to Detect", "the alert{of} took {seen} to fire", of_alert=True),
    "false_alarms": _of_alerts(
        "number", "False Alarms", "expected alerts fired {seen} times while no target was broken"
    ),
}
NAMED = tuple(name for name, metric in METRICS.items() if metric.by_name)

_SIGNAL = Metric("number", origin=Origin.SIGNAL)


def metric_traits(metric: str) -> Metric:
    """A metric's row; a name that is none is that of a signal, whose unit is a bare number."""
    return METRICS.get(metric, _SIGNAL)
