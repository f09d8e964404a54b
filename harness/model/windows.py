"""windows.jsonl: what the load processes record, 100 ms rows keyed by intended start and worker.

Rows are deltas that add up: a request that completes late adds a row for its old step. Three row kinds share
the file, told apart by the field `row`.
"""

from __future__ import annotations

import msgspec

FAILURE_KINDS = ("status", "timeout", "refused", "reset", "protocol", "check", "exception", "unfinished")
"""Kinds of failed *requests*. `unsent` (and failed arrivals, kind `exception`) are counted by class instead."""

REPLY_KINDS = ("status", "check")
"""Failures in which the target did answer: they count as replies in `rps`."""


class ClassCounts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Arrivals of one user class intended in this step.

    planned: drawn from the schedule and due. replied: arrivals whose first request got a reply.
    ended: arrivals that have ended in any way; a step is final when ended == planned.
    No user free within 1 s: unsent_cap, all were waiting for the target; unsent_task, some sat in a task's own think
    time; unsent_generator, the generator was saturated.
    failed: the task ended in an exception without a request; empty: it ended without a request and without one.
    In the closed model planned counts task starts.
    """

    planned: int = 0
    ended: int = 0
    replied: int = 0
    unsent_cap: int = 0
    unsent_task: int = 0
    unsent_generator: int = 0
    failed: int = 0
    empty: int = 0


def without_request(counts: ClassCounts) -> int:
    """Arrivals that failed without a request: unsent ones and tasks that raised."""
    return counts.unsent_cap + counts.unsent_task + counts.unsent_generator + counts.failed


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
    """

    ok: int = 0
    fail: dict[str, int] = {}
    sum_ms: float = 0.0
    max_ms: float = 0.0
    sketch: list[int] = []
    over: dict[str, int] = {}
    backfilled: int = 0
    backfilled_sum_ms: float = 0.0
    backfilled_sketch: list[int] = []
    backfilled_fail: dict[str, int] = {}
    failed_max_ms: float = 0.0
    failed_sketch: list[int] = []


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
    at: float
    done: int
    open: list[int] = []
    unasked: list[int] = []
    open_names: dict[str, list[int]] = {}
    cpu: float | None = None
    lateness_p99_ms: float | None = None
    lateness_max_ms: float | None = None
    lateness_n: int = 0
    users: int = 0
    saturated: bool = False
    final: bool = False


class ErrorRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="row", tag="error"):
    """Errors since the last flush, by kind and request name (name None: a failed arrival)."""

    worker: str
    kind: str
    name: str | None = None
    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    example: str = ""


Row = DeltaRow | MarkRow | ErrorRow


def limit_key(limit_ms: float) -> str:
    """The key of a latency limit in `over`: 200.0 -> "200", 12.5 -> "12.5"."""
    return f"{limit_ms:g}"
