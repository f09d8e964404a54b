"""What became of each request name: who failed, who waited. A name with 6 requests counts like one with 60,000."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from harness.model.records.result import RequestResult, Result
from harness.report.sentences import text

HURT_PHASES = ("fault", "recovery", "after")
_RANK = {name: rank for rank, name in enumerate(HURT_PHASES)}
PHASE_WORDS = {"baseline": "before the fault", "fault": "during the fault", "after": "after recovery"}

MOSTLY = 0.5
"""A name that failed so often is named however few its requests were."""
OFTEN, OFTEN_LEAST = 0.1, 3
LITTLE = 0.01
"""Names that fail less often than this cope."""
SLOWER, SLOWER_BY_MS, SLOW_LEAST = 3.0, 50.0, 5

_HEALTH = re.compile(r"(?:^|[\s/_-])(?:health|ready|readiness|live|liveness|ping)(?:z|check|[_-]check)?(?=$|[\s/?_-])")


class Failing(msgspec.Struct, frozen=True):
    """A request name in the fault phase, or the first after it, in which it failed."""

    name: str
    phase: str
    failures: int
    requests: int

    @property
    def rate(self) -> float:
        return self.failures / self.requests

    @property
    def times(self) -> str:
        """`GET /x failed 6 of 6 times`."""
        return f"{text.visible(self.name, 80)} failed {self.failures:,} of {self.requests:,} times"

    @property
    def said(self) -> str:
        return f"{self.times} {PHASE_WORDS.get(self.phase, 'after the undo')}"


def failing(result: Result) -> tuple[Failing, ...]:
    """Names that failed in more than a stray case from the injection on, and over twice as often as in baseline; the
    one that failed most often in the fault first."""
    before = {row.name: _rate(row) for row in result.requests if row.phase == "baseline"}
    judged = {
        (found.name, target.phase)
        for target in result.targets
        if target.traits.failures and target.primary
        for found in target.names
        if found.outcome == "broken"
    }
    found: dict[str, Failing] = {}
    for row in sorted(result.requests, key=lambda row: _RANK.get(row.phase, 0)):
        if row.phase not in HURT_PHASES or not row.failures or not row.requests:
            continue
        rate = _rate(row)
        clear = rate >= MOSTLY or (rate >= OFTEN and row.failures >= OFTEN_LEAST) or (row.name, row.phase) in judged
        if clear and rate > 2 * before.get(row.name, 0.0):
            found.setdefault(row.name, Failing(row.name, row.phase, row.failures, row.requests))
    return tuple(sorted(found.values(), key=lambda one: (_RANK[one.phase], -one.rate, -one.failures, one.name)))


def alone(result: Result) -> tuple[Failing, ...]:
    """The names that fail in the fault phase while most others cope: rates decide, a share of all failures says only
    who is asked most. Empty where nobody copes, or somebody fails in between."""
    found = tuple(one for one in failing(result) if one.phase == "fault" and one.rate >= OFTEN)
    names = {one.name for one in found}
    others = [row for row in result.requests if row.phase == "fault" and row.requests and row.name not in names]
    cope = bool(others) and all(_rate(row) < LITTLE for row in others)
    return found if found and cope and len(found) <= len(others) else ()


def is_health_check(name: str) -> bool:
    return _HEALTH.search(name.lower()) is not None


def slowed(result: Result) -> tuple[str, ...]:
    """Names whose slowest 5 % (of failures, where many fail) waited three times as long as in baseline, and 50 ms
    more; each with 5 requests at least. None where the load generator could not keep up in the fault phase: that makes
    every reply slow."""
    if starved(result):
        return ()
    before = {row.name: row for row in result.requests if row.phase == "baseline"}
    return tuple(row.name for row in _asked(result) if row.name in before and _is_slow(row, before[row.name]))


def starved(result: Result, name: str = "fault") -> bool:
    """Whether the load generator could not keep up at some time of a phase."""
    phase = result.phase(name)
    stretches = result.generator.saturated if result.generator else ()
    return phase is not None and any(low < phase.end_s and phase.start_s < high for low, high in stretches)


def all_slowed(result: Result) -> bool:
    asked = {row.name for row in _asked(result)}
    return len(asked) > 1 and asked == set(slowed(result))


def _asked(result: Result) -> Iterator[RequestResult]:
    return (row for row in result.requests if row.phase == "fault" and row.requests >= SLOW_LEAST)


def _is_slow(row: RequestResult, before: RequestResult) -> bool:
    waits = [row.p95_ms or 0.0]
    if _rate(row) >= 0.05:
        waits.append(row.failed_p95_ms or 0.0)
    base = before.p95_ms
    return base is not None and max(waits) >= max(SLOWER * base, base + SLOWER_BY_MS)


def _rate(row: RequestResult) -> float:
    return row.failures / row.requests if row.requests else 0.0
