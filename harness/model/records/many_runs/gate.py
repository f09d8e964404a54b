"""resilience-base.json and resilience-known.toml: what was accepted of a suite; and what a gate says of a new one.

Both files are committed beside harness.toml, written by `harness suite accept` and by nothing else.
"""

from __future__ import annotations

import msgspec

from harness.model.records.many_runs.suite import CellOutcome, ExperimentOutcome

SCHEMA = 1
"""Of both files."""

LOST_WRITES = "no acknowledged write is lost"
WHOLE = "the verdict"
"""In the place of a target: of an experiment that is broken for another reason than a target or a request name."""

MOST_DAYS = 180
"""That a known weakness may be accepted ahead."""


class BaseExperiment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was accepted of one experiment: request names by outcome. allowed: those that were broken and may be.

    targets: what else was broken: texts of primary targets that no request name explains, LOST_WRITES, WHOLE.
    definition: hash of what the experiment is. day, target_version: when and of what it was found, where the base's own
    are another's: of an experiment that was not run when the base was accepted.
    """

    definition: str
    outcome: ExperimentOutcome
    held: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    day: str = ""
    target_version: str = ""


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """accepted: day, ISO 8601. day: on which its outcomes were found; empty: not on record. by: who. suite: hash of all
    definitions. load: as in suite.json."""

    schema: int = SCHEMA
    name: str
    accepted: str
    by: str
    suite: str
    load: str
    harness: str
    target_version: str | None
    day: str = ""
    experiments: dict[str, BaseExperiment]


class Known(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known weakness: what is broken, who owns it, and until when.

    request: the request name, or empty for `target` as a whole. at_most: the share of that request's requests that may
    be bad, or seconds of a recovery target; null: however much. since: the day on which it was first
    accepted; empty: not on record. until: the last one on which it is known. Days are ISO 8601.
    """

    experiment: str
    request: str = ""
    target: str = ""
    at_most: float | None = None
    owner: str
    reason: str
    ticket: str = ""
    since: str = ""
    until: str


class Stale(msgspec.Struct, frozen=True, kw_only=True):
    """Experiments whose outcome is older than what is, and why that is so: a clause."""

    why: str
    experiments: tuple[str, ...]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One outcome that a gate speaks of. request is empty where it is a target or a whole experiment. why: a clause."""

    experiment: str
    request: str = ""
    target: str = ""
    outcome: CellOutcome
    why: str = ""
    known: Known | None = None


class GateResult(msgspec.Struct, frozen=True, kw_only=True):
    """sentence: the first one to say.

    new: newly broken. worse: known, and beyond at_most. expired: known until a day that has passed. unknown: decided
    in the base. known: broken as before and owned. fixed: known or broken in the base, and it holds now; a known one is
    to be removed. listed: what cannot be compared, in sentences: new, changed and gone experiments, another load.
    stale: of what was compared, what is stale in the base; it counts all the same. day: of the comparison.
    """

    exit_code: int
    sentence: str
    new: tuple[Finding, ...] = ()
    worse: tuple[Finding, ...] = ()
    expired: tuple[Finding, ...] = ()
    unknown: tuple[Finding, ...] = ()
    known: tuple[Finding, ...] = ()
    fixed: tuple[Finding, ...] = ()
    listed: tuple[str, ...] = ()
    stale: tuple[Stale, ...] = ()
    day: str = ""
