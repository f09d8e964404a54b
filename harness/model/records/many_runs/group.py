"""group.json, what belongs to a group of runs, and what the comparison of two groups found (docs/compare.md).

`schema` changes when a field changes meaning. What is not known is null.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.records.result import RecoveryOutcome, Verdict

SCHEMA = 1
COMPARISON_SCHEMA = 1

Answer = Literal["worse", "not_worse", "cannot_tell"]
Method = Literal["pairs", "groups", "one_to_one"]
"""pairs: each A with its B; groups: runs of different sessions; one_to_one: a run beside a run."""


class GroupRun(msgspec.Struct, frozen=True, kw_only=True):
    """directory: a name in the group's own, or in its folder a or b. pair: from 1; the A and the B of one number belong
    together."""

    directory: str
    label: Literal["A", "B"]
    pair: int


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """group.json. kind: repeat, the same again, all of them A; versus, two versions A and B in pairs.

    runs: in the order in which they were carried out. version, declared: B's name, and what tells it from A. seed: from
    which the order within the pairs and the arrivals of each were drawn.
    """

    schema: int = SCHEMA
    kind: Literal["repeat", "versus"]
    runs: tuple[GroupRun, ...]
    version: str = ""
    declared: str = ""
    seed: int | None = None


class RunFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One run. bad of n: requests of the span. harm: bad less baseline's share of n, at least 0.

    left_out: why it is in no count and no row; "" where it is.
    """

    directory: str
    pair: int | None = None
    verdict: Verdict | None = None
    harm: float | None = None
    bad: int | None = None
    n: int | None = None
    baseline_share: float | None = None
    violating_s: float | None = None
    recovery: RecoveryOutcome | None = None
    recovery_s: float | None = None
    error_rate: float | None = None
    p95_ms: float | None = None
    baseline_p95_ms: float | None = None
    rps: float | None = None
    left_out: str = ""


class Middle(msgspec.Struct, frozen=True, kw_only=True):
    """Median, lowest and highest of the runs in which it is known: known of so many."""

    median: float | None
    low: float | None
    high: float | None
    known: int
    of: int


class ComparisonRow(msgspec.Struct, frozen=True, kw_only=True):
    """metric: a field of RunFigures."""

    metric: str
    base: Middle
    new: Middle


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What is not the same on both sides, or not in all runs of one: every value seen."""

    what: str
    base: tuple[str, ...]
    new: tuple[str, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What comparing two runs or two groups found.

    change, upper: of harm + 10, as a proportion (1.0 is a doubling): the estimate, and its one-sided 95 % upper bound,
    null where there are too few pairs for one. spread: standard deviation of the log ratios of pairs. pairs: counted;
    of groups the runs of the smaller one. needed: pairs that would tell in nine cases of ten, were the change the one
    seen; null with cannot_tell: more than 30, or nobody can say. limit_ms: from which on a request was a slow one.
    span_s: over which requests were counted, from the injection.
    """

    schema: int = COMPARISON_SCHEMA
    answer: Answer
    exit_code: int
    method: Method
    margin: float
    pairs: int
    p: float | None = None
    change: float | None = None
    upper: float | None = None
    spread: float | None = None
    needed: int | None = None
    why: str = ""
    """What kept an answer back that the figures alone would have given."""
    limit_ms: float | None = None
    span_s: float
    scenario: str
    base: tuple[RunFigures, ...]
    new: tuple[RunFigures, ...]
    rows: tuple[ComparisonRow, ...] = ()
    differs: tuple[Difference, ...] = ()
