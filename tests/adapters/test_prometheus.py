"""Signals are what a person would read off the metrics page."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

from harness.adapters.clients.prometheus_text import signals
from harness.model.errors import Rejected


def test_series_are_summed_and_buckets_left_out() -> None:
    registry = CollectorRegistry()
    requests = Counter("http_requests", "h", ("route", "status"), registry=registry)
    requests.labels("/a", "200").inc(3)
    requests.labels('/b "quoted" \\ \n', "500").inc(4)
    Gauge("cache_hit_rate", "h", registry=registry).set(0.25)
    duration = Histogram("http_request_duration_seconds", "h", ("route",), registry=registry)
    duration.labels("/a").observe(0.5)
    duration.labels("/b").observe(1.0)
    Summary("sizes", "h", registry=registry).observe(7)
    found = signals(generate_latest(registry).decode())
    assert found == {
        "http_requests_total": 7.0,
        "cache_hit_rate": 0.25,
        "http_request_duration_seconds_count": 2.0,
        "http_request_duration_seconds_sum": 1.5,
        "sizes_count": 1.0,
        "sizes_sum": 7.0,
    }


def test_untyped_series_count_and_what_is_no_number_does_not() -> None:
    page = 'up 1\nsome_ratio NaN\nsome_bound +Inf\nlag{p="0"} 2 1700000000000\nlag{p="1"} 3\n\n# a remark\n'
    assert signals(page) == {"up": 1.0, "lag": 5.0}


def test_a_sum_without_bounds_is_left_out() -> None:
    assert signals('# TYPE a gauge\na{b="1"} 1.7e308\na{b="2"} 1.7e308\n# TYPE c gauge\nc 1e308\n') == {"c": 1e308}


def test_an_empty_page_has_no_signals() -> None:
    assert signals("") == {}


@pytest.mark.parametrize("page", ["<html><body>404</body></html>", '{"status": "ok"}', "a b c d\n"])
def test_another_page_is_rejected(page: str) -> None:
    with pytest.raises(Rejected, match="metrics page"):
        signals(page)
