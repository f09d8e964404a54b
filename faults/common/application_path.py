"""What faults see on the application's path: how healthy it was, and whether it answers normally again."""

from __future__ import annotations

import statistics

import msgspec

from faults.common.admin_session import let_go, who_fills
from harness.dependencies.probe import path_probe
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult
from harness.model.clock import monotonic
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Dependency, Evidence, Scalar, UndoRecord

_HEALTHY_PROBES = 5
_HEALTHY_TIMEOUT_S = 5.0
_VERIFY_TRIES = 3


class Healthy(msgspec.Struct, frozen=True, kw_only=True):
    """Probe times before the fault, in seconds. good_below_s: a probe faster than this counts as normal."""

    fastest_s: float
    median_s: float
    good_below_s: float

    def scalars(self) -> dict[str, Scalar]:
        return {
            "healthy_fastest_s": self.fastest_s,
            "healthy_median_s": self.median_s,
            "good_below_s": self.good_below_s,
        }


def healthy(dependency: Dependency, *, slowdown_s: float | None = None) -> Healthy:
    """Probe the path five times before a fault. slowdown_s: what the fault will add to a probe, if it is known.

    Normal is below three times the median or 50 ms above it, whichever is more (probes of a few milliseconds are
    easily ten times slower on a busy machine), but never so slow that the fault itself would pass: at most half of
    what it adds. Raises Refused when a probe fails: what is already broken cannot be judged or verified later.
    """
    try:
        run = path_probe(dependency)
        run(_HEALTHY_TIMEOUT_S)  # not counted: the first one also pays for imports
        results = [
            run(_HEALTHY_TIMEOUT_S) for _ in range(2 if kind_of(dependency).unfinished(dependency) else _HEALTHY_PROBES)
        ]
    except UsageError as error:
        raise Refused(str(error), hint=error.hint) from error
    for result in results:
        if not result.ok:
            raise Refused(
                f"{dependency.name} does not answer at {asked_at(dependency)} before any fault: {result.detail}",
                hint="mend it, or correct the address or login in the configuration",
            )
    times = [result.seconds for result in results]
    median = statistics.median(times)
    good_below = max(3 * median, median + 0.05, max(times))
    if slowdown_s is not None:
        good_below = min(good_below, median + slowdown_s / 2)
    return Healthy(fastest_s=min(times), median_s=median, good_below_s=good_below)


def probe_path(dependency: Dependency, timeout_s: float) -> ProbeResult:
    """One probe through the application's path; a missing password is a failed probe, not an exception."""
    started = monotonic()
    try:
        return path_probe(dependency)(timeout_s)
    except UsageError as error:
        return ProbeResult(
            ok=False, started=started, ended=monotonic(), error_kind="auth", detail=str(error), connected=False
        )


def asked_at(dependency: Dependency) -> str:
    """Where a probe of the path goes, for people."""
    return dependency.url or str(dependency.path or dependency.direct)


def seen(result: ProbeResult) -> str:
    """A probe's outcome as one clause: `PING answered in 2.1 ms`."""
    return f"{result.detail} in {milliseconds(result.seconds)}" if result.ok else result.detail


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def answers_normally(record: UndoRecord) -> Evidence:
    """The protocol probe after an undo: answered, at the latency that was normal before the fault.

    Three tries, because one slow answer on a busy machine says nothing.
    """
    limit_s = number_of(record.healthy.get("good_below_s"), default=1.0)

    def normal(result: ProbeResult) -> bool:
        # A server that says itself that it is full answers: the way to it is open, and whoever fills it is no fault.
        return (result.ok or result.full) and result.seconds < limit_s

    result = probe_path(record.dependency, max(1.0, 2 * limit_s))
    for _ in range(0 if kind_of(record.dependency).unfinished(record.dependency) else _VERIFY_TRIES - 1):
        if normal(result):
            break
        result = probe_path(record.dependency, max(1.0, 2 * limit_s))
    if result.ok and normal(result):
        let_go(record)
    full = f"the server answers that it is full, so the path works: {result.detail}{who_fills(record)}"
    return Evidence(
        source="undo",
        expected=f"{record.dependency.name} answers at {asked_at(record.dependency)} in under {milliseconds(limit_s)}",
        observed=full if result.full else seen(result),
        held=normal(result),
        at=result.ended,
    )


def takes_connections(record: UndoRecord) -> Evidence:
    """The service under test after an undo: somebody listens. That it answers late, or wrongly, is its recovery: what
    the run is there to measure, and no change of ours that is still on."""
    result = probe_path(record.dependency, 1.0)
    return Evidence(
        source="undo",
        expected=f"{record.dependency.name} takes connections at {asked_at(record.dependency)}; how it answers is its"
        " recovery",
        observed=seen(result),
        held=result.listens,
        at=result.ended,
    )


def number_of(value: Scalar, *, default: float) -> float:
    """A number out of a record; records are data from a file, so the type is checked."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default
