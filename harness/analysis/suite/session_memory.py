"""Memory of the target over a whole session: the samples of its experiments, on one clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.analysis.record.spans import fault_intervals
from harness.analysis.rules.memory import LIMIT_PER_H, Point, points_of, session_memory
from harness.analysis.run_directory import load_beside
from harness.model.errors import UsageError
from harness.model.records import events as ev
from harness.model.records.result import MemoryResult


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment that was carried out. restarted: the target was started again after it, before the next."""

    run_dir: Path
    restarted: bool = False


def memory_of(experiments: Sequence[Part]) -> MemoryResult | None:
    """By their run directories, in the order in which they were carried out; None where no memory was seen. One that
    cannot be read tells nothing.

    Stretches end where a fault begins. Another process is another part: after an experiment that the target did not
    come back from, and after a fault of the target itself.
    """
    parts: list[list[list[Point]]] = [[[]]]
    limits, seed = [], 0
    for one in experiments:
        try:
            plan, history, samples = load_beside(one.run_dir)
        except UsageError:
            parts.append([[]])
            continue
        t0 = next((event.monotonic for event in history if isinstance(event, ev.Started)), 0.0)
        seed = seed or plan.seed
        limits += [target.value for target in plan.targets if target.metric == "memory_growth"]
        points = points_of(samples, (-math.inf, math.inf))
        # Samples go on until the next experiment begins. When in that time the target was started again is not known.
        end_s = next((event.end_s for event in reversed(history) if isinstance(event, ev.LoadEnded)), math.inf)
        end_s = end_s if one.restarted else math.inf
        at_s = -math.inf
        for start_s, undone_s in fault_intervals(plan, history, end_s):
            parts[-1][-1] += [(t0 + at, rss) for at, rss in points if at_s <= at < min(start_s, end_s)]
            at_s = max(at_s, undone_s)
            if any(fault.change.dependency.target for fault in plan.faults):
                parts.append([[]])
            else:
                parts[-1].append([])
        parts[-1][-1] += [(t0 + at, rss) for at, rss in points if at_s <= at < end_s]
        if one.restarted:
            parts.append([[]])
    if not any(points for part in parts for points in part):
        return None
    return session_memory(parts, seed=seed, limit_per_h=min(limits, default=LIMIT_PER_H))
