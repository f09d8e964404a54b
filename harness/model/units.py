"""Quantities as people write them ("300ms", "64MB", "32KB/s", "95%") and as people read them.

Every parser takes the text and `what`, the words for the thing in an error ("latency of redis-latency"), and raises
UsageError with one line: what is wrong and what would be right. A number that needs a unit and has none is refused
(is "30" seconds or milliseconds?); only a bare 0 needs none. nan, inf, negative and absurd values are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from harness.model.errors import UsageError

_NUMBER = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"
_ONE = re.compile(rf"({_NUMBER})\s*([a-zA-Zµμ]+)")
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")

_SECONDS: Mapping[str, float] = {
    "us": 1e-6,
    "µs": 1e-6,  # U+00B5, micro sign
    "μs": 1e-6,  # U+03BC, Greek mu
    "ms": 1e-3,
    "s": 1.0,
    "sec": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_BYTES: Mapping[str, float] = {
    "b": 1,
    "kb": 1e3,
    "mb": 1e6,
    "gb": 1e9,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
}

MAX_DURATION_S = 30 * 86400.0
MAX_BYTES = 1e15
MAX_COUNT = 10**9


def _refuse(text: str, what: str, wrong: str, right: str) -> UsageError:
    return UsageError(f"{what} {text!r}: {wrong}; write {right}")


def _plain(text: str) -> float | None:
    """A bare decimal number, with or without thousands commas; None when it is anything else."""
    text = text.strip()
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    return float(text) if re.fullmatch(_NUMBER, text) else None


def _check_sign(text: str, what: str, right: str) -> None:
    bare = text.strip().lower()
    if bare.startswith("-"):
        raise _refuse(text, what, "it must not be negative", right)
    if bare.lstrip("+").startswith(("nan", "inf")):
        raise _refuse(text, what, "it is not a finite number", right)


def parse_duration(text: str, what: str = "duration") -> float:
    """Seconds: "300ms", "2s", "1m30s", "5m", "1h". At most 30 days. A bare 0 is 0."""
    right = "for example 300ms, 2s, 1m30s or 1h"
    body = text.strip()
    _check_sign(text, what, right)
    bare = _plain(body)
    if bare == 0:
        return 0.0
    if bare is not None:
        raise _refuse(text, what, "the unit is missing", f"{body}s or {body}ms")
    total, at, last = 0.0, 0, math.inf
    for match in _ONE.finditer(body):
        if body[at : match.start()].strip():
            raise _refuse(text, what, "not a duration", right)
        scale = _SECONDS.get(match[2]) or _SECONDS.get(match[2].lower())
        if scale is None:
            raise _refuse(text, what, f"{match[2]!r} is no unit of time (us, ms, s, m, h, d)", right)
        if scale >= last:
            raise _refuse(text, what, "units go from large to small, each once", right)
        total, at, last = total + float(match[1]) * scale, match.end(), scale
    if not body or body[at:].strip() or at == 0:
        raise _refuse(text, what, "not a duration", right)
    if total > MAX_DURATION_S:
        raise _refuse(text, what, "more than 30 days is surely a mistake", right)
    return round(total, 9)


def _parse_bytes(text: str, body: str, what: str, right: str, missing: str) -> float:
    _check_sign(text, what, right)
    bare = _plain(body)
    if bare == 0:
        return 0.0
    if bare is not None:
        raise _refuse(text, what, "the unit is missing", missing)
    match = _ONE.fullmatch(body.strip())
    if match is None:
        raise _refuse(text, what, "not an amount of bytes", right)
    scale = _BYTES.get(match[2].lower())
    if scale is None:
        raise _refuse(text, what, f"{match[2]!r} is no unit of bytes (B, KB, MB, GB, KiB, MiB, GiB)", right)
    value = float(match[1]) * scale
    if value > MAX_BYTES:
        raise _refuse(text, what, "surely a mistake", right)
    return value


def parse_size(text: str, what: str = "size") -> int:
    """Bytes: "64MB" (10**6 each), "64MiB" (2**20 each), "512KB", "100B"."""
    body = text.strip()
    return round(_parse_bytes(text, body, what, "for example 64MB or 512KiB", f"{body}MB or {body}KB"))


def parse_rate(text: str, what: str = "rate") -> float:
    """Bytes per second: "32KB/s", "1MiB/s"."""
    right = "for example 32KB/s"
    body = text.strip()
    _check_sign(text, what, right)
    if _plain(body) == 0:
        return 0.0
    if not body.lower().endswith("/s"):
        bare = _plain(body)
        example = f"{body}KB/s" if bare is not None else f"{body}/s" if _ONE.fullmatch(body) else right
        raise _refuse(text, what, "a rate is bytes per second", example)
    return _parse_bytes(text, body[:-2].strip(), what, right, f"{body[:-2].strip()}KB/s")


def parse_percent(text: str, what: str = "percentage", *, high: float = 1.0) -> float:
    """A proportion: "95%" -> 0.95. `high` is the largest proportion allowed."""
    right = "for example 1% or 95%"
    body = text.strip()
    _check_sign(text, what, right)
    bare = _plain(body)
    if bare == 0:
        return 0.0
    if bare is not None:
        raise _refuse(text, what, "the percent sign is missing", f"{body}%")
    value = _plain(body[:-1]) if body.endswith("%") else None
    if value is None:
        raise _refuse(text, what, "not a percentage", right)
    if value / 100 > high:
        raise _refuse(text, what, f"more than {format_percent(high)}", right)
    return round(value / 100, 12)


def parse_number(text: str, what: str = "number", *, high: float = float(MAX_COUNT)) -> float:
    """A plain number without a unit: "0.95", "10000", "10,000"."""
    right = "a plain number such as 0.5 or 200"
    _check_sign(text, what, right)
    value = _plain(text)
    if value is None:
        raise _refuse(text, what, "not a number", right)
    if value > high:
        raise _refuse(text, what, f"more than {high:g}", right)
    return value


def parse_count(text: str, what: str = "count", *, low: int = 0, high: int = MAX_COUNT) -> int:
    """A whole number: "5000" or "5,000", from `low` to `high`."""
    right = f"a whole number from {low} to {high}" if high <= MAX_COUNT else "a whole number such as 5"
    _check_sign(text, what, right)
    value = _plain(text)
    if value is None or not value.is_integer():
        raise _refuse(text, what, "not a whole number", right)
    whole = int(text.strip().replace(",", "").partition(".")[0] or 0)  # a float has no room for a long one
    if not low <= whole <= high:
        raise _refuse(text, what, "out of range", right)
    return whole


def _short(value: float, digits: int) -> str:
    """Fixed digits, without a useless ".0" behind."""
    text = f"{value:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def format_duration(seconds: float) -> str:
    """For people: 0.0413 -> "41ms", 1.3 -> "1.3s", 90 -> "1m30s", 5400 -> "1h30m"."""
    if seconds < 0:
        return "-" + format_duration(-seconds)
    if seconds < 0.9995 and seconds != 0:
        return format_ms(seconds * 1000)
    if seconds < 59.95:
        return _short(seconds, 1) + "s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{left}s" if left else ""]
    return "".join(parts)


def format_ms(ms: float) -> str:
    """A latency in milliseconds for people: 0.42 -> "0.42ms", 41.3 -> "41ms", 24000 -> "24s"."""
    if ms >= 999.5:
        return _short(ms / 1000, 2 if ms < 9_995 else 1) + "s"
    if ms >= 9.95:
        return f"{ms:.0f}ms"
    return _short(ms, 1 if ms >= 0.995 else 2) + "ms"


def format_percent(proportion: float) -> str:
    """0.124 -> "12.4%", 0.0004 -> "0.04%", 1 -> "100%". Never rounds a failure away to 0% or 100%."""
    if proportion < 0:
        return "-" + format_percent(-proportion)
    percent = abs(proportion) * 100
    if percent == 0 or percent >= 9.95 or percent == round(percent, 1):
        text = _short(percent, 1)
        # 99.97 % must not read as 100 %.
        return (text if text != "100" or proportion >= 1 else _short(math.floor(percent * 1000) / 1000, 3)) + "%"
    digits = 2 if percent >= 0.01 else 4
    text = _short(percent, digits)
    return ("<0.0001" if text == "0" else text) + "%"


def format_rps(per_s: float) -> str:
    """Requests per second for people: 200.13 -> "200.1", 10000 -> "10,000"."""
    return _short(per_s, 0 if abs(per_s) >= 1000 else 1 if abs(per_s) >= 1 else 2)


def format_bytes(amount: float) -> str:
    """64000000 -> "64MB"."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if abs(amount) >= limit * 0.9995:
            return _short(amount / limit, 1) + unit
    return f"{amount:.0f}B"
