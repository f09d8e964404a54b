"""Does the target's memory grow? (docs/targets.md, "memory_growth")

Each contiguous stretch outside the fault is judged by itself, the first 30 s of baseline dropped: a service that has
just met its load still fills pools and caches. It is *growing* when the lower 95 % bound of the slope projects more
than the limit (10 % an hour) and it has really grown by 2 % or 4 MB, whichever is more. The bound comes from a block
bootstrap (Kuensch 1989) over 10 s blocks: RSS samples are not independent, the blocks nearly are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median

import msgspec

from harness.model.records.result import MemoryResult
from harness.model.records.samples import Sample
from harness.model.units import format_bytes, format_percent

LIMIT_PER_H = 0.10
DROP_S = 30.0
BLOCK_S = 10.0
ENOUGH_S = 300.0
"""A shorter stretch that is not growing proves nothing."""
LEAST_BLOCKS = 6
MIN_GROWTH = 0.02
MIN_BYTES = 4e6
DRAWS = 500
TREE = "target"

Point = tuple[float, float]
"""(seconds since t0, bytes)."""


class Trend(msgspec.Struct, frozen=True):
    """One stretch: slope and its one-sided 95 % lower bound as proportions per hour, growth in bytes."""

    slope: float
    lower: float
    growth: float
    start: float
    seconds: float

    def growing(self, limit_per_h: float) -> bool:
        return self.lower > limit_per_h and self.growth >= max(MIN_GROWTH * self.start, MIN_BYTES)


def memory(
    samples: Sequence[Sample],
    before: tuple[float, float] | None,
    after: tuple[float, float] | None,
    *,
    seed: int,
    limit_per_h: float = LIMIT_PER_H,
) -> MemoryResult:
    """Judge the target's RSS. before, after: (start_s, end_s) outside the fault: from baseline's start to the
    injection, and from the last undo to the end of load; the same stretch twice cut differently is not expected.

    stable needs one stretch of at least 300 s; growing can be seen sooner.
    """
    head = _points(samples, (before[0] + DROP_S, before[1])) if before else []
    tail = _points(samples, after) if after else []
    retained, step = _retained(head, tail)
    trends = [t for t in (trend(points, seed) for points in (head, tail)) if t is not None]
    if not trends:
        why = "no memory samples of the target" if not head and not tail else "too few memory samples"
        return MemoryResult(outcome="not_judged", slope=None, retained=retained, why=why + step)
    worst = max(trends, key=lambda t: (t.growing(limit_per_h), t.seconds))
    said = f"{format_percent(worst.slope)}/h over {worst.seconds:.0f} s, at least {format_percent(worst.lower)}/h"
    if worst.growing(limit_per_h):
        grown = f"grew by {format_bytes(worst.growth)}: {said}"
        return MemoryResult(outcome="growing", slope=worst.slope, retained=retained, why=grown + step)
    longest = max(t.seconds for t in trends)
    if longest < ENOUGH_S:
        why = f"{longest:.0f} s outside the fault are too short to call it stable (300 s)"
        return MemoryResult(outcome="not_judged", slope=None, retained=retained, why=why + step)
    return MemoryResult(outcome="stable", slope=worst.slope, retained=retained, why=said + step)


def trend(points: Sequence[Point], seed: int) -> Trend | None:
    """Slope of one stretch by least squares, with its bootstrap bound; None below six blocks of 10 s."""
    if not points:
        return None
    origin = points[0][0]
    blocks: dict[int, list[Point]] = {}
    for at, rss in points:
        blocks.setdefault(int((at - origin) / BLOCK_S), []).append((at - origin, rss))
    cells = list(blocks.values())
    if len(cells) < LEAST_BLOCKS:
        return None
    sums = [_sums(cell) for cell in cells]
    fit = _slope(sums)
    if fit is None:
        return None
    slope, start = fit
    draw = random.Random(seed)
    slopes = []
    for _ in range(DRAWS):
        drawn = _slope([sums[draw.randrange(len(sums))] for _ in sums])
        if drawn is not None:
            slopes.append(drawn[0])
    slopes.sort()
    lower = slopes[int(0.05 * len(slopes))] if slopes else slope
    seconds = points[-1][0] - points[0][0]
    base = max(start, 1.0)
    return Trend(
        slope=slope * 3600 / base, lower=lower * 3600 / base, growth=slope * seconds, start=base, seconds=seconds
    )


def _points(samples: Sequence[Sample], stretch: tuple[float, float]) -> list[Point]:
    start, end = stretch
    return [(s.at, float(s.trees[TREE].rss)) for s in samples if start <= s.at < end and TREE in s.trees]


def _retained(head: Sequence[Point], tail: Sequence[Point]) -> tuple[int | None, str]:
    """Bytes kept across the fault: a step from the last 10 s before it to the *lowest* block after it."""
    if not head or not tail:
        return None, ""
    before = median(rss for at, rss in head if at > head[-1][0] - BLOCK_S)
    blocks: dict[int, list[float]] = {}
    for at, rss in tail:
        blocks.setdefault(int((at - tail[0][0]) / BLOCK_S), []).append(rss)
    kept = round(min(median(block) for block in blocks.values()) - before)
    if kept < max(MIN_GROWTH * before, MIN_BYTES):
        return 0, ""
    return kept, f"; {format_bytes(kept)} more than before the fault were never given back"


def _sums(points: Sequence[Point]) -> tuple[float, float, float, float, float]:
    n = float(len(points))
    x = sum(at for at, _ in points)
    y = sum(rss for _, rss in points)
    return n, x, y, sum(at * at for at, _ in points), sum(at * rss for at, rss in points)


def _slope(blocks: Sequence[tuple[float, float, float, float, float]]) -> tuple[float, float] | None:
    """(bytes per second, bytes at the start) of the least-squares line through all points of the blocks."""
    n, x, y, xx, xy = (sum(column) for column in zip(*blocks, strict=True))
    spread = xx - x * x / n
    if spread <= 1e-9:
        return None
    slope = (xy - x * y / n) / spread
    return slope, y / n - slope * x / n
