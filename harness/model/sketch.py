"""A mergeable latency sketch with a relative error of at most 1 %.

Logarithmic buckets, as in DDSketch (Masson, Rim, Lee, VLDB 2019): bucket i holds latencies in
(GAMMA**(i-1), GAMMA**i] milliseconds, and stands for 2 * GAMMA**i / (GAMMA + 1), which is within ALPHA of
every value in it. Latencies are clamped to 10 microseconds .. 10 minutes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

ALPHA = 0.01
GAMMA = (1 + ALPHA) / (1 - ALPHA)
_LOG_GAMMA = math.log(GAMMA)
MIN_MS = 0.01
MAX_MS = 600_000.0


def bucket_of(latency_ms: float) -> int:
    """The bucket of a latency in milliseconds."""
    return math.ceil(math.log(min(max(latency_ms, MIN_MS), MAX_MS)) / _LOG_GAMMA)


def buckets_of(latencies_ms: Iterable[float]) -> list[int]:
    """The bucket of each; for many at once."""
    log, ceil, lowest, highest = math.log, math.ceil, MIN_MS, MAX_MS
    return [ceil(log(lowest if x < lowest else highest if x > highest else x) / _LOG_GAMMA) for x in latencies_ms]


def bucket_value(bucket: int) -> float:
    """The latency in milliseconds a bucket stands for."""
    return float(2 * GAMMA**bucket / (GAMMA + 1))


def quantile(buckets: Mapping[int, int], q: float) -> float | None:
    """The q-quantile (0..1) in milliseconds, nearest rank; None when empty."""
    total = sum(buckets.values())
    if total == 0:
        return None
    rank = max(1, math.ceil(q * total))
    seen = 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen >= rank:
            return bucket_value(bucket)
    raise AssertionError("unreachable: counts changed while summing")
