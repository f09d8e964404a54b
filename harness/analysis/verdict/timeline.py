"""The data behind the charts: requests by intended start, and samples, on one time axis.

Missing data is None, never 0: a bin that was not recorded is a gap in the chart, one in which nothing was asked for
is an honest 0.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from harness.analysis.record.spans import spans
from harness.analysis.record.windows import BLOCK, WindowStore
from harness.analysis.rules.sampled import is_counter
from harness.model.clock import next_step, step_start
from harness.model.records.events import Event, LoadEnded
from harness.model.records.samples import Sample

MAX_POINTS = 1200
_BIN_STEPS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
_SHORT_STEPS = 1200
"""Up to two minutes are shown in half seconds, longer runs in seconds and more."""

Values = list[float | None]


class ChartData(msgspec.Struct, frozen=True, kw_only=True):
    """Arrays by bin (t: its start in seconds since t0, lengths_s: how long it is, about step_s) and by sample
    (sample_t).

    planned_rps, rps: per second (planned: None in the closed model). failures: kind -> per second, unsent among
    them. p50_ms.. : of ok requests, None without any; failed_p95_ms: of failed ones. in_flight: highest in the bin.
    cpu: process tree -> share of one core. rss: process tree -> bytes. signals: gauges as they are, counters per
    second.
    """

    step_s: float
    t: list[float]
    lengths_s: list[float]
    planned_rps: Values
    rps: Values
    failures: dict[str, Values]
    p50_ms: Values
    p95_ms: Values
    p99_ms: Values
    in_flight: Values
    sample_t: list[float]
    cpu: dict[str, Values]
    rss: dict[str, Values]
    signals: dict[str, Values]
    failed_p95_ms: Values = []


def chart_data(store: WindowStore, samples: Sequence[Sample], history: Sequence[Event] = ()) -> ChartData:
    """Chart data of a whole run, at most about 1,200 bins. A bin begins where a phase does, so that none shows the
    fault's failures before the fault; everything ends with the load, for what the harness reads back afterwards is no
    traffic."""
    ended = [event.end_s for event in history if isinstance(event, LoadEnded)]
    last = min(store.end, next_step(ended[-1])) if ended else store.end
    size = bin_steps(last)
    edges = _edges(last, size, [span.start for span in spans(history, last)])
    starts = edges[:-1]
    kinds = sorted(
        {kind for _, step in store.steps(0, store.end) for c in step.cells.values() for kind in c.fail or ()}
    )
    failures: dict[str, Values] = {kind: [] for kind in [*kinds, "unsent", "exception"]}
    planned, rps, p50, p95, p99, failed_p95 = (list[float | None]() for _ in range(6))
    drawn = store.drawn_before()
    for start, end in pairwise(edges):
        totals = store.totals(start, end)
        arrivals = totals.arrivals
        if start >= drawn or not (arrivals.planned or totals.names):
            # Nothing due is an honest 0; something due and nothing recorded is a hole.
            known = start < drawn and not store.gaps(start, end)
            for values in (planned, rps, *failures.values()):
                values.append(0.0 if known else None)
            for values in (p50, p95, p99, failed_p95):
                values.append(None)
            continue
        names = totals.all_names()
        planned.append(arrivals.planned / totals.seconds if store.plan.load.rate is not None else None)
        rps.append(names.replies / totals.seconds)
        for kind, values in failures.items():
            count = names.fail.get(kind, 0)
            count += arrivals.unsent if kind == "unsent" else 0
            count += arrivals.failed if kind == "exception" else 0
            values.append(count / totals.seconds)
        p50.append(names.quantile_ms(0.5))
        p95.append(names.quantile_ms(0.95))
        p99.append(names.quantile_ms(0.99))
        failed_p95.append(names.failed_quantile_ms(0.95))
    ordered = [sample for sample in samples if not ended or sample.at <= ended[-1]]
    return ChartData(
        step_s=size / 10,
        t=[step_start(start) for start in starts],
        lengths_s=[(end - start) / 10 for start, end in pairwise(edges)],
        planned_rps=planned,
        rps=rps,
        failures={kind: values for kind, values in failures.items() if any(values)},
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        failed_p95_ms=failed_p95,
        in_flight=_in_flight(store, starts, last),
        sample_t=[sample.at for sample in ordered],
        cpu={tree: _cpu(ordered, tree) for tree in _trees(ordered)},
        rss={
            tree: [float(s.trees[tree].rss) if tree in s.trees else None for s in ordered] for tree in _trees(ordered)
        },
        signals={name: _signal(ordered, name) for name in sorted({n for s in ordered for n in s.signals})},
    )


def bin_steps(steps: int) -> int:
    """Steps a bin, so that a run of this many steps has at most MAX_POINTS bins."""
    if steps <= _SHORT_STEPS:
        return _BIN_STEPS[0]
    fitting = (size for size in _BIN_STEPS if size >= BLOCK and steps / size <= MAX_POINTS)
    return next(fitting, _BIN_STEPS[-1])


def _edges(end: int, size: int, phases: Sequence[int]) -> list[int]:
    """Where bins of `size` steps begin, and the end: anew at each phase, with the rest of the one before it in a longer
    bin where it is less than half of one."""
    if end <= 0:
        return [0]
    starts = sorted({0, *(step for step in phases if 0 < step < end)})
    edges: list[int] = []
    for low, high in pairwise([*starts, end]):
        bins = max(1, round((high - low) / size))
        edges += [low + i * size for i in range(bins)]
    return [*edges, end]


def _in_flight(store: WindowStore, starts: Sequence[int], end: int) -> Values:
    """Per bin the sum over workers of their highest mark in it; None where no worker left a mark."""
    found: Values = [None] * len(starts)
    for worker in store.workers.values():
        highest: dict[int, int] = {}
        for mark in worker.marks:
            number = int(mark.at * 10 + 1e-6)
            index = bisect_right(starts, number) - 1
            if index >= 0 and number < end:
                highest[index] = max(highest.get(index, 0), mark.in_flight)
        for index, count in highest.items():
            found[index] = (found[index] or 0.0) + count
    return found


def _trees(samples: Sequence[Sample]) -> list[str]:
    return sorted({tree for sample in samples for tree in sample.trees})


def _cpu(samples: Sequence[Sample], tree: str) -> Values:
    """Share of one core since the sample before; None at the first one, and where the process was started anew."""
    found: Values = [None] if samples else []
    for before, sample in pairwise(samples):
        if tree not in before.trees or tree not in sample.trees:
            found.append(None)
            continue
        used = sample.trees[tree].cpu_s - before.trees[tree].cpu_s
        found.append(_rate(used, sample.at - before.at))
    return found


def _signal(samples: Sequence[Sample], name: str) -> Values:
    if not is_counter(name):
        return [sample.signals.get(name) for sample in samples]
    found: Values = [None] if samples else []
    for before, sample in pairwise(samples):
        if name not in before.signals or name not in sample.signals:
            found.append(None)
        else:
            found.append(_rate(sample.signals[name] - before.signals[name], sample.at - before.at))
    return found


def _rate(rise: float, seconds: float) -> float | None:
    return rise / seconds if rise >= 0 and seconds > 0 else None
