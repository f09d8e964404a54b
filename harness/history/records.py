"""What `harness history --json` prints: docs/history.md. `schema` changes when a field changes meaning."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.records.many_runs.gate import Stale
from harness.model.records.metrics import Unit
from harness.model.records.result import RecoveryOutcome, Verdict
from harness.model.records.targets import JudgedPhase

SCHEMA = 1


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Experiments of a suite by outcome."""

    held: int
    broken: int
    unknown: int
    not_run: int

    @property
    def all(self) -> int:
        return self.held + self.broken + self.unknown + self.not_run


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A run, a suite or a game day. directory: below the folder. verdict: a suite's is that of its exit code; a game
    day's is fail where a hypothesis was refuted, pass where all were confirmed. counts: of a game day, its drills:
    confirmed, refuted, not decided, not carried out. reason: the first one. pruned: its raw records were dropped."""

    kind: Literal["run", "suite", "gameday"]
    directory: str
    started: str
    name: str
    faults: tuple[str, ...]
    scenario: str
    scale: float
    stack: str
    verdict: Verdict
    exit_code: int
    counts: Counts | None = None
    recovery: RecoveryOutcome | None = None
    recovery_s: float | None = None
    reason: str = ""
    target_version: str | None = None
    harness: str = ""
    pruned: bool = False


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """A folder or a run that is in no count or line, and why."""

    directory: str
    why: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The newest `entries` of all `matching` ones. foreign: folders that are neither a run's nor a suite's."""

    schema: int = SCHEMA
    folder: str
    matching: int
    entries: tuple[Entry, ...]
    unreadable: tuple[Unread, ...]
    foreign: int


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """A value outside low..high: the range of `accepted` values before it, widened. since: versions of the last of
    them, "target 1.0.0, harness 0.1.0"; now: those of the run itself."""

    low: float
    high: float
    accepted: int
    since: str
    now: str


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One run in a line. value: in the line's unit; null where it has none, and why."""

    directory: str
    started: str
    verdict: Verdict
    value: float | None
    why: str = ""
    outside: Outside | None = None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of comparable runs, oldest first."""

    metric: str
    phase: JudgedPhase | None
    request: str | None
    unit: Unit
    points: tuple[Point, ...]

    @property
    def title(self) -> str:
        name = f"{{{self.request}}}" if self.request is not None else ""
        return f"{self.phase}: {self.metric}{name}" if self.phase else f"{self.metric}{name}"


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """of: what all runs of it have in common. unreadable: folders that may be missing in it."""

    schema: int = SCHEMA
    of: str
    lines: tuple[Line, ...]
    left_out: tuple[Unread, ...]
    unreadable: tuple[Unread, ...] = ()


class SuitePoint(msgspec.Struct, frozen=True, kw_only=True):
    """One suite in the line of the score. counts, low, high: over the common experiments.

    added, removed, changed: experiments against the suite before it; load_changed: its scenario, rate, mix or
    locustfile is another one. stale: common experiments that are too old for what held of them to count: as of the
    suite's last day, of the newest one today.
    """

    directory: str
    started: str
    counts: Counts
    low: float
    high: float
    versions: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    load_changed: bool = False
    stale: int = 0


class Weakness(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment that is broken in the newest suite. since: the first suite from which on it never held;
    at_least: that is the oldest one there is. owner and below: of its entry among the known ones, else empty;
    known_since: when it was first accepted. owned: what is said of that entry to people."""

    experiment: str
    since: str
    days: int
    at_least: bool
    owner: str = ""
    reason: str = ""
    ticket: str = ""
    until: str = ""
    expired: bool = False
    known_since: str = ""
    owned: str = ""


class ScoreTrend(msgspec.Struct, frozen=True, kw_only=True):
    """The suites of one name, oldest first, over the experiments common to both ends.

    fixed: broken in the oldest, held in the newest; newly_broken: the other way about; undecided: decided in the
    oldest, not in the newest. weaknesses: all that are broken in the newest. holds_again: known ones that held in it.
    carried_out, decided: of the `experiments` of the newest suite; decided_cells: of its cells. days_old: its age.
    stale: experiments whose outcome is.
    """

    schema: int = SCHEMA
    of: str
    common: int
    points: tuple[SuitePoint, ...]
    fixed: tuple[str, ...]
    newly_broken: tuple[str, ...]
    undecided: tuple[str, ...]
    weaknesses: tuple[Weakness, ...]
    holds_again: tuple[str, ...]
    experiments: int
    carried_out: int
    decided: int
    cells: int
    decided_cells: int
    days_old: int
    stale: tuple[Stale, ...]
    excluded: tuple[str, ...]
    left_out: tuple[Unread, ...]
    unreadable: tuple[Unread, ...] = ()
