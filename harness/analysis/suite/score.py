"""What the attempts at an experiment say together, and the score of a suite.

The score is an interval: what held, to what held with all that nobody knows. So missing data widens it and never
raises it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from harness.model.records.many_runs.suite import Attempt, Cell, ExperimentOutcome, ExperimentResult, Score

T = TypeVar("T", bound=str)


def majority(outcomes: Sequence[T], otherwise: T) -> T:
    """The one that more than half of them are, else `otherwise`."""
    for outcome, count in Counter(outcomes).most_common(1):
        if 2 * count > len(outcomes):
            return outcome
    return otherwise


def carried_out(experiment: ExperimentResult) -> tuple[Attempt, ...]:
    return tuple(one for one in experiment.attempts if one.outcome != "not_run")


def outcome_of(attempts: Sequence[Attempt]) -> ExperimentOutcome:
    """Of most attempts that were carried out; not run where none was."""
    found = [one.outcome for one in attempts if one.outcome != "not_run"]
    return majority(found, "unknown") if found else "not_run"


def cells_of_most(experiment: ExperimentResult) -> tuple[Cell, ...]:
    """Of each request name the first cell of the outcome that most attempts have; unknown where they do not agree."""
    attempts = carried_out(experiment)
    by_name: dict[str, list[Cell]] = {}
    for attempt in attempts:
        for cell in attempt.cells:
            by_name.setdefault(cell.request, []).append(cell)
    return tuple(_of_most(found, len(attempts)) for _, found in sorted(by_name.items()))


def _of_most(found: Sequence[Cell], attempts: int) -> Cell:
    outcome = majority([*(cell.outcome for cell in found), *["unknown"] * (attempts - len(found))], "unknown")
    shown = next((cell for cell in found if cell.outcome == outcome), None)
    return shown or replace(found[0], outcome="unknown", target="", why="attempts do not agree")


def score(experiments: Iterable[ExperimentResult]) -> Score:
    """Every experiment counts by its weight; what is excluded is none of them."""
    every = tuple(experiments)
    counts = Counter(one.outcome for one in every)
    weights = {name: sum(one.weight for one in every if one.outcome == name) for name in counts}
    total = sum(weights.values())
    low = weights.get("held", 0.0)
    high = total - weights.get("broken", 0.0)
    return Score(
        held=counts["held"],
        broken=counts["broken"],
        unknown=counts["unknown"],
        not_run=counts["not_run"],
        low=100 * low / total if total > 0 else 0.0,
        high=100 * high / total if total > 0 else 100.0,
    )
