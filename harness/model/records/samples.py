"""samples.jsonl: what was seen besides requests, about once a second."""

from __future__ import annotations

from typing import Annotated

import msgspec

from harness.model.records.windows import Amount, Count

Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**60)]


class ProcessUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process tree, or containers. cpu_s: CPU seconds used since the first sample; rss: bytes; busiest_cpu: share of
    one core used by its busiest process since the last sample.

    Of containers: rss is their working set (usage less the page cache that can be dropped), processes counts the
    containers, busiest_cpu is not known, and cpu_limit is how many CPUs they may use; None = as many as there are.
    """

    cpu_s: Amount
    rss: Bytes
    processes: Count = 1
    busiest_cpu: float | None = None
    cpu_limit: float | None = None


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the target on a connection of its own. at: when it began, seconds since t0. ok: an answer came,
    whatever it said; ms: until then, or until it was given up."""

    at: float
    ok: bool
    ms: float


class Sample(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """at: seconds since t0. trees: `target`, and each dependency's name where its process or container is known.

    signals: Prometheus series, summed over labels: counters as their running total, gauges as they are.
    net_bytes_s, disk_bytes_s: of the machine. counters: dependency -> name -> value, as its kind names them
    (harness/dependencies/); `at` among them is when they were read, seconds since t0. Each reading is in one sample
    only. fresh: the request on a fresh connection that has ended since the last sample.
    """

    at: float
    trees: dict[str, ProcessUse] = {}
    signals: dict[str, float] = {}
    net_bytes_s: float | None = None
    disk_bytes_s: float | None = None
    machine_cpu: float | None = None
    counters: dict[str, dict[str, float]] = {}
    fresh: Fresh | None = None
