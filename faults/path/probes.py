"""One probe of the application's path, as evidence: which outcome shows a fault, and where nothing could show it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import msgspec

from harness.dependencies.probe import handshake, path_probe
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult
from harness.model.clock import monotonic
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Dependency, Evidence, Scalar

SILENCE_S = 1.0
"""How long a proof waits for an answer that must not come."""


def is_silent(dependency: Dependency) -> bool:
    """Nothing can be sent to an unknown protocol, so a probe sees only whether connections are accepted."""
    return kind_of(dependency).silent(dependency)


def is_blind(dependency: Dependency) -> bool:
    """A proxy accepts connections whether or not the server behind it lives, and nothing more can be asked."""
    return is_silent(dependency) and dependency.proxied


def where_seen(dependency: Dependency) -> Dependency:
    """Where a probe can see that the server is away: for plain TCP behind a proxy, at the server itself."""
    if is_blind(dependency) and dependency.direct is not None:
        return msgspec.structs.replace(dependency, path=dependency.direct)
    return dependency


def refuse_silent(kind: str, dependency: Dependency) -> None:
    """Raises Refused where connections are accepted under the fault, and a probe sees no more than that."""
    if is_silent(dependency):
        raise Refused(
            f"{dependency.name}-{kind}: nothing would show this fault on a dependency of kind {dependency.kind}",
            hint='declare probe_send for it: a harmless request, or "" where the server speaks first;'
            f" {dependency.name}-kill needs none",
        )


def refuse_https(kind: str, dependency: Dependency) -> None:
    if dependency.url is not None and not dependency.url.startswith("http://"):
        raise Refused(
            f"{dependency.name}-{kind} probes {dependency.url}, and only http URLs can be probed on a fresh connection"
        )


def probe_path(dependency: Dependency, timeout_s: float) -> ProbeResult:
    """One probe through the application's path; a missing password is a failed probe, not an exception."""
    started = monotonic()
    try:
        return path_probe(dependency)(timeout_s)
    except UsageError as error:
        return ProbeResult(
            ok=False, started=started, ended=monotonic(), error_kind="auth", detail=str(error), connected=False
        )


def first_exchange(dependency: Dependency, timeout_s: float) -> ProbeResult:
    """What the application meets: the first exchange, because a client library hides how a connection ended."""
    try:
        return handshake(dependency, timeout_s)
    except UsageError:
        return probe_path(dependency, timeout_s)


def probed(result: ProbeResult, expected: str, held: bool, source: Literal["probe", "undo"] = "probe") -> Evidence:
    return Evidence(source=source, expected=expected, observed=seen(result), held=held, at=result.ended)


def is_cut(result: ProbeResult, *, may_hang: bool = False) -> bool:
    """Refused, or cut at once: a proxy or a port forwarder accepts, fails to connect onwards, and hangs up."""
    cut = ("refused", "reset", "closed", *(("timeout", "unreachable") if may_hang else ()))
    return not result.ok and result.error_kind in cut


def outage(dependency: Dependency, *, may_hang: bool, past: bool = False) -> Evidence:
    """Nobody gets through to the server, which is known to be gone: an Envoy in front of it answers then, with an error
    of its own. past: it was so for a moment, and this is told afterwards."""
    dependency = where_seen(dependency)
    result = first_exchange(dependency, SILENCE_S)
    words = f"refused, cut or not answered within {SILENCE_S:g} s" if may_hang else "refused or cut"
    by_front = dependency.front is not None
    if by_front:
        words += ", or its front answers with an error"
    at = f"connections to {asked_at(dependency)}"
    expected = f"while it was down, {at} were {words}" if past else f"{at} are {words}"
    answered = by_front and result.error_kind == "protocol"
    return probed(result, expected, answered or is_cut(result, may_hang=may_hang))


def silence(result: ProbeResult, *, connected: bool) -> Evidence:
    """connected: it must have been accepted. With its queue of connections full a stopped server does not even that."""
    held = result.error_kind == "timeout" and (result.connected or not connected)
    return probed(result, f"the connection is accepted, then no answer within {SILENCE_S:g} s", held)


def at_once(number: int, ask: Callable[[], ProbeResult]) -> list[ProbeResult]:
    """So many probes beside each other."""
    with ThreadPoolExecutor(number) as pool:
        return [each.result() for each in [pool.submit(ask) for _ in range(number)]]


def all_late(results: list[ProbeResult], threshold_s: float, expected: str, *errors: str) -> Evidence:
    """The fastest of several at once must be late: one slow probe on a busy machine would prove nothing.

    errors: those with which a late one may have ended.
    """
    quickest = min(results, key=lambda result: result.seconds)
    which = f"fastest of {len(results)}: " if len(results) > 1 else ""
    return Evidence(
        source="probe",
        expected=expected,
        observed=which + seen(quickest),
        held=all(one.seconds >= threshold_s and (one.ok or one.error_kind in ("timeout", *errors)) for one in results),
        at=max(result.ended for result in results),
    )


def asked_at(dependency: Dependency) -> str:
    """Where a probe of the path goes, for people."""
    return dependency.url or str(dependency.path or dependency.direct)


def seen(result: ProbeResult) -> str:
    """A probe's outcome as one clause: `PING answered in 2.1 ms`."""
    return f"{result.detail} in {milliseconds(result.seconds)}" if result.ok else result.detail


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 0.1 else f"{seconds * 1000:.0f} ms"


def number_of(value: Scalar, *, default: float) -> float:
    """A number out of a record; records are data from a file, so the type is checked."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else default


def whole_number(value: Scalar) -> int:
    """The same; 0 for what is none."""
    return int(number_of(value, default=0.0))
