"""Faults through Toxiproxy: a disabled proxy (`down`), and one row at the end for each kind that is a toxic."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import msgspec

from faults.common.application_path import healthy, milliseconds, number_of, probe_path, seen
from faults.common.proxy import (
    by_hand,
    capture_proxy,
    make_again,
    normal_again,
    planned_proxy,
    proxy_name,
    record_of,
    resources,
    same_proxy,
    server_of,
)
from faults.proxy.toxic import DIRECTION, STREAMS, ToxicFault
from harness.adapters.toxiproxy.commands import enable_proxy
from harness.dependencies.probe import closing, handshake
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult
from harness.fault import ParamInfo, Stage
from harness.model.clock import monotonic
from harness.model.errors import Gone, Refused
from harness.model.records.faults import Applied, Change, Dependency, Evidence, Scalar, UndoRecord

_SILENCE_S = 1.0
_SLOW_CAP_S = 5.0


class Down:
    """The proxy is disabled: its listener is closed and every connection through it is cut."""

    kind = "down"
    summary = "the dependency is gone: connections are cut, new ones are refused"
    undo_summary = "the proxy is enabled again, if it is still the proxy that was disabled"
    proof_summary = "the proxy reads back disabled, and a probe through it is refused"
    needs: Literal["proxy"] = "proxy"
    one_shot = False
    params: tuple[ParamInfo, ...] = ()

    def plan(self, dependency: Dependency, params: Mapping[str, Any]) -> Change:
        proxy = planned_proxy(self.kind, dependency)
        return Change(
            kind=self.kind,
            dependency=dependency,
            params=dict(params),
            does=f"disables the Toxiproxy proxy {proxy}: its connections are cut, new ones are refused",
            undoes=f"enables the proxy {proxy} again",
            proves=f"the proxy {proxy} reads back disabled; a probe through it is refused",
            property=f"proxy {proxy}: enabled",
            hides_path=True,
            resources=resources(dependency),
        )

    def capture(self, change: Change, record_id: str) -> UndoRecord:
        state = capture_proxy(change.dependency)
        found = healthy(change.dependency)
        return record_of(change, record_id, state, found, original={"enabled": True}, ours={"enabled": False})

    def inject(self, record: UndoRecord) -> Applied:
        return server_of(record).set_enabled(proxy_name(record), False)

    def prove(self, record: UndoRecord, stage: Stage) -> tuple[Evidence, ...]:
        name = proxy_name(record)
        state = server_of(record).proxy(name)
        control = Evidence(
            source="control",
            expected=f"proxy {name} is disabled",
            observed="disabled" if not state.enabled else "enabled",
            held=not state.enabled,
            at=monotonic(),
        )
        result = probe_path(record.dependency, _SILENCE_S)
        # A container engine's port forwarder accepts for a closed port and then hangs up.
        refused = result.error_kind in ("refused", "reset", "closed")
        return control, Evidence(
            source="probe",
            expected=f"connections to {record.dependency.path} are refused",
            observed=seen(result),
            held=not result.ok and refused,
            at=result.ended,
        )

    def undo(self, record: UndoRecord) -> Applied:
        """Also sets what is enabled already: that queues behind an injection whose answer was lost."""
        name, server = proxy_name(record), server_of(record, undoing=True)
        try:
            same_proxy(record, server.proxy(name), "disabled", _enable(record))
            return server.set_enabled(name, True)
        except Gone:
            return make_again(record, server)

    def by_hand(self, record: UndoRecord) -> str:
        return by_hand(record, _enable(record))

    def verify_undone(self, record: UndoRecord) -> tuple[Evidence, ...]:
        name = proxy_name(record)
        state = server_of(record, undoing=True).proxy(name)
        where = (record.where["listen"], record.where["upstream"])
        control = Evidence(
            source="undo",
            expected=f"proxy {name} is enabled, {where[0]} to {where[1]}",
            observed=f"{'enabled' if state.enabled else 'disabled'}, {state.listen} to {state.upstream}",
            held=state.enabled and (state.listen, state.upstream) == where,
            at=monotonic(),
        )
        return control, normal_again(record, state)


def _enable(record: UndoRecord) -> str:
    return enable_proxy(server_of(record).url, proxy_name(record))


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
    """The fastest of three probes at once must be late: one slow probe on a busy machine would prove nothing."""
    floor = _latency_floor(record.params)
    fastest_s = number_of(record.healthy.get("healthy_fastest_s"), default=0.0)
    # All of the latency as such, and half of it on top of what was healthy: on a busy machine that figure is too high
    # by tens of milliseconds, and the middle between with and without tells the two apart best.
    asked = max(floor, fastest_s + 0.5 * floor) - 0.001
    threshold = min(asked, _SLOW_CAP_S)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: probe_path(record.dependency, threshold + 2.0), range(_at_once(record))))
    quickest = min(results, key=lambda result: result.seconds)
    late = all(result.seconds >= threshold and (result.ok or result.error_kind == "timeout") for result in results)
    capped = " (as long as a proof waits)" if asked > threshold else ""
    return Evidence(
        source="probe",
        expected=f"every answer takes at least {milliseconds(threshold)}{capped};"
        f" the fastest was {milliseconds(fastest_s)} before",
        observed=f"fastest of {len(results)}: {seen(quickest)}" if quickest.ok else seen(quickest),
        held=late,
        at=max(result.ended for result in results),
    )


def _sees_silence(record: UndoRecord, _: Stage) -> Evidence:
    result = probe_path(record.dependency, _SILENCE_S)
    return Evidence(
        source="probe",
        expected=f"the connection is accepted, then no answer within {_SILENCE_S:g} s",
        observed=seen(result),
        held=result.error_kind == "timeout" and result.connected,
        at=result.ended,
    )


def _at_once(record: UndoRecord) -> int:
    """Probes beside each other."""
    return 1 if kind_of(record.dependency).unfinished(record.dependency) else 3


def _silent(dependency: Dependency) -> bool:
    return dependency.kind == "tcp" and dependency.probe_send is None


def _closes_in_order(change: Change) -> dict[str, Scalar]:
    if _silent(change.dependency):
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
    look = closing if _silent(record.dependency) else handshake
    result = look(record.dependency, after_s + 2.0)
    if result.error_kind == "closed" and not _silent(record.dependency) and record.dependency.direct is not None:
        return _sees_closed(record.dependency, result, after_s)
    return Evidence(
        source="probe",
        expected="the connection is accepted, then reset",
        observed=seen(result),
        held=result.error_kind == "reset" and result.connected,
        at=result.ended,
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
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: closing(record.dependency, threshold + 2.0), range(_at_once(record))))
    quickest = min(results, key=lambda result: result.seconds)
    ended = ("timeout", "reset")
    late = all(result.seconds >= threshold and (result.ok or result.error_kind in ended) for result in results)
    return Evidence(
        source="probe",
        expected=f"a connection that we close is closed by the other side after {milliseconds(threshold)} or more",
        observed=f"fastest of {len(results)}: {seen(quickest)}",
        held=late,
        at=max(result.ended for result in results),
    )


DOWN = Down()

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
