"""Counts of one 100 ms step, and of stretches of steps: what windows.jsonl adds up to.

A Cell holds one request name, a Step all names and user classes. Both are sums of delta rows, so the order of the
rows does not matter. Sketches stay flat arrays in a cell: there are 30,000 cells in ten minutes of five names, and a
dict for each would take ten times the memory.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from harness.model.records.windows import REPLY_KINDS, ClassCounts, RequestCounts
from harness.model.sketch import GAMMA, bucket_of, quantile

Key = TypeVar("Key", int, str)

OWN_ACTS = ("status", "refused", "reset", "protocol", "check")
"""Failures that the target itself produced: no busy generator can make them up."""
SILENT_ACTS = ("timeout", "unfinished")
"""Failures by waiting: the target's doing unless the generator was saturated."""


@dataclass(slots=True)
class _Sums:
    """Requests, added up. ok holds backfilled; fail and failed hold no virtual arrivals: those are backfilled_failed.

    failed and replies are sums over `fail`, kept for speed; fail is None while nothing failed.
    """

    ok: int = 0
    failed: int = 0
    backfilled_failed: int = 0
    replies: int = 0
    backfilled: int = 0
    sum_ms: float = 0.0
    max_ms: float = 0.0
    backfilled_sum_ms: float = 0.0
    failed_max_ms: float = 0.0
    body_bytes: int = 0
    resent: int = 0
    fail: dict[str, int] | None = None

    def add(self, part: _Sums) -> None:
        """All but sketches and latency limits."""
        self.ok += part.ok
        self.failed += part.failed
        self.backfilled_failed += part.backfilled_failed
        self.replies += part.replies
        self.backfilled += part.backfilled
        self.sum_ms += part.sum_ms
        self.backfilled_sum_ms += part.backfilled_sum_ms
        self.body_bytes += part.body_bytes
        self.resent += part.resent
        self.max_ms = max(self.max_ms, part.max_ms)
        self.failed_max_ms = max(self.failed_max_ms, part.failed_max_ms)
        if part.fail:
            _add_counts(self._fail(), part.fail)

    def _fail(self) -> dict[str, int]:
        if self.fail is None:
            self.fail = {}
        return self.fail


@dataclass(slots=True)
class Cell(_Sums):
    """Requests of one name intended in one step."""

    over: dict[str, int] | None = None
    sketch: array[int] | None = None
    backfilled_sketch: array[int] | None = None
    failed_sketch: array[int] | None = None
    slowest: tuple[float, str] | None = None
    """(ms, trace id) of the ok request that took longest."""

    def add_row(self, counts: RequestCounts) -> int:
        """Add a delta; returns how many of its requests failed."""
        real = counts.ok - counts.backfilled
        self.ok += counts.ok
        self.replies += real
        self.sum_ms += counts.sum_ms
        self.body_bytes += counts.body_bytes
        self.resent += counts.resent
        self.sketch = _extended(self.sketch, counts.sketch)
        if counts.backfilled:
            self.backfilled += counts.backfilled
            self.backfilled_sum_ms += counts.backfilled_sum_ms
            self.backfilled_sketch = _extended(self.backfilled_sketch, counts.backfilled_sketch)
        if counts.max_ms > self.max_ms:
            self.max_ms = counts.max_ms
        if counts.slowest and (self.slowest is None or counts.slowest_ms > self.slowest[0]):
            self.slowest = (counts.slowest_ms, counts.slowest)
        if counts.over:
            self.over = self.over or {}
            _add_counts(self.over, counts.over)
        if not counts.fail:
            return 0
        self.failed_max_ms = max(self.failed_max_ms, counts.failed_max_ms)
        self.failed_sketch = _extended(self.failed_sketch, counts.failed_sketch)
        return self._add_failures(counts.fail, counts.backfilled_fail)

    def _add_failures(self, kinds: Mapping[str, int], virtual: Mapping[str, int]) -> int:
        fail, failed = self._fail(), 0
        for kind, count in kinds.items():
            if kind in virtual:
                self.backfilled_failed += virtual[kind]
                count -= virtual[kind]
            fail[kind] = fail.get(kind, 0) + count
            failed += count
            if kind in REPLY_KINDS:
                self.replies += count
        self.failed += failed
        return failed

    def proven_failures(self, saturated: bool) -> int:
        """Failures that are the target's own, whatever the generator did (silent ones only while it kept up)."""
        if not self.fail:
            return 0
        kinds = OWN_ACTS if saturated else (*OWN_ACTS, *SILENT_ACTS)
        return sum(self.fail.get(kind, 0) for kind in kinds)


@dataclass(slots=True)
class Step:
    """Everything intended in one step."""

    classes: dict[str, ClassCounts] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Every arrival that was taken off the schedule has ended."""
        return all(arrivals.ended >= arrivals.planned for arrivals in self.classes.values())


@dataclass(slots=True)
class NameTotals(_Sums):
    """One request name over a stretch of steps. `ok` holds `backfilled`; `requests` and `replies` do not."""

    fail: dict[str, int] = field(default_factory=dict)
    sketch: dict[int, int] = field(default_factory=dict)
    backfilled_sketch: dict[int, int] = field(default_factory=dict)
    failed_sketch: dict[int, int] = field(default_factory=dict)

    def merge(self, part: NameTotals) -> None:
        self.add(part)
        _add_counts(self.sketch, part.sketch)
        _add_counts(self.backfilled_sketch, part.backfilled_sketch)
        _add_counts(self.failed_sketch, part.failed_sketch)

    def add_cells(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            self.add(cell)
        _add_flat(self.sketch, (cell.sketch for cell in cells))
        _add_flat(self.backfilled_sketch, (cell.backfilled_sketch for cell in cells))
        _add_flat(self.failed_sketch, (cell.failed_sketch for cell in cells))

    @property
    def requests(self) -> int:
        return self.ok - self.backfilled + self.failed

    @property
    def expected(self) -> int:
        """Requests with the virtual arrivals of the closed model: those that a service at its usual speed would have
        got. What is judged is a share of them, as it is in windows; what was sent is `requests`."""
        return self.ok + self.expected_failed

    @property
    def expected_failed(self) -> int:
        return self.failed + self.backfilled_failed

    @property
    def mean_ms(self) -> float | None:
        return self.sum_ms / self.ok if self.ok else None

    def quantile_ms(self, q: float) -> float | None:
        return _capped(quantile(self.sketch, q), self.max_ms)

    def failed_quantile_ms(self, q: float) -> float | None:
        """What people waited before they were told of a failure; of failures whose latency is on record."""
        return _capped(quantile(self.failed_sketch, q), self.failed_max_ms)

    def measured(self) -> NameTotals:
        """The ok requests without backfilled arrivals: only what was really sent and answered."""
        return NameTotals(
            ok=self.ok - self.backfilled,
            sum_ms=self.sum_ms - self.backfilled_sum_ms,
            max_ms=self.max_ms,
            sketch={b: c - self.backfilled_sketch.get(b, 0) for b, c in self.sketch.items()},
        )

    def over(self, limit_ms: float) -> tuple[int, int]:
        """(certainly, possibly) ok requests taking >= limit_ms, by the sketch: they differ by its one bucket there."""
        edge = bucket_of(limit_ms)
        certain = sum(count for bucket, count in self.sketch.items() if bucket > edge)
        return certain, certain + self.sketch.get(edge, 0)


@dataclass(slots=True)
class Totals:
    """A stretch of steps [start, end): arrivals by user class and requests by name. left_out: so many of the steps do
    not count."""

    start: int
    end: int
    classes: dict[str, ClassCounts] = field(default_factory=dict)
    names: dict[str, NameTotals] = field(default_factory=dict)
    left_out: int = 0

    @property
    def seconds(self) -> float:
        """Of what counts: rates are per second of these."""
        return (self.end - self.start - self.left_out) / 10

    def merge(self, part: Totals) -> None:
        for name, counts in part.classes.items():
            self.classes.setdefault(name, ClassCounts()).add(counts)
        for name, names in part.names.items():
            self.names.setdefault(name, NameTotals()).merge(names)

    def add_steps(self, steps: Iterable[Step]) -> None:
        cells: dict[str, list[Cell]] = {}
        for step in steps:
            for name, counts in step.classes.items():
                self.classes.setdefault(name, ClassCounts()).add(counts)
            for name, cell in step.cells.items():
                cells.setdefault(name, []).append(cell)
        for name, found in cells.items():
            self.names.setdefault(name, NameTotals()).add_cells(found)

    @property
    def arrivals(self) -> ClassCounts:
        """All user classes in one."""
        whole = ClassCounts()
        for part in self.classes.values():
            whole.add(part)
        return whole

    @property
    def attempts(self) -> int:
        """Requests sent, unsent and failed arrivals."""
        return sum(n.requests for n in self.names.values()) + self.arrivals.without_request

    @property
    def bad(self) -> int:
        """How many of the attempts failed."""
        return sum(n.failed for n in self.names.values()) + self.arrivals.without_request

    @property
    def expected(self) -> int:
        """The denominator of error_rate: attempts and the virtual arrivals of the closed model. Without those, users
        who all wait for one hang leave a handful of time-outs among thousands of quick requests."""
        return sum(n.expected for n in self.names.values()) + self.arrivals.without_request

    @property
    def expected_bad(self) -> int:
        """The numerator of error_rate."""
        return sum(n.expected_failed for n in self.names.values()) + self.arrivals.without_request

    @property
    def error_rate(self) -> float | None:
        return self.expected_bad / self.expected if self.expected else None

    @property
    def measured_error_rate(self) -> float | None:
        """Without virtual arrivals."""
        return self.bad / self.attempts if self.attempts else None

    def all_names(self, without: Collection[str] = ()) -> NameTotals:
        """All request names in one, but these."""
        whole = NameTotals()
        for name, part in self.names.items():
            if name not in without:
                whole.merge(part)
        return whole

    def of(self, name: str | None, without: Collection[str] = ()) -> NameTotals:
        """One request name (empty when never seen), or all of them but these."""
        return self.all_names(without) if name is None else self.names.get(name, NameTotals())


def _add_counts(into: dict[Key, int], part: Mapping[Key, int]) -> None:
    get = into.get
    for key, count in part.items():
        into[key] = get(key, 0) + count


def _extended(flat: array[int] | None, more: list[int]) -> array[int] | None:
    if flat is None:
        return array("i", more) if more else None
    flat.fromlist(more)
    return flat


def _add_flat(into: dict[int, int], flats: Iterable[array[int] | None]) -> None:
    """Add flat [bucket, count, ...] arrays to a bucket -> count mapping.

    Through a list that is indexed by bucket, negative ones from its end (buckets lie between -231 and 665): a third
    faster than the mapping itself, and merging sketches is most of what an analysis does.
    """
    there = [flat for flat in flats if flat is not None]
    if not there:
        return
    dense = [0] * 1024
    for flat in there:
        numbers = iter(flat)
        for bucket, count in zip(numbers, numbers, strict=True):
            dense[bucket] += count
    for index, count in enumerate(dense):
        if count:
            bucket = index if index < 700 else index - 1024
            into[bucket] = into.get(bucket, 0) + count


def shares(counts: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Name -> share of the sum; empty when the sum is 0."""
    pairs = list(counts)
    total = sum(count for _, count in pairs)
    return {name: count / total for name, count in pairs} if total else {}


def _capped(value: float | None, max_ms: float) -> float | None:
    """A bucket stands for its middle, which may lie above the largest value seen in it."""
    if value is None:
        return None
    return min(value, max_ms) if 0 < max_ms < value * GAMMA else value
