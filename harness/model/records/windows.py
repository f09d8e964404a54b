"""windows.jsonl: what the load processes record, 100 ms rows keyed by intended start and worker.

Rows are deltas that add up: a request that completes late adds a row for its old step. Three row kinds share
the file, told apart by the field `row`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
"""Checked where a row is read. What is larger, or negative, was written by no load process."""
Amount = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
"""The same for milliseconds, seconds and shares."""
Moment = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
"""Seconds since t0."""

TraceId = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{32})?\Z")]
"""Of a request that carried one; "" for none."""

FAILURE_KINDS = ("status", "timeout", "refused", "reset", "protocol", "check", "exception", "unfinished")
"""Kinds of failed *requests*. `unsent` (and failed arrivals, kind `exception`) are counted by class instead."""

REPLY_KINDS = ("status", "check")
"""Failures in which the target did answer: they count as replies in `rps`."""


class ClassCounts(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Arrivals of one user class intended in this step; of several steps, where they were added up.

    planned: drawn from the schedule and due. replied: arrivals whose first request got a reply.
    ended: arrivals that have ended in any way; a step is final when ended == planned.
    No user free within 1 s: unsent_cap, all were waiting for the target; unsent_task, some sat in a task's own think
    time; unsent_generator, the generator was saturated. unsent_cap_start and unsent_task_start are those of unsent_cap
    and unsent_task for which no new user could start: the target, or something else, kept it from that.
    failed: the task ended in an exception without a request; empty: it ended without a request and without one.
    In the closed model planned counts task starts.
    """

    planned: Count = 0
    ended: Count = 0
    replied: Count = 0
    unsent_cap: Count = 0
    unsent_task: Count = 0
    unsent_generator: Count = 0
    failed: Count = 0
    empty: Count = 0
    unsent_cap_start: Count = 0
    unsent_task_start: Count = 0

    def add(self, more: ClassCounts) -> None:
        self.planned += more.planned
        self.ended += more.ended
        self.replied += more.replied
        self.unsent_cap += more.unsent_cap
        self.unsent_task += more.unsent_task
        self.unsent_generator += more.unsent_generator
        self.failed += more.failed
        self.empty += more.empty
        self.unsent_cap_start += more.unsent_cap_start
        self.unsent_task_start += more.unsent_task_start

    @property
    def unsent(self) -> int:
        return self.unsent_cap + self.unsent_task + self.unsent_generator

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
    def without_request(self) -> int:
        """Arrivals that failed without a request: unsent ones and tasks that raised."""
        return self.unsent + self.failed


class RequestCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests of one name whose intended start lies in this step.

    ok: successes. fail: kind -> count. sum_ms, max_ms: of ok latencies.
    failed_max_ms, failed_sketch: of the latencies of failed requests (not of virtual ones): what people waited for an
    error.
    sketch: flat [bucket, count, bucket, count, ...] of ok latencies (harness.model.sketch).
    over: limit_key(limit) -> ok requests that took >= the limit, for the limits in force; zero counts may be left out.
    backfilled: virtual arrivals of the closed model, *included* in ok, sum_ms, sketch and over; never in totals.
    backfilled_sum_ms, backfilled_sketch: their part of sum_ms and sketch, so that both views can be reported.
    backfilled_fail: virtual arrivals whose request failed, by kind, *included* in fail; never in totals.
    body_bytes: lengths of the replies of ok requests, without virtual ones; 0 where the client tells none.
    resent: ok requests that were sent twice: their kept connection was closed before any byte of a reply.
    slowest: trace id of the ok request that took longest, slowest_ms.
    """

    ok: Count = 0
    fail: dict[str, Count] = {}
    sum_ms: Amount = 0.0
    max_ms: Amount = 0.0
    sketch: list[int] = []
    over: dict[str, Count] = {}
    backfilled: Count = 0
    backfilled_sum_ms: Amount = 0.0
    backfilled_sketch: list[int] = []
    backfilled_fail: dict[str, Count] = {}
    failed_max_ms: Amount = 0.0
    failed_sketch: list[int] = []
    body_bytes: Count = 0
    resent: Count = 0
    slowest: TraceId = ""
    slowest_ms: Amount = 0.0


class DeltaRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="row", tag="delta"):
    """step: intended start // 100 ms since t0. over keys are limits in ms formatted with `limit_key`.

    ended: the step (of now, not of the intended start) in which all that the row counts ended; None in records of
    earlier versions.
    setup: requests made in on_start, reported apart and never judged.
    """

    worker: str
    step: int
    ended: int | None = None
    classes: dict[str, ClassCounts] = {}
    requests: dict[str, RequestCounts] = {}
    setup: dict[str, RequestCounts] = {}


class MarkRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="row", tag="mark"):
    """A watermark, once a flush (about every 100 ms).

    at: seconds since t0. done: every step below this one has been drawn from the schedule (its planned counts
    are recorded). open: flat [step, arrivals, step, arrivals, ...] of arrivals taken but not ended; unasked: those of
    them whose task has not made a request yet. open_names: requests in flight by name -> flat [step, n, ...]; in the
    closed model with the virtual arrivals that they have missed so far.
    cpu: this process, share of one core since the last mark. lateness_p99_ms: over the arrivals since the last
    mark; lateness_n: how many. users: users alive. final: True on the last mark of a worker after its drain.
    """

    worker: str
    at: Moment
    done: Count
    open: list[int] = []
    unasked: list[int] = []
    open_names: dict[str, list[int]] = {}
    cpu: Amount | None = None
    lateness_p99_ms: Amount | None = None
    lateness_max_ms: Amount | None = None
    lateness_n: Count = 0
    users: Count = 0
    saturated: bool = False
    final: bool = False


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="row", tag="error"):
    """Errors of one step of the intended start, by kind and request name (name None: a failed arrival).

    example, trace: of one of them. step: None in records of schema 1, whose rows hold what came between two flushes,
    of any steps.
    """

    worker: str
    kind: str
    name: str | None = None
    step: int | None = None
    count: Count = 0
    first_s: Moment = 0.0
    last_s: Moment = 0.0
    example: str = ""
    trace: TraceId = ""


Row = DeltaRow | MarkRow | ErrorRow


def trace_id(parent: str) -> TraceId:
    """Of a traceparent; none of none."""
    return parent[3:35]


def limit_key(limit_ms: float) -> str:
    """The key of a latency limit in `over`: 200.0 -> "200", 12.5 -> "12.5"."""
    return f"{limit_ms:g}"


def flattened(counts: Mapping[int, int]) -> list[int]:
    """Counts as rows have them: [key, count, key, count, ...], by key."""
    return [x for pair in sorted(counts.items()) for x in pair]


def pairs(flat: Sequence[int]) -> dict[int, int]:
    """The counts of such a list."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
