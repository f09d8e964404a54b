"""The plan of a suite as `harness plan SUITE.yaml` tells it."""

from __future__ import annotations

import msgspec

from harness.model.records.plan import Plan
from harness.plan.suite.items import Left


class PlannedExperiment(msgspec.Struct, frozen=True, kw_only=True):
    """seconds: as those of the suite. may_fail, must_hold: request names. targets: primary ones that the control run on
    the same load does not have."""

    name: str
    seconds: float
    weight: float
    may_fail: tuple[str, ...]
    must_hold: tuple[str, ...]
    targets: tuple[str, ...]
    plan: Plan


class Undecided(msgspec.Struct, frozen=True, kw_only=True):
    """A task, or a request name of which something is declared, that has too few arrivals in the fault phase of these
    experiments. arrivals: planned, in the longest of them; null where no task is named like it. needed: to decide."""

    name: str
    arrivals: float | None
    needed: int
    experiments: tuple[str, ...]


class SuitePlan(msgspec.Struct, frozen=True, kw_only=True):
    """seconds: where every target recovers at once and no phase goes on. reset: what happens where the target does not
    come back by itself. base: a control run on the same load."""

    name: str
    profile: str
    seconds: float
    experiments: tuple[PlannedExperiment, ...]
    reset: str
    left: tuple[Left, ...]
    undecided: tuple[Undecided, ...]
    warnings: tuple[str, ...]
    base: Plan
