"""The toxics that a small probe notices: latency, hang, reset, slow-close."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from faults.path.probes import (
    SILENCE_S,
    all_late,
    at_once,
    is_silent,
    milliseconds,
    number_of,
    probe_path,
    probed,
    seen,
    silence,
)
from faults.proxy.toxic import DIRECTION, STREAMS, ToxicFault
from harness.dependencies.probe import closing, handshake
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult
from harness.fault import ParamInfo, Stage
from harness.model.errors import Refused
from harness.model.records.faults import Change, Dependency, Evidence, Scalar, UndoRecord

_SLOW_CAP_S = 5.0


def _whole_ms(value: Scalar) -> int:
    return round(number_of(value, default=0.0) * 1000)


def _latency_floor(params: Mapping[str, Scalar]) -> float:
    """Seconds that every answer is late at least: a request and its answer pass each direction once."""
    directions = len(STREAMS[str(params["direction"])])
    return directions * (_whole_ms(params["latency"]) - _whole_ms(params["jitter"])) / 1000


def _latency_text(params: Mapping[str, Scalar]) -> str:
    jitter = _whole_ms(params["jitter"])
    spread = f", give or take {jitter} ms," if jitter else ""
    return f"delays data by {_whole_ms(params['latency'])} ms{spread}"


def _check_latency(params: Mapping[str, Scalar]) -> None:
    if _latency_floor(params) <= 0:
        raise Refused("latency: jitter must be below latency, else some answers are not late at all")


def _sees_slow(record: UndoRecord, _: Stage) -> Evidence:
    floor = _latency_floor(record.params)
    fastest_s = number_of(record.healthy.get("healthy_fastest_s"), default=0.0)
    # All of the latency as such, and half of it on top of what was healthy: on a busy machine that figure is too high
    # by tens of milliseconds, and the middle between with and without tells the two apart best.
    asked = max(floor, fastest_s + 0.5 * floor) - 0.001
    threshold = min(asked, _SLOW_CAP_S)
    capped = " (as long as a proof waits)" if asked > threshold else ""
    return all_late(
        at_once(_number(record), lambda: probe_path(record.dependency, threshold + 2.0)),
        threshold,
        f"every answer takes at least {milliseconds(threshold)}{capped};"
        f" the fastest was {milliseconds(fastest_s)} before",
    )


def _sees_silence(record: UndoRecord, _: Stage) -> Evidence:
    return silence(probe_path(record.dependency, SILENCE_S), connected=True)


def _number(record: UndoRecord) -> int:
    """Of probes at once."""
    return 1 if kind_of(record.dependency).unfinished(record.dependency) else 3


def _closes_in_order(change: Change) -> dict[str, Scalar]:
    if is_silent(change.dependency):
        result = closing(change.dependency, _SLOW_CAP_S)
        if not result.ok:
            raise Refused(
                f"{change.dependency.name}-{change.kind} is shown by how a connection ends, and before any fault one"
                f" that we close does not end in order: {result.detail}"
            )
    return {}


def _sees_reset(record: UndoRecord, _: Stage) -> Evidence:
    after_s = number_of(record.params.get("after"), default=0.0)
    # A server that nothing makes answer: its end of the connection that we close is then reset instead of closed.
    look = closing if is_silent(record.dependency) else handshake
    result = look(record.dependency, after_s + 2.0)
    if result.error_kind == "closed" and not is_silent(record.dependency) and record.dependency.direct is not None:
        return _sees_closed(record.dependency, result, after_s)
    return probed(
        result, "the connection is accepted, then reset", held=result.error_kind == "reset" and result.connected
    )


def _sees_closed(dependency: Dependency, result: ProbeResult, after_s: float) -> Evidence:
    """A container engine's port forwarder hands a reset on as a plain close, and so looks a proxy whose server is gone.
    The server's own port tells the two apart."""
    own = handshake(msgspec.structs.replace(dependency, path=dependency.direct), after_s + 2.0)
    return Evidence(
        source="probe",
        expected=f"the connection is accepted, then reset (or closed, by a port forwarder in between), while"
        f" {dependency.direct} answers",
        observed=f"{seen(result)}; at {dependency.direct}: {seen(own)}",
        held=result.connected and own.ok,
        at=own.ended,
    )


def _sees_slow_close(record: UndoRecord, _: Stage) -> Evidence:
    delay_s = number_of(record.params.get("delay"), default=0.0)
    threshold = min(delay_s, _SLOW_CAP_S) - 0.001
    expected = f"a connection that we close is closed by the other side after {milliseconds(threshold)} or more"
    results = at_once(_number(record), lambda: closing(record.dependency, threshold + 2.0))
    return all_late(results, threshold, expected, "reset")


LATENCY = ToxicFault(
    kind="latency",
    toxic="latency",
    summary="every answer is late",
    proof_summary="the fastest of three probes is late by the latency asked",
    does=_latency_text,
    attributes=lambda p: {"latency": _whole_ms(p["latency"]), "jitter": _whole_ms(p["jitter"])},
    sees=_sees_slow,
    needs_answer=True,
    slowdown_s=_latency_floor,
    delays_s=lambda p: number_of(p["latency"], default=0.0),
    check=_check_latency,
    params=(
        ParamInfo(name="latency", unit="duration", default="300ms", help="added delay", low=0.01, high=300),
        ParamInfo(
            name="jitter", unit="duration", default="0ms", help="varies the delay, plus or minus", low=0, high=300
        ),
        DIRECTION,
    ),
)

HANG = ToxicFault(
    kind="hang",
    toxic="timeout",
    summary="connections are accepted, data disappears, nothing is ever answered",
    proof_summary="a probe is accepted and gets no answer within 1 s",
    does=lambda _: "swallows all data",
    attributes=lambda _: {"timeout": 0},
    sees=_sees_silence,
    needs_answer=True,
    hides_path=True,
    params=(DIRECTION,),
)

RESET = ToxicFault(
    kind="reset",
    toxic="reset_peer",
    summary="connections are accepted and reset as soon as data flows",
    proof_summary="a probe is accepted and then reset",
    does=lambda p: f"resets connections {_whole_ms(p['after'])} ms after data arrives",
    attributes=lambda p: {"timeout": _whole_ms(p["after"])},
    sees=_sees_reset,
    ready=_closes_in_order,
    hides_path=True,
    params=(
        ParamInfo(name="after", unit="duration", default="0ms", help="from the first data to the reset", low=0, high=4),
        DIRECTION,
    ),
)

SLOW_CLOSE = ToxicFault(
    kind="slow-close",
    toxic="slow_close",
    summary="connections stay open for a while after they were closed",
    proof_summary="a connection that a probe closes stays open for the delay asked",
    does=lambda p: f"delays the closing of connections by {_whole_ms(p['delay'])} ms",
    attributes=lambda p: {"delay": _whole_ms(p["delay"])},
    sees=_sees_slow_close,
    blind=True,
    params=(
        ParamInfo(name="delay", unit="duration", default="1s", help="added before each close", low=0.1, high=300),
        DIRECTION,
    ),
)
