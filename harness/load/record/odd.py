"""What a client reports of a request, as numbers: a header's text, an unknown time, infinity."""

from __future__ import annotations

import math
from datetime import timedelta

LONGEST_MS = 86_400_000.0
"""A response time of more than a day is none."""
LARGEST = 1 << 53
"""A response of more bytes is none."""


def milliseconds(value: object) -> float | None:
    """A response time; None when it is none. A negative one is 0: somebody set a clock."""
    if isinstance(value, timedelta):
        value = value.total_seconds() * 1000
    found = _number(value)
    return None if found is None or found >= LONGEST_MS else max(0.0, found)


def length_of(value: object) -> int | None:
    """A response length; None when it is none. A negative one, of a reply that names none, is 0."""
    found = _number(value)
    return None if found is None or found >= LARGEST else max(0, int(found))


def _number(value: object) -> float | None:
    if value is None:
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except Exception:  # whatever a conversion of the locustfile's own raises
        return None
    return found if math.isfinite(found) else None
