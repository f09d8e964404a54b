"""Locust's own statistics (`environment.stats`), which a locustfile may read: kept up ten times a second, in bulk,
because at every request they cost as much as the harness's own recording.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness.model.clock import monotonic

Request = tuple[str, str, float, int]
"""(request type, name, response time in ms, response length)."""

KEPT_S = 60
"""Counts of single seconds are kept for so long. Locust looks at the last twelve, and keeps all: some MB an hour."""


class StatsBatch:
    """Takes the place of the runner's own listener. Failures and the like go to that one at once."""

    def __init__(self, environment: Any) -> None:
        self._environment = environment
        self._pending: list[Request] = []
        self.add = self._pending.append
        self.log: Any = None
        self._pruned = monotonic()

    def take_over(self) -> None:
        """From the listener that the runner put there. Where it is not to be found, the event keeps it."""
        handlers = self._environment.events.request._handlers
        own = [each for each in handlers if getattr(each, "__qualname__", "") == "Runner.__init__.<locals>.on_request"]
        if len(own) == 1:
            handlers.remove(own[0])
            self.log = own[0]

    def flush(self) -> None:
        groups: dict[tuple[str, str], list[Request]] = {}
        for request in self._pending:
            groups.setdefault((request[1], request[0]), []).append(request)
        stats = self._environment.stats
        for key, requests in groups.items():
            _add(stats.entries[key], requests)
        if self._pending:
            _add(stats.total, self._pending)
        self._pending.clear()
        if monotonic() - self._pruned > KEPT_S:
            self._pruned = monotonic()
            forget_old_seconds(stats)


def forget_old_seconds(stats: Any) -> None:
    """Of `RequestStats`: what its rates no longer look at."""
    before = (stats.last_request_timestamp or 0.0) - KEPT_S
    for entry in (stats.total, *stats.entries.values()):
        for counts in (entry.num_reqs_per_sec, entry.num_fail_per_sec):
            for second in [second for second in counts if second < before]:
                del counts[second]


def _add(entry: Any, requests: list[Request]) -> None:
    from locust.stats import bucket_response_time

    # The first by Locust itself, which knows what else belongs to it; then the sums of the others.
    (_, _, time_ms, length), *others = requests
    entry.log(time_ms, length)
    if not others:
        return
    times = [request[2] for request in others]
    entry.num_requests += len(times)
    entry.num_reqs_per_sec[int(entry.last_request_timestamp)] += len(times)
    entry.total_response_time += sum(times)
    entry.min_response_time = min(entry.min_response_time, min(times))
    entry.max_response_time = max(entry.max_response_time, max(times))
    entry.total_content_length += sum(request[3] for request in others)
    for bucket, count in Counter(map(bucket_response_time, times)).items():
        entry.response_times[bucket] += count
