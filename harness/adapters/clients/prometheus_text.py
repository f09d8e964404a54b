"""Signals from a Prometheus /metrics page.

One number a name, summed over its labels: counters as their running total, gauges as they are, of histograms and
summaries only `_count` and `_sum`. Buckets, quantiles and creation times are left out.
"""

from __future__ import annotations

import math

from harness.adapters.wire.http import Client
from harness.model.errors import Rejected

MAX_SIGNALS = 1_000
"""A page with more names is no service's: the first ones in alphabetical order are kept."""

MAX_PAGE = 4 * 2**20
"""Characters that are parsed, which takes a second or more a megabyte."""

_KEPT = {
    "counter": ("", "_total"),
    "gauge": ("",),
    "unknown": ("",),
    "untyped": ("",),
    "histogram": ("_count", "_sum"),
    "gaugehistogram": ("_gcount", "_gsum"),
    "summary": ("_count", "_sum"),
}


def signals(text: str) -> dict[str, float]:
    """Sample name -> value, without those that are no finite number. Raises Rejected when it is no metrics page."""
    from prometheus_client.parser import text_string_to_metric_families

    # Buckets are most of a page and none of its signals: parsing them costs most of the time.
    lines = [line for line in text.splitlines() if "_bucket{" not in line]
    if sum(map(len, lines)) > MAX_PAGE:
        raise Rejected(f"a metrics page of more than {MAX_PAGE // 2**20} MB without its buckets is no service's")
    found: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families("\n".join(lines) + "\n"):
            names = {family.name + suffix for suffix in _KEPT.get(family.type, ())}
            for sample in family.samples:
                value = float(sample.value)
                if sample.name in names and math.isfinite(value):
                    found[sample.name] = found.get(sample.name, 0.0) + value
    except (ValueError, KeyError, IndexError) as error:
        raise Rejected(f"this is not a Prometheus metrics page: {error}") from error
    # Two numbers may add up to none; a record with infinity in it could not be read back.
    kept = {name: value for name, value in found.items() if math.isfinite(value) and not _is_creation_time(name, found)}
    return dict(sorted(kept.items())[:MAX_SIGNALS])


def look_for_signals(client: Client, url: str, timeout_s: float) -> int:
    """How many signals a page has. Raises AdapterError, as a clause, when it has none or does not answer."""
    reply = client.get(url, timeout_s)
    if reply.status != 200:
        raise Rejected(f"{url} answers with status {reply.status}")
    found = signals(reply.text)
    if not found:
        raise Rejected(f"{url} answers without metrics")
    return len(found)


def _is_creation_time(name: str, found: dict[str, float]) -> bool:
    """Some clients write the birth of a counter, histogram or summary as a gauge of its own."""
    base = name.removesuffix("_created")
    return base != name and any(base + suffix in found for suffix in ("", "_total", "_count"))
