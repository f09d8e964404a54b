"""Mutable counts of one step, turned into a frozen row when they are flushed."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from harness.model.records.windows import ClassCounts, DeltaRow, RequestCounts, flattened, limit_key, trace_id
from harness.model.sketch import bucket_of, buckets_of


class RequestTally:
    """latencies: of ok requests, in ms; they are only looked at when the row is made, all at once. failed_latencies: of
    those that failed. slowest: traceparent of the ok request that took longest, slowest_ms.

    limits_ms: latency limits in force, counted exactly; a row names all of them, also those at 0.
    """

    __slots__ = (
        "_limits_ms",
        "_virtual",
        "_virtual_fail",
        "body_bytes",
        "fail",
        "failed_latencies",
        "latencies",
        "resent",
        "slowest",
        "slowest_ms",
    )

    def __init__(self, limits_ms: tuple[float, ...]) -> None:
        self.latencies: list[float] = []
        self.body_bytes = self.resent = 0
        self.slowest_ms, self.slowest = -1.0, ""
        self.failed_latencies: list[float] = []
        self.fail: dict[str, int] = {}
        self._limits_ms = limits_ms
        self._virtual: list[tuple[float, int]] = []
        self._virtual_fail: dict[str, int] = {}

    def add_failure(self, kind: str, count: int = 1) -> None:
        self.fail[kind] = self.fail.get(kind, 0) + count

    def add_virtual(self, latency_ms: float, kind: str | None, count: int) -> None:
        """Virtual arrivals count with the others, and apart."""
        if kind is None:
            self._virtual.append((latency_ms, count))
        else:
            self.add_failure(kind, count)
            self._virtual_fail[kind] = self._virtual_fail.get(kind, 0) + count

    def frozen(self) -> RequestCounts:
        latencies = sorted(self.latencies)
        sketch = Counter(buckets_of(latencies))
        over = {limit: len(latencies) - bisect_left(latencies, limit) for limit in self._limits_ms}
        apart: Counter[int] = Counter()
        virtual, virtual_sum_ms = 0, 0.0
        for latency_ms, count in self._virtual:
            apart[bucket_of(latency_ms)] += count
            virtual += count
            virtual_sum_ms += latency_ms * count
            for limit in over:
                over[limit] += count if latency_ms >= limit else 0
        ok = len(latencies) + virtual
        longest = max([latency_ms for latency_ms, _ in self._virtual], default=0.0)
        return RequestCounts(
            ok=ok,
            fail=self.fail,
            sum_ms=round(sum(latencies) + virtual_sum_ms, 4),
            max_ms=round(max(longest, latencies[-1] if latencies else 0.0), 4),
            sketch=flattened(sketch + apart),
            over={limit_key(limit): n for limit, n in over.items()} if ok else {},
            backfilled=virtual,
            backfilled_sum_ms=round(virtual_sum_ms, 4),
            backfilled_sketch=flattened(apart),
            backfilled_fail=self._virtual_fail,
            failed_max_ms=round(max(self.failed_latencies, default=0.0), 4),
            failed_sketch=flattened(Counter(buckets_of(sorted(self.failed_latencies))))
            if self.failed_latencies
            else [],
            body_bytes=self.body_bytes,
            resent=self.resent,
            slowest=trace_id(self.slowest),
            slowest_ms=round(self.slowest_ms, 4) if self.slowest else 0.0,
        )


class StepTally:
    __slots__ = ("classes", "requests", "setup")

    def __init__(self) -> None:
        self.classes: dict[str, ClassCounts] = {}
        self.requests: dict[str, RequestTally] = {}
        self.setup: dict[str, RequestTally] = {}

    def row(self, worker: str, step: int, ended: int | None) -> DeltaRow:
        return DeltaRow(
            worker=worker,
            step=step,
            ended=ended,
            classes=self.classes,
            requests={name: tally.frozen() for name, tally in self.requests.items()},
            setup={name: tally.frozen() for name, tally in self.setup.items()},
        )
