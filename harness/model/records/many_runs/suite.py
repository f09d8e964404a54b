"""suite.json: what a suite found. Documented in docs/suite-result.md; `schema` changes when a field changes meaning.

Times of day are ISO 8601, durations in seconds; what is not known is null.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.records.result import AlertResult, RecoveryOutcome, Verdict

SCHEMA = 1

ExperimentOutcome = Literal["held", "broken", "unknown", "not_run"]
"""Of an experiment: its verdict pass, fail, inconclusive; or it was not carried out."""

CellOutcome = Literal["held", "broken", "unknown"]


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One request name while one experiment's faults were on, and until they were recovered from.

    bad of n: requests of the fault phase that failed or were over the p95 limit; failed: how many of them failed.
    allowed: the share that may be bad. target: the first that this request breaks, with its phase.
    outcome: broken as every request name's targets are; held where at most `allowed` were bad, by the rule for
    proportions; else unknown. may_fail: it is declared that it may be broken, and then it breaks no target.
    independent: it is declared that this request does not need what was broken.
    """

    request: str
    outcome: CellOutcome
    bad: int
    n: int
    allowed: float
    failed: int = 0
    target: str = ""
    why: str = ""
    may_fail: bool = False
    independent: bool = False


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One carrying out of an experiment: the first, or one that confirms it. directory: inside the suite's."""

    directory: str
    outcome: ExperimentOutcome
    verdict: Verdict
    exit_code: int
    reason: str
    """The first sentence of the result."""
    started: str | None
    seconds: float
    """From the end of what was before it to its own end, waiting for a calm target included."""
    recovery: RecoveryOutcome | None = None
    recovery_s: float | None = None
    harm: int | None = None
    """Bad requests from the injection over the fault and a hold as planned, less baseline's share, at least 0; null
    where nothing was injected."""
    violating_s: float | None = None
    broken_targets: tuple[str, ...] = ()
    """Texts of primary targets that were broken, with their phase: "fault: p95 < 200ms"."""
    undecided_targets: tuple[str, ...] = ()
    lost_writes: int = 0
    """Acknowledged writes that were gone."""
    cells: tuple[Cell, ...] = ()
    target_version: str | None = None
    reset: str = ""
    """What was done to the target afterwards, because it had not come back; empty: nothing."""
    alerts: tuple[AlertResult, ...] = ()
    """Those that were expected, as in its own result."""


class ExperimentResult(msgspec.Struct, frozen=True, kw_only=True):
    """One experiment of a suite.

    name: unique in it. faults: as they would be written after --fault. dependency, kind: of its fault, joined with +
    where there are several; both "" in a control run. definition: hash of what it is, its own targets, faults and
    lengths included, so that a changed one is seen. on_target: its faults are the service's own end or pause, not that
    of a dependency. outcome: of most attempts. why: of one that was not run.
    """

    name: str
    faults: tuple[str, ...]
    dependency: str
    kind: str
    definition: str
    on_target: bool = False
    weight: float = 1.0
    outcome: ExperimentOutcome = "not_run"
    why: str = ""
    attempts: tuple[Attempt, ...] = ()
    command: str = ""
    """That carries this experiment out again, alone."""

    @property
    def shown(self) -> Attempt | None:
        """The attempt that stands for all: the first of the outcome that most have."""
        return next((one for one in self.attempts if one.outcome == self.outcome), None)


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of experiments by outcome. low, high: of 100, by weight: held, and held with all that nobody knows."""

    held: int
    broken: int
    unknown: int
    not_run: int
    low: float
    high: float


NOT_CHOSEN = "left out by --only"
"""Why a suite has not carried out an experiment that is still one of its own."""


class Excluded(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite leaves out on purpose, and why: listed, in no count."""

    name: str
    why: str


class SuiteResult(msgspec.Struct, frozen=True, kw_only=True):
    """profile: quick, standard, or empty for a suite file. load: hash of scenario, rate, mix and locustfile. state: the
    session's folder name."""

    schema: int = SCHEMA
    name: str
    profile: str
    exit_code: int
    reasons: tuple[str, ...]
    started: str | None
    seconds: float
    scenario: str
    scale: float
    rate: float | None
    model: str
    stack: str
    seed: int
    target_url: str
    target_version: str | None
    harness: str
    machine: str
    command: str
    load: str
    locustfile_sha256: str
    experiments: tuple[ExperimentResult, ...]
    score: Score
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()
