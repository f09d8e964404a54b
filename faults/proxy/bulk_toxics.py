"""The toxics that a small probe does not notice: bandwidth, slicer, limit-data.

They are proven by an exchange whose size is chosen so that the fault must show: at 32 KB/s 12,800 bytes cannot come in
under 0.4 s. What the same exchange takes on the healthy path is measured before, and a fault that would hardly differ
from it is refused instead of being called proven. The toxics work on each connection by itself, so a probe takes
nothing from the application's connections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import cast

import msgspec

from faults.path.probes import all_late, at_once, milliseconds, number_of, probed, whole_number
from faults.proxy.toxic import DIRECTION, ToxicFault
from harness.dependencies.kind import Direction
from harness.dependencies.probe import MOST_BYTES, Moved, Mover
from harness.dependencies.result import ProbeResult
from harness.fault import ParamInfo, Stage
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Change, Evidence, Scalar, UndoRecord

_SHOWS_S = 0.4
"""How long the exchange of a proof is to take, where MOST_BYTES allow it."""
_HEALTHY_TIMEOUT_S = 5.0
_TRIES = 3
_BEYOND_BYTES = 4096
"""A limit of data is shown by an exchange of this much more."""

Params = Mapping[str, Scalar]


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """size: bytes to move. floor_s: what that takes at least while the fault is on."""

    size: int
    floor_s: float


def _rate(params: Params) -> int:
    """Toxiproxy counts in whole KB/s of 1,000 bytes."""
    return round(number_of(params["rate"], default=0.0) / 1000)


def _bandwidth(params: Params) -> Exchange:
    rate = _rate(params) * 1000
    size = min(MOST_BYTES, round(rate * _SHOWS_S))
    return Exchange(size=size, floor_s=size / rate)


def _check_rate(params: Params) -> None:
    asked = number_of(params["rate"], default=0.0)
    if asked != _rate(params) * 1000:
        raise Refused(
            f"bandwidth: Toxiproxy counts in whole KB/s of 1,000 bytes, and {asked:g} bytes/s is none",
            hint=f"write {max(1, _rate(params))}KB/s",
        )


def _delay_us(params: Params) -> int:
    return round(number_of(params["delay"], default=0.0) * 1e6)


def _slices(params: Params) -> Exchange:
    """No slice is longer than size + variation, and the delay follows each."""
    longest, delay_s = whole_number(params["size"]) + whole_number(params["variation"]), _delay_us(params) / 1e6
    number = max(2, min(MOST_BYTES // longest, math.ceil(_SHOWS_S / delay_s) + 1))
    return Exchange(size=number * longest, floor_s=(number - 1) * delay_s)


def _check_slices(params: Params) -> None:
    if whole_number(params["variation"]) >= whole_number(params["size"]):
        raise Refused("slicer: variation must be below size", hint="half of it, for example")


def _mover(record_or_change: UndoRecord | Change) -> Mover:
    return Mover(record_or_change.dependency, cast(Direction, str(record_or_change.params["direction"])))


def _told(moved: Moved) -> ProbeResult:
    """With how far it came."""
    if moved.received is None or moved.result.ok:
        return moved.result
    detail = f"{moved.result.detail} after {moved.received} bytes had come back"
    return msgspec.structs.replace(moved.result, detail=detail)


def _fastest(change: Change, size: int, enough_s: float) -> float:
    """Seconds of the fastest of a few exchanges on the healthy path. Raises Refused when one fails."""
    try:
        move = _mover(change)
    except UsageError as error:
        raise Refused(str(error), hint=error.hint) from error
    fastest = math.inf
    for _ in range(_TRIES):
        moved = move(size, _HEALTHY_TIMEOUT_S)
        if not moved.result.ok:
            raise Refused(
                f"{change.dependency.name}-{change.kind} is shown by an exchange of {size} bytes,"
                f" and before any fault it fails: {moved.result.detail}"
            )
        fastest = min(fastest, moved.result.seconds)
        if fastest < enough_s / 2:
            break
    return fastest


def _slow_ready(exchange: Callable[[Params], Exchange]) -> Callable[[Change], dict[str, Scalar]]:
    def ready(change: Change) -> dict[str, Scalar]:
        asked = exchange(change.params)
        found = _fastest(change, asked.size, asked.floor_s)
        if found > asked.floor_s / 2:
            raise Refused(
                f"{change.dependency.name}-{change.kind}: {asked.size} bytes take {milliseconds(found)} without the"
                f" fault and at least {milliseconds(asked.floor_s)} with it; that is too little to show it",
                hint="ask for a slower one",
            )
        return {"bulk_fastest_s": found}

    return ready


def _late(exchange: Callable[[Params], Exchange]) -> Callable[[UndoRecord, Stage], Evidence]:
    def sees(record: UndoRecord, stage: Stage) -> Evidence:
        """The fastest of three must be late; later on, where only an end of the fault could show, one is enough."""
        asked = exchange(record.params)
        # A little less than the arithmetic: the proxy makes up for its timers' own lateness.
        floor_s = 0.9 * asked.floor_s
        healthy_s = number_of(record.healthy.get("bulk_fastest_s"), default=0.0)
        move = _mover(record)
        results = at_once(_TRIES if stage == "injected" else 1, lambda: move(asked.size, 3 * floor_s + 2.0).result)
        expected = (
            f"{asked.size} bytes take at least {milliseconds(floor_s)};"
            f" the fastest took {milliseconds(healthy_s)} before"
        )
        return all_late(results, floor_s, expected)

    return sees


def _quick_again(exchange: Callable[[Params], Exchange]) -> Callable[[UndoRecord], Evidence]:
    def again(record: UndoRecord) -> Evidence:
        """As fast as it was, or at least well below what the fault made of it. Three tries, for a busy machine."""
        asked = exchange(record.params)
        healthy_s = number_of(record.healthy.get("bulk_fastest_s"), default=0.0)
        limit_s = (healthy_s + 0.9 * asked.floor_s) / 2
        move = _mover(record)
        for _ in range(_TRIES):
            result = move(asked.size, 2.0 + limit_s).result
            if result.ok and result.seconds < limit_s:
                break
        held = result.ok and result.seconds < limit_s
        return probed(result, f"{asked.size} bytes take less than {milliseconds(limit_s)}", held, "undo")

    return again


def _limit_size(params: Params) -> int:
    return whole_number(params["bytes"]) + _BEYOND_BYTES


def _limit_ready(change: Change) -> dict[str, Scalar]:
    return {"bulk_fastest_s": _fastest(change, _limit_size(change.params), 1.0)}


def _sees_cut(record: UndoRecord, _: Stage) -> Evidence:
    limit, size = whole_number(record.params["bytes"]), _limit_size(record.params)
    moved = _mover(record)(size, _HEALTHY_TIMEOUT_S)
    within = moved.received is None or moved.received <= limit or record.params["direction"] == "up"
    held = moved.result.error_kind in ("closed", "reset") and moved.result.connected and within
    return probed(_told(moved), f"an exchange of {size} bytes is accepted and cut after {limit}", held)


def _whole_again(record: UndoRecord) -> Evidence:
    size = _limit_size(record.params)
    moved = _mover(record)(size, _HEALTHY_TIMEOUT_S)
    return probed(_told(moved), f"an exchange of {size} bytes is answered in full", moved.result.ok, "undo")


BANDWIDTH = ToxicFault(
    kind="bandwidth",
    toxic="bandwidth",
    summary="data flows slowly: each connection gets only so many bytes a second",
    proof_summary="an exchange of many bytes takes as long as it must at that rate, the fastest of three",
    does=lambda p: f"lets {_rate(p)} KB/s through on each connection",
    attributes=lambda p: {"rate": _rate(p)},
    sees=_late(_bandwidth),
    ready=_slow_ready(_bandwidth),
    again=_quick_again(_bandwidth),
    check=_check_rate,
    moves_bytes=True,
    blind=True,
    params=(
        ParamInfo(
            name="rate",
            unit="rate",
            default="32KB/s",
            help="of each connection, in whole KB/s of 1,000 bytes",
            low=1000,
            high=10_000_000,
        ),
        DIRECTION,
    ),
)

SLICER = ToxicFault(
    kind="slicer",
    toxic="slicer",
    summary="data comes in small pieces with a pause after each",
    proof_summary="an exchange of many bytes takes as long as its pieces' pauses, the fastest of three",
    does=lambda p: (
        f"cuts data into pieces of {whole_number(p['size'])} bytes, give or take {whole_number(p['variation'])},"
        f" with {_delay_us(p) / 1000:g} ms after each"
    ),
    attributes=lambda p: {
        "average_size": whole_number(p["size"]),
        "size_variation": whole_number(p["variation"]),
        "delay": _delay_us(p),
    },
    sees=_late(_slices),
    ready=_slow_ready(_slices),
    again=_quick_again(_slices),
    check=_check_slices,
    moves_bytes=True,
    blind=True,
    params=(
        ParamInfo(name="size", unit="size", default="64B", help="of a piece, on average", low=2, high=16_384),
        # At least 1: with 0 the first data that it slices panics Toxiproxy.
        ParamInfo(name="variation", unit="size", default="16B", help="of a piece, more or less", low=1, high=8192),
        ParamInfo(name="delay", unit="duration", default="5ms", help="after each piece", low=0.0001, high=1),
        DIRECTION,
    ),
)

LIMIT_DATA = ToxicFault(
    kind="limit-data",
    toxic="limit_data",
    summary="connections are closed once so many bytes have gone through",
    proof_summary="an exchange of more bytes than that is cut",
    does=lambda p: f"closes each connection after {whole_number(p['bytes'])} bytes",
    attributes=lambda p: {"bytes": whole_number(p["bytes"])},
    sees=_sees_cut,
    ready=_limit_ready,
    again=_whole_again,
    moves_bytes=True,
    blind=True,
    params=(
        ParamInfo(name="bytes", unit="size", default="1KB", help="that each connection may carry", low=0, high=1e6),
        DIRECTION,
    ),
)
