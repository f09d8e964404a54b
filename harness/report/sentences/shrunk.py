"""Whose replies became small: an empty page with status 200, or an error told in its body, is no failed request."""

from __future__ import annotations

import msgspec

from harness.model.records.result import Result
from harness.report.sentences import text

LEAST = 50
"""Successful requests of the name in both phases."""
SHRUNK = 0.5


class Shrunk(msgspec.Struct, frozen=True, kw_only=True):
    """before, now: mean length of its replies in baseline and in the fault phase, in bytes."""

    name: str
    before: float
    now: float

    @property
    def said(self) -> str:
        """`replies to GET /items had 31 bytes on average, and 1,840 in baseline`."""
        return (
            f"replies to {text.visible(self.name, 80)} had {self.now:,.0f} bytes on average, and {self.before:,.0f} in "
            "baseline"
        )


def shrunk(result: Result) -> tuple[Shrunk, ...]:
    """The request names whose replies had less than half of their length in the fault phase, the smallest first."""
    known = {
        (row.name, row.phase): row.mean_bytes
        for row in result.requests
        if row.mean_bytes is not None and row.requests - row.failures >= LEAST
    }
    found = [
        Shrunk(name=name, before=before, now=known[name, "fault"])
        for (name, phase), before in known.items()
        if phase == "baseline" and (name, "fault") in known and known[name, "fault"] < SHRUNK * before
    ]
    return tuple(sorted(found, key=lambda one: (one.now / one.before, one.name)))
