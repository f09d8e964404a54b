"""Counts of one 100 ms step, and of stretches of steps: what windows.jsonl adds up to.

A Cell holds one request name, a Step all names and user classes. Both are sums of delta rows, so the order of the
rows does not matter. Sketches stay flat arrays in a cell: there are 30,000 cells in ten minutes of five names, and a
dict for each would take ten times the memory.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from harness.model.records.windows import REPLY_KINDS, ClassCounts, RequestCounts
from harness.model.sketch import GAMMA, bucket_of, quantile

OWN_ACTS = ("status", "refused", "reset", "protocol", "check")
"""Failures that the target itself produced: no busy generator can make them up."""
SILENT_ACTS = ("timeout", "unfinished")
"""Failures by waiting: the target's doing unless the generator was saturated."""


@dataclass(slots=True)
class Cell:
    """Requests of one name intended in one step. failed and replies are sums over `fail`, kept for speed.

    ok holds backfilled; fail and failed hold no virtual arrivals: those are backfilled_failed.
    """

    ok: int = 0
    failed: int = 0
    backfilled_failed: int = 0
    replies: int = 0
    backfilled: int = 0
    sum_ms: float = 0.0
    max_ms: float = 0.0
    backfilled_sum_ms: float = 0.0
    fail: dict[str, int] | None = None
    over: dict[str, int] | None = None
    sketch: array[int] | None = None
    backfilled_sketch: array[int] | None = None
    failed_max_ms: float = 0.0
    failed_sketch: array[int] | None = None
    body_bytes: int = 0
    resent: int = 0

    def add(self, counts: RequestCounts) -> int:
        """Add a delta; returns how many of its requests failed."""
        real = counts.ok - counts.backfilled
        self.ok += counts.ok
        self.replies += real
        self.sum_ms += counts.sum_ms
        self.body_bytes += counts.body_bytes
        self.resent += counts.resent
        if counts.backfilled:
            self.backfilled += counts.backfilled
            self.backfilled_sum_ms += counts.backfilled_sum_ms
            self.backfilled_sketch = self.backfilled_sketch or array("i")
            self.backfilled_sketch.fromlist(counts.backfilled_sketch)
        if counts.max_ms > self.max_ms:
            self.max_ms = counts.max_ms
        if counts.over:
            over = self.over = self.over or {}
            for key, count in counts.over.items():
                over[key] = over.get(key, 0) + count
        if counts.sketch:
            if self.sketch is None:
                self.sketch = array("i", counts.sketch)
            else:
                self.sketch.fromlist(counts.sketch)
        if not counts.fail:
            return 0
        self.failed_max_ms = max(self.failed_max_ms, counts.failed_max_ms)
        if counts.failed_sketch:
            self.failed_sketch = self.failed_sketch or array("i")
            self.failed_sketch.fromlist(counts.failed_sketch)
        return self._add_failures(counts.fail, counts.backfilled_fail)

    def _add_failures(self, kinds: Mapping[str, int], virtual: Mapping[str, int]) -> int:
        fail = self.fail = self.fail or {}
        failed = 0
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
class Arrivals:
    """Arrivals of one user class; the fields are those of ClassCounts."""

    planned: int = 0
    ended: int = 0
    replied: int = 0
    unsent_cap: int = 0
    unsent_task: int = 0
    unsent_generator: int = 0
    failed: int = 0
    empty: int = 0
    unsent_cap_start: int = 0
    unsent_task_start: int = 0

    def add(self, counts: ClassCounts | Arrivals) -> None:
        self.planned += counts.planned
        self.ended += counts.ended
        self.replied += counts.replied
        self.unsent_cap += counts.unsent_cap
        self.unsent_task += counts.unsent_task
        self.unsent_generator += counts.unsent_generator
        self.failed += counts.failed
        self.empty += counts.empty
        self.unsent_cap_start += counts.unsent_cap_start
        self.unsent_task_start += counts.unsent_task_start

    @property
    def unsent_by(self) -> dict[str, int]:
        """Unsent arrivals by cause (UNSENT_WHY), those seen alone."""
        found = {
            "cap": self.unsent_cap - self.unsent_cap_start,
            "cap_start": self.unsent_cap_start,
            "task": self.unsent_task - self.unsent_task_start,
            "task_start": self.unsent_task_start,
            "generator": self.unsent_generator,
        }
        return {cause: count for cause, count in found.items() if count}

    @property
    def unsent(self) -> int:
        return self.unsent_cap + self.unsent_task + self.unsent_generator


@dataclass(slots=True)
class Step:
    """Everything intended in one step."""

    classes: dict[str, Arrivals] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Every arrival that was taken off the schedule has ended."""
        return all(arrivals.ended >= arrivals.planned for arrivals in self.classes.values())


@dataclass(slots=True)
class NameTotals:
    """One request name over a stretch of steps. `ok` holds `backfilled`; `requests` and `replies` do not."""

    ok: int = 0
    failed: int = 0
    backfilled_failed: int = 0
    replies: int = 0
    backfilled: int = 0
    sum_ms: float = 0.0
    max_ms: float = 0.0
    backfilled_sum_ms: float = 0.0
    fail: dict[str, int] = field(default_factory=dict)
    sketch: dict[int, int] = field(default_factory=dict)
    backfilled_sketch: dict[int, int] = field(default_factory=dict)
    failed_max_ms: float = 0.0
    failed_sketch: dict[int, int] = field(default_factory=dict)
    body_bytes: int = 0
    resent: int = 0

    def add(self, part: Cell | NameTotals) -> None:
        """Counts only; sketches are merged by their owner."""
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
        for kind, count in (part.fail or {}).items():
            self.fail[kind] = self.fail.get(kind, 0) + count

    def merge(self, part: NameTotals) -> None:
        """Counts and sketches."""
        self.add(part)
        merge_sketch(self.sketch, part.sketch)
        merge_sketch(self.backfilled_sketch, part.backfilled_sketch)
        merge_sketch(self.failed_sketch, part.failed_sketch)

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

    def measured(self) -> dict[int, int]:
        """The sketch without backfilled arrivals: only what was really sent and answered."""
        return {b: c - self.backfilled_sketch.get(b, 0) for b, c in self.sketch.items()}

    def measured_mean_ms(self) -> float | None:
        real = self.ok - self.backfilled
        return (self.sum_ms - self.backfilled_sum_ms) / real if real > 0 else None

    def measured_quantile_ms(self, q: float) -> float | None:
        return _capped(quantile(self.measured(), q), self.max_ms)

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
    classes: dict[str, Arrivals] = field(default_factory=dict)
    names: dict[str, NameTotals] = field(default_factory=dict)
    left_out: int = 0

    @property
    def seconds(self) -> float:
        """Of what counts: rates are per second of these."""
        return (self.end - self.start - self.left_out) / 10

    @property
    def planned(self) -> int:
        return sum(a.planned for a in self.classes.values())

    @property
    def replied(self) -> int:
        return sum(a.replied for a in self.classes.values())

    @property
    def unsent(self) -> int:
        return sum(a.unsent for a in self.classes.values())

    @property
    def unsent_task(self) -> int:
        return sum(a.unsent_task for a in self.classes.values())

    @property
    def unsent_by(self) -> dict[str, int]:
        found: Counter[str] = Counter()
        for arrivals in self.classes.values():
            found.update(arrivals.unsent_by)
        return dict(found)

    @property
    def empty(self) -> int:
        return sum(a.empty for a in self.classes.values())

    @property
    def failed_arrivals(self) -> int:
        return sum(a.failed for a in self.classes.values())

    @property
    def attempts(self) -> int:
        """Requests sent, unsent and failed arrivals."""
        return sum(n.requests for n in self.names.values()) + self.unsent + self.failed_arrivals

    @property
    def bad(self) -> int:
        """How many of the attempts failed."""
        return sum(n.failed for n in self.names.values()) + self.unsent + self.failed_arrivals

    @property
    def expected(self) -> int:
        """The denominator of error_rate: attempts and the virtual arrivals of the closed model. Without those, users
        who all wait for one hang leave a handful of time-outs among thousands of quick requests."""
        return sum(n.expected for n in self.names.values()) + self.unsent + self.failed_arrivals

    @property
    def expected_bad(self) -> int:
        """The numerator of error_rate."""
        return sum(n.expected_failed for n in self.names.values()) + self.unsent + self.failed_arrivals

    @property
    def error_rate(self) -> float | None:
        return self.expected_bad / self.expected if self.expected else None

    @property
    def measured_error_rate(self) -> float | None:
        """Without virtual arrivals."""
        return self.bad / self.attempts if self.attempts else None

    def all_names(self) -> NameTotals:
        """All request names in one."""
        whole = NameTotals()
        for part in self.names.values():
            whole.merge(part)
        return whole

    def of(self, name: str | None) -> NameTotals:
        """One request name (empty when never seen), or all of them."""
        return self.all_names() if name is None else self.names.get(name, NameTotals())


def merge_sketch(into: dict[int, int], part: Mapping[int, int]) -> None:
    get = into.get
    for bucket, count in part.items():
        into[bucket] = get(bucket, 0) + count


def merge_flat(into: dict[int, int], flats: Iterable[array[int]]) -> None:
    """Add flat [bucket, count, ...] arrays to a bucket -> count mapping.

    Through a list that is indexed by bucket, negative ones from its end (buckets lie between -231 and 665): a third
    faster than the mapping itself, and merging sketches is most of what an analysis does.
    """
    dense = [0] * 1024
    for flat in flats:
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
