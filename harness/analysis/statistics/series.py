"""The shape every rule of recovery and impact works on: counts per 100 ms step."""

from __future__ import annotations

import msgspec


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Requests by intended start for one proportion target.

    start: first step (100 ms units since t0). n[i], bad[i]: all and bad requests of step start + i.
    limit: the target's proportion p, 0 < p < 1 (p95 < 200ms: 0.05; error_rate < 1%: 0.01).
    Bad: failed, unsent, unfinished, backfilled over the limit; for a latency target also ok requests over it.
    """

    start: int
    n: list[int]
    bad: list[int]
    limit: float

    @property
    def end(self) -> int:
        """One past the last step."""
        return self.start + len(self.n)
