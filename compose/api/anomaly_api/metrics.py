"""What GET /metrics shows."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, multiprocess
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0)
RATE_SPAN_S = 10.0


class Metrics:
    """One registry. With PROMETHEUS_MULTIPROC_DIR set, the numbers of all worker processes are added up."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        disable_created_metrics()
        self._registry = registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._duration = Histogram(
            "http_request_duration_seconds", "Time to answer a request.", labels, buckets=BUCKETS, registry=registry
        )
        self._requests = Counter("http_requests_total", "Requests answered.", labels, registry=registry)
        predictions = Counter("predictions_total", "Transactions scored or found.", ("source",), registry=registry)
        self._from_model = predictions.labels("model")
        self._from_cache = predictions.labels("cache")
        self._children: dict[tuple[str, str, int], tuple[Histogram, Counter]] = {}
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._followed: list[tuple[Counter, Callable[[], float], list[float]]] = []

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        children = self._children.get(key)
        if children is None:
            names = (method, route, str(status))
            children = self._children[key] = (self._duration.labels(*names), self._requests.labels(*names))
        children[0].observe(seconds)
        children[1].inc()

    def predicted(self, cached: int, scored: int) -> None:
        if cached:
            self._from_cache.inc(cached)
        if scored:
            self._from_model.inc(scored)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A gauge read when it is asked for. Workers: summed, but of rates the newest worker's."""
        if name.endswith("_rate"):
            gauge = Gauge(name, text, registry=self._registry, multiprocess_mode="livemostrecent")
        else:
            gauge = Gauge(name, text, registry=self._registry, multiprocess_mode="livesum")
        self._gauges.append((gauge, read))

    def follow(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A counter that follows a number kept elsewhere, which only rises."""
        self._followed.append((Counter(name, text, registry=self._registry), read, [0.0]))

    def text(self) -> bytes:
        for gauge, read in self._gauges:
            gauge.set(read())
        for counter, read, last in self._followed:
            value = read()
            counter.inc(max(0.0, value - last[0]))
            last[0] = value
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
            return generate_latest(registry)
        return generate_latest(self._registry)


class HitRate:
    """Share of lookups that found something, over the last RATE_SPAN_S seconds; 0 when there was none."""

    def __init__(self, hits: Callable[[], int], misses: Callable[[], int]) -> None:
        self._read = lambda: (time.monotonic(), hits(), misses())
        self._seen: deque[tuple[float, int, int]] = deque([self._read()])

    def __call__(self) -> float:
        now = self._read()
        self._seen.append(now)
        while len(self._seen) > 2 and self._seen[1][0] <= now[0] - RATE_SPAN_S:
            self._seen.popleft()
        _, hits, misses = self._seen[0]
        total = now[1] - hits + now[2] - misses
        return (now[1] - hits) / total if total else 0.0
