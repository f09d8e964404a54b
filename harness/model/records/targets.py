"""A target: a threshold that must hold. The grammar that produces them is in target_grammar.py."""

from __future__ import annotations

from typing import Literal

import msgspec

from harness.model.records.metrics import Metric, Unit, metric_traits

PhaseName = Literal["warmup", "settle", "baseline", "gap", "fault", "recovery", "after", "tail"]
JudgedPhase = Literal["baseline", "fault", "after"]
Op = Literal["<", "<=", ">", ">="]


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """value: in the target's unit; with relative a factor (0.95, 2.0) of the plan's or the baseline's, with plus the
    unit again, to be added to the baseline's."""

    value: float
    relative: Literal["plan", "baseline"] | None = None
    plus: bool = False


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One threshold in one phase (recovery and memory targets belong to no phase: phase is None).

    metric: a row of METRICS (metrics.py) or a signal's name.
    name: a request name for METRIC{NAME}, else None.
    value: in `unit`, a proportion 0..1. With relative = "plan" or "baseline", value is a factor (0.95, 2.0); with plus
    as well it is added to the baseline's. other: the second limit of `max(A, B)`; the target holds where either does.
    primary: breaks the verdict; otherwise a warning.
    text: the canonical expression, `fault: p95 < 200ms`.
    """

    metric: str
    op: Op
    value: float
    unit: Unit
    text: str
    phase: JudgedPhase | None = None
    name: str | None = None
    relative: Literal["plan", "baseline"] | None = None
    primary: bool = True
    explicit: bool = False
    plus: bool = False
    other: Limit | None = None

    @property
    def traits(self) -> Metric:
        return metric_traits(self.metric)

    @property
    def limits(self) -> tuple[Limit, ...]:
        first = Limit(value=self.value, relative=self.relative, plus=self.plus)
        return (first,) if self.other is None else (first, self.other)

    @property
    def of_baseline(self) -> bool:
        """Whether a limit of it depends on what the run's own baseline showed."""
        return any(limit.relative == "baseline" for limit in self.limits)
