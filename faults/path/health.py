"""How healthy the application's path was before a fault, and whether it answers normally again."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import msgspec

from faults.path.admin_session import let_go, who_fills
from faults.path.probes import asked_at, milliseconds, number_of, probe_path, probed, seen
from harness.dependencies.probe import path_probe
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult
from harness.model.errors import Refused, UndoUnverified, UsageError
from harness.model.records.faults import Dependency, Evidence, Scalar, UndoRecord

_HEALTHY_PROBES = 5
_HEALTHY_TIMEOUT_S = 5.0
_VERIFY_TRIES = 3
READY_LIMIT_S = 60.0
"""How long a server may take to answer after it was started."""
STILL_GOOD_S = 0.5
"""A probe answered within this is certainly not paused, killed or away: those take a second or refuse."""


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


BLIND = Healthy(fastest_s=0.0, median_s=0.0, good_below_s=STILL_GOOD_S)
"""Of a target, whose answers no undo is verified by."""


def healthy(dependency: Dependency, *, slowdown_s: float | None = None, at_least_s: float = 0.0) -> Healthy:
    """Probe the path five times before a fault. slowdown_s: what the fault will add to a probe, if it is known.
    at_least_s: is normal in any case, because the server is slow for a while after its start.

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
    good_below = max(3 * median, median + 0.05, max(times), at_least_s)
    if slowdown_s is not None:
        good_below = min(good_below, median + slowdown_s / 2)
    return Healthy(fastest_s=min(times), median_s=median, good_below_s=good_below)


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
    return Evidence(
        source="undo",
        expected=f"{record.dependency.name} answers at {asked_at(record.dependency)} in under {milliseconds(limit_s)}",
        observed=f"the server answers that it is full, so the path works: {result.detail}{_filled_by(record)}"
        if result.full
        else seen(result),
        held=normal(result),
        at=result.ended,
    )


def _filled_by(record: UndoRecord) -> str:
    who = kind_of(record.dependency).who_fills(record.dependency)
    return who_fills(record) if who is None else f"; {who}"


def takes_connections(record: UndoRecord) -> Evidence:
    """The service under test after an undo: somebody listens. That it answers late, or wrongly, is its recovery: what
    the run is there to measure, and no change of ours that is still on."""
    result = probe_path(record.dependency, 1.0)
    at = asked_at(record.dependency)
    expected = f"{record.dependency.name} takes connections at {at}; how it answers is its recovery"
    return probed(result, expected, result.listens, "undo")


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """A server that was started again. dependency: with its address of now. up: it runs. over: it will not come up.
    why: what it does instead of running."""

    dependency: Dependency
    up: bool
    over: bool
    why: str


def wait_until_back(look: Callable[[], Life], server: str, mend: str) -> None:
    """Wait until the server itself answers its protocol, or says that it is full; of the target only until it takes
    connections: what it answers then is its recovery. Raises UndoUnverified at the limit, or when it is over."""
    end = time.monotonic() + READY_LIMIT_S
    while True:
        now = look()
        dependency = now.dependency
        itself = msgspec.structs.replace(dependency, path=None) if dependency.direct is not None else dependency
        result = path_probe(itself)(1.0)
        if now.up and (result.listens if dependency.target else result.ok or result.full):
            return
        if now.over or time.monotonic() > end:
            why = result.detail if now.up else now.why
            raise UndoUnverified(f"{server} was started again and does not answer: {why}", mend)
        time.sleep(0.03)
