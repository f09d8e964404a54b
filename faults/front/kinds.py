"""status, delay and slow-body."""

from __future__ import annotations

from collections.abc import Mapping

from faults.front.front import SHARE, FrontFault, percent, share_of
from faults.front.requests import Asked, fill, first_hit, page
from faults.path.evidence import probe_shows
from faults.path.probes import all_late, at_once, milliseconds, number_of, seen, whole_number
from harness.adapters.clients.envoy_configuration import RATES
from harness.fault import ParamInfo, Stage
from harness.model.records.faults import Evidence, Scalar, UndoRecord

_CAP_S = 5.0
_ANSWER_S = 5.0
_EARLY_S, _EARLY = 0.005, 0.05
"""Envoy counts a delay from when it last looked at the clock: a little earlier, and on a busy machine more so."""


def _sees_status(record: UndoRecord, stage: Stage) -> Evidence | None:
    share, wanted = share_of(record.params), whole_number(record.params["status"])
    if share < 1 and stage == "held":
        return None  # the keys are read back; asking until one is hit would be a load of its own
    last, number = first_hit(share, lambda: page(record.dependency, _ANSWER_S), lambda asked: asked.status == wanted)
    return probe_shows(
        expected=f"a request is answered with {wanted}{_of(share)}",
        observed=_after(number, seen(last.result)),
        held=last.status == wanted,
    )


def _delay_s(params: Mapping[str, Scalar]) -> float:
    return number_of(params["delay"], default=0.0)


def _sees_delay(record: UndoRecord, stage: Stage) -> Evidence | None:
    share, delay_s = share_of(record.params), _delay_s(record.params)
    fastest_s = number_of(record.healthy.get("healthy_fastest_s"), default=0.0)
    early_s = max(_EARLY_S, _EARLY * delay_s)
    threshold = min(max(delay_s, fastest_s + 0.5 * delay_s) - early_s, _CAP_S)
    expected = f"an answer takes at least {milliseconds(threshold)}; the fastest was {milliseconds(fastest_s)} before"

    def ask() -> Asked:
        return page(record.dependency, threshold + 2.0)

    if share >= 1:
        return all_late(at_once(3, lambda: ask().result), threshold, expected)
    if stage == "held":
        return None
    last, number = first_hit(share, ask, lambda asked: asked.result.seconds >= threshold)
    return probe_shows(
        expected=expected + _of(share),
        observed=_after(number, seen(last.result)),
        held=last.result.seconds >= threshold and (last.result.ok or last.result.error_kind == "timeout"),
    )


def _sees_drip(record: UndoRecord, stage: Stage) -> Evidence | None:
    share, rate = share_of(record.params), int(str(record.params["rate"]))
    if share < 1 and stage == "held":
        return None
    least_s = 0.7
    last, number = first_hit(
        share,
        lambda: Asked(result=fill(record.dependency, rate * 1024, _ANSWER_S), status=None),
        lambda asked: asked.result.seconds >= least_s,
    )
    return probe_shows(
        expected=f"an answer of {rate} KiB takes {milliseconds(least_s)} or more{_of(share)}",
        observed=_after(number, seen(last.result)),
        held=last.result.ok and last.result.seconds >= least_s,
    )


def _of(share: float) -> str:
    return "" if share >= 1 else ", one of several at least"


def _after(number: int, said: str) -> str:
    return said if number == 1 else f"request {number}: {said}"


STATUS = FrontFault(
    kind="status",
    summary="requests are answered with an error status, and do not reach the upstream",
    proof_summary="a request through the front is answered with that status",
    params=(
        ParamInfo(name="status", unit="count", default="503", help="what is answered", low=400, high=599),
        SHARE,
    ),
    does=lambda p: f"answers with status {p['status']}",
    keys=lambda p: {("status", "code"): whole_number(p["status"]), ("status", "percent"): percent(p)},
    sees=_sees_status,
    injected=lambda counts: counts.aborts,
    # A probe without a declared page takes any answer below 500 for one of a server that is well.
    blind=lambda p: whole_number(p["status"]) < 500,
    hides=lambda _: True,
)

DELAY = FrontFault(
    kind="delay",
    summary="requests are held back for a while before they go on",
    proof_summary="the fastest of three requests is late by the delay asked (with a share: one of several)",
    params=(
        ParamInfo(name="delay", unit="duration", default="500ms", help="added to a request", low=0.05, high=300),
        SHARE,
    ),
    does=lambda p: f"delays by {round(_delay_s(p) * 1000)} ms",
    keys=lambda p: {("delay", "ms"): round(_delay_s(p) * 1000), ("delay", "percent"): percent(p)},
    sees=_sees_delay,
    injected=lambda counts: counts.delays,
    blind=lambda _: False,
    delays_s=lambda p: _delay_s(p) if share_of(p) >= 1 else None,
)

SLOW_BODY = FrontFault(
    kind="slow-body",
    summary="answers drip: their bodies come at so many KiB a second",
    proof_summary="an answer of one second's length, which the front itself makes, takes that second",
    params=(
        ParamInfo(
            name="rate",
            unit="choice",
            default="8",
            help="KiB a second, of each answer",
            choices=tuple(str(rate) for rate in RATES),
        ),
        SHARE,
    ),
    does=lambda p: f"lets answers drip at {p['rate']} KiB/s",
    keys=lambda p: {(f"slow-body-{p['rate']}", "percent"): percent(p)},
    sees=_sees_drip,
    injected=lambda counts: counts.slowed,
    # A probe reads no more of an answer than its status.
    blind=lambda _: True,
)
