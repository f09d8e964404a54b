"""What a source says of alerts at one moment, whichever source it is, and what its answers are held to."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from harness.adapters.wire.http import Client
from harness.model.errors import Rejected
from harness.model.jsonl import decoding_error
from harness.model.records.alerts import MAX_LABELS, MAX_NAME, AlertRule, State

TIMEOUT_S = 2.0
MAX_ANSWER = 8 * 2**20
"""Bytes that are parsed. A thousand firing alerts with long annotations have less than one megabyte."""
MAX_SERIES = 1_000
"""Of alerts at one moment; beyond that nobody reads them either."""
NAME = "alertname"

T = TypeVar("T")


class Active(msgspec.Struct, frozen=True, kw_only=True):
    """One series of an alert. since: when it came to this state by the source's clock, seconds since the epoch."""

    alert: str
    series: str
    labels: str
    state: State
    since: float | None = None


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """active: every series that is pending, firing or suppressed now. evaluated: alert -> when its rule was last
    evaluated, by the source's clock; what has gone since the look before has gone then."""

    active: tuple[Active, ...]
    rules: tuple[AlertRule, ...] = ()
    evaluated: Mapping[str, float] = {}


def ask(client: Client, url: str, type_: type[T]) -> T:
    """One JSON answer. Raises AdapterError for everything that is none."""
    reply = client.get(url, TIMEOUT_S)
    if reply.status != 200:
        raise Rejected(f"{url} answered {reply.status}")
    return decoded(reply.body, url, type_)


def decoded(body: bytes, what: str, type_: type[T]) -> T:
    """Raises Rejected, in one line, for whatever is not what the source's API says."""
    if len(body) > MAX_ANSWER:
        raise Rejected(f"{what}: an answer of more than {MAX_ANSWER // 2**20} MB is not read")
    try:
        return msgspec.json.decode(body, type=type_)
    except RecursionError:
        raise Rejected(f"{what}: an answer nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
        raise Rejected(f"{what}: not what this API answers: {decoding_error(error)[:200]}") from error


def active(labels: Mapping[str, str], state: State, since: str | None) -> Active | None:
    """None for what has no name."""
    name = labels.get(NAME, "")
    if not name:
        return None
    rest = sorted((key, value) for key, value in labels.items() if key != NAME)
    return Active(
        alert=name[:MAX_NAME],
        series=hashlib.blake2b(msgspec.json.encode([name, rest]), digest_size=6).hexdigest(),
        labels=", ".join(f"{key}={value}" for key, value in rest)[:MAX_LABELS],
        state=state,
        since=instant(since),
    )


def limited(found: Iterable[Active | None], what: str) -> tuple[Active, ...]:
    """Each series once: the last word on it. Raises Rejected for more than anybody would read."""
    kept = {one.series: one for one in found if one is not None}
    if len(kept) > MAX_SERIES:
        raise Rejected(f"{what}: more than {MAX_SERIES:,} alerts at once are not read")
    return tuple(kept.values())


def instant(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for what is none, and for Go's zero time."""
    try:
        found = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if found is None or found.year < 1971:
        return None
    seconds = (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    return seconds if math.isfinite(seconds) else None
