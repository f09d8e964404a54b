"""Fewer points of a long run: neighbouring bins together, with their lowest and highest, so that no peak is lost."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import msgspec


class Bucket(msgspec.Struct, frozen=True):
    low: float
    mean: float
    high: float


class Buckets(msgspec.Struct, frozen=True, kw_only=True):
    """starts, lengths: of each, in seconds. bins: how long those are of which they are made, their own number last."""

    starts: list[float]
    lengths: list[float]
    bins: list[float]
    edges: list[int]

    @classmethod
    def of_bins(cls, t: Sequence[float], lengths: Sequence[float], most: int, cuts: Sequence[float] = ()) -> Buckets:
        """About `most` of them, anew at each cut: a bucket of two phases would show the one's failures in the other."""
        size = max(1, math.ceil(len(t) / most))
        inner = {bisect_left(t, cut - 1e-6) for cut in cuts}
        edges: list[int] = []
        for low, high in pairwise(sorted({0, len(t), *inner})):
            # Even ones, none of them a short rest.
            count = max(1, round((high - low) / size))
            edges += [low + (high - low) * i // count for i in range(count)]
        edges = sorted({*edges, len(t)})
        starts = [t[low] for low, _ in pairwise(edges)]
        ends = [t[high - 1] + lengths[high - 1] for _, high in pairwise(edges)]
        return cls(
            starts=starts,
            lengths=[round(end - start, 3) for start, end in zip(starts, ends, strict=True)],
            bins=list(lengths),
            edges=edges,
        )

    @classmethod
    def of_times(cls, t: Sequence[float], most: int, cuts: Sequence[float] = ()) -> Buckets:
        """The same of values read at moments, each of which stands for the time until the next one."""
        gaps = [round(after - at, 3) for at, after in pairwise(t)]
        return cls.of_bins(t, [*gaps, gaps[-1] if gaps else 1.0][: len(t)], most, cuts)

    @property
    def usual_s(self) -> float:
        """How long most of them are: the middle one."""
        return sorted(self.lengths)[len(self.lengths) // 2] if self.lengths else 0.0

    @property
    def merged(self) -> bool:
        return len(self.starts) < len(self.bins)

    def of(self, values: Sequence[float | None]) -> list[Bucket | None]:
        """A bucket without any known value is None, never 0."""
        found: list[Bucket | None] = []
        for low, high in pairwise(self.edges):
            known = [(v, self.bins[i]) for i, v in enumerate(values[low:high], low) if v is not None]
            if not known:
                found.append(None)
                continue
            weight = sum(length for _, length in known)
            mean = sum(v * length for v, length in known) / weight if weight > 0 else known[0][0]
            found.append(Bucket(min(v for v, _ in known), mean, max(v for v, _ in known)))
        return found
