"""The plan of a game day as `harness plan GAMEDAY.yaml` tells it."""

from __future__ import annotations

import msgspec

from harness.model.records.many_runs.gameday import DrillPlan, Role
from harness.plan.suite.suite_plan import SuitePlan


class GameDayTold(msgspec.Struct, frozen=True, kw_only=True):
    """seconds: with the pauses, where every target recovers at once. suite: the drills as experiments, in the same
    order, and what a run would refuse among its warnings."""

    title: str
    seconds: float
    roles: dict[Role, tuple[str, ...]]
    prerequisites: tuple[str, ...]
    drills: tuple[DrillPlan, ...]
    suite: SuitePlan
