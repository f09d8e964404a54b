"""Evidence for readers: a lasting fault is asserted every few seconds, which is one line, not twenty."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.model.records.faults import Evidence
from harness.report.sentences import text


class Seen(msgspec.Struct, frozen=True):
    """Observations of one kind with one outcome. first: the earliest of them. until_s: when it was last made."""

    first: Evidence
    times: int
    until_s: float

    @property
    def when(self) -> str:
        """`33.1s`, or `33.1s to 51.1s, 7 times`."""
        if self.times == 1:
            return text.moment(self.first.at)
        return f"{text.moment(self.first.at)} to {text.moment(self.until_s)}, {self.times} times"


def fold(evidence: Sequence[Evidence]) -> tuple[Seen, ...]:
    """Put equal claims with equal outcome together, in the order in which they were first seen."""
    found: dict[tuple[str, str, bool], Seen] = {}
    for item in evidence:
        key = (item.source, item.expected, item.held)
        before = found.get(key)
        found[key] = Seen(item, 1, item.at) if before is None else Seen(before.first, before.times + 1, item.at)
    return tuple(found.values())
