"""Mutable counts of one step, turned into a frozen row when they are flushed."""

from __future__ import annotations

from harness.model.sketch import bucket_of
from harness.model.windows import ClassCounts, DeltaRow, RequestCounts, limit_key


class ClassTally:
    __slots__ = ("ended", "failed", "planned", "replied", "unsent_cap", "unsent_generator")

    def __init__(self) -> None:
        self.planned = self.ended = self.replied = self.unsent_cap = self.unsent_generator = self.failed = 0

    def frozen(self) -> ClassCounts:
        return ClassCounts(
            planned=self.planned,
            ended=self.ended,
            replied=self.replied,
            unsent_cap=self.unsent_cap,
            unsent_generator=self.unsent_generator,
            failed=self.failed,
        )


class RequestTally:
    """limits_ms: latency limits in force, counted exactly; a row names all of them, also those at 0."""

    __slots__ = (
        "backfilled",
        "backfilled_fail",
        "backfilled_sketch",
        "backfilled_sum_ms",
        "fail",
        "max_ms",
        "ok",
        "over",
        "sketch",
        "sum_ms",
    )

    def __init__(self, limits_ms: tuple[float, ...]) -> None:
        self.ok = 0
        self.fail: dict[str, int] = {}
        self.sum_ms = self.max_ms = 0.0
        self.sketch: dict[int, int] = {}
        self.over = dict.fromkeys(limits_ms, 0)
        self.backfilled = 0
        self.backfilled_sum_ms = 0.0
        self.backfilled_sketch: dict[int, int] = {}
        self.backfilled_fail: dict[str, int] = {}

    def add_ok(self, latency_ms: float, count: int = 1) -> int:
        """Returns the sketch's bucket."""
        self.ok += count
        self.sum_ms += latency_ms * count
        if latency_ms > self.max_ms:
            self.max_ms = latency_ms
        bucket = bucket_of(latency_ms)
        self.sketch[bucket] = self.sketch.get(bucket, 0) + count
        for limit in self.over:
            if latency_ms >= limit:
                self.over[limit] += count
        return bucket

    def add_failure(self, kind: str, count: int = 1) -> None:
        self.fail[kind] = self.fail.get(kind, 0) + count

    def add_virtual(self, latency_ms: float, kind: str | None, count: int) -> None:
        if kind is not None:
            self.add_failure(kind, count)
            self.backfilled_fail[kind] = self.backfilled_fail.get(kind, 0) + count
            return
        bucket = self.add_ok(latency_ms, count)
        self.backfilled += count
        self.backfilled_sum_ms += latency_ms * count
        self.backfilled_sketch[bucket] = self.backfilled_sketch.get(bucket, 0) + count

    def frozen(self) -> RequestCounts:
        return RequestCounts(
            ok=self.ok,
            fail=self.fail,
            sum_ms=round(self.sum_ms, 4),
            max_ms=round(self.max_ms, 4),
            sketch=_flat(self.sketch),
            over={limit_key(limit): n for limit, n in self.over.items()} if self.ok else {},
            backfilled=self.backfilled,
            backfilled_sum_ms=round(self.backfilled_sum_ms, 4),
            backfilled_sketch=_flat(self.backfilled_sketch),
            backfilled_fail=self.backfilled_fail,
        )


class StepTally:
    __slots__ = ("classes", "requests", "setup")

    def __init__(self) -> None:
        self.classes: dict[str, ClassTally] = {}
        self.requests: dict[str, RequestTally] = {}
        self.setup: dict[str, RequestTally] = {}

    def counts(self, class_name: str) -> ClassTally:
        tally = self.classes.get(class_name)
        if tally is None:
            tally = self.classes[class_name] = ClassTally()
        return tally

    def row(self, worker: str, step: int) -> DeltaRow:
        return DeltaRow(
            worker=worker,
            step=step,
            classes={name: tally.frozen() for name, tally in self.classes.items()},
            requests={name: tally.frozen() for name, tally in self.requests.items()},
            setup={name: tally.frozen() for name, tally in self.setup.items()},
        )


def _flat(buckets: dict[int, int]) -> list[int]:
    return [x for pair in sorted(buckets.items()) for x in pair]
