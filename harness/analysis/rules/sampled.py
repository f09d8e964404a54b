"""What samples.jsonl says about a phase: CPU of the target, Prometheus signals."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

import msgspec

from harness.analysis.record.spans import Span
from harness.analysis.rules.memory import TREE
from harness.model.records.plan import Plan
from harness.model.records.result import SignalResult
from harness.model.records.samples import Sample

COUNTER_ENDS = ("_total", "_count", "_sum", "_bucket")
"""Prometheus's own naming rule for series that only ever rise."""

MIN_COVER = 0.5
"""Samples must span at least this share of a phase before a mean over it means anything."""


class CpuUse(msgspec.Struct, frozen=True):
    """mean: share of the CPU that the target may use, 0..1. busiest: largest share of one core by one process."""

    mean: float
    busiest: float | None


def is_counter(signal: str) -> bool:
    return signal.endswith(COUNTER_ENDS)


def cpu_share(samples: Sequence[Sample], span: Span, plan: Plan) -> CpuUse | None:
    """CPU time of the target's process tree / (time x min(its worker processes, cores, quota)), None when not seen.

    A restarted target begins again at 0 CPU seconds; such a drop is skipped, never subtracted.
    """
    seen = [(s.at, s.trees[TREE]) for s in samples if span.start_s <= s.at <= span.end_s and TREE in s.trees]
    if len(seen) < 2 or seen[-1][0] - seen[0][0] < MIN_COVER * span.seconds:
        return None
    used = covered = 0.0
    for (before_at, before), (at, use) in pairwise(seen):
        if use.cpu_s >= before.cpu_s:
            used += use.cpu_s - before.cpu_s
            covered += at - before_at
    cores = plan.provenance.cpus if plan.provenance is not None else 1
    share: float = max(1, min(plan.target_workers, cores))
    quota = seen[0][1].cpu_limit
    if quota is not None:
        share = min(share, quota)
    busiest = [use.busiest_cpu for _, use in seen if use.busiest_cpu is not None]
    return CpuUse(used / (covered * share), max(busiest, default=None)) if covered > 0 else None


def signal_mean(samples: Sequence[Sample], name: str, span: Span) -> float | None:
    """Mean of a gauge, or the rate per second of a counter, over a phase; None when it was not seen."""
    seen = [(s.at, s.signals[name]) for s in samples if span.start_s <= s.at <= span.end_s and name in s.signals]
    if not seen:
        return None
    if not is_counter(name):
        return sum(value for _, value in seen) / len(seen)
    rise = covered = 0.0
    for (before_at, before), (at, value) in pairwise(seen):
        if value >= before:  # a drop is a restart of the target
            rise += value - before
            covered += at - before_at
    return rise / covered if covered > 0 else None


def signal_noise(samples: Sequence[Sample], name: str, span: Span) -> float | None:
    """Standard deviation of a gauge's readings, or of a counter's rates between them; None for fewer than three."""
    seen = [(s.at, s.signals[name]) for s in samples if span.start_s <= s.at <= span.end_s and name in s.signals]
    values = [value for _, value in seen]
    if is_counter(name):
        values = [(b - a) / (at - before) for (before, a), (at, b) in pairwise(seen) if b >= a and at > before]
    return statistics.stdev(values) if len(values) > 2 else None


def signals(samples: Sequence[Sample], spans: Sequence[Span]) -> dict[str, SignalResult]:
    """Every signal seen, by phase."""
    found = {}
    for name in sorted({name for sample in samples for name in sample.signals}):
        by_phase = {}
        for span in spans:
            mean = signal_mean(samples, name, span) if span.end > span.start else None
            if mean is not None:
                by_phase[str(span.name)] = round(mean, 9)
        noise = next((signal_noise(samples, name, span) for span in spans if span.name == "baseline"), None)
        found[name] = SignalResult(
            by_phase=by_phase, counter=is_counter(name), noise=None if noise is None else round(noise, 9)
        )
    return found


def cpu_by_phase(samples: Sequence[Sample], spans: Sequence[Span], plan: Plan) -> dict[str, float]:
    used = ((str(span.name), cpu_share(samples, span, plan)) for span in spans if span.end > span.start)
    return {name: round(use.mean, 6) for name, use in used if use is not None}
