"""An experiment's attempts item by item: what the gate compares. An item is a request name, or else a target that no
request name explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from harness.analysis.rules.proportions import is_upper_proportion
from harness.analysis.suite.score import carried_out, majority
from harness.model.errors import UsageError
from harness.model.records.many_runs.gate import LOST_WRITES, WHOLE, BaseExperiment
from harness.model.records.many_runs.suite import Attempt, Cell, ExperimentResult
from harness.model.target_grammar import parse_targets

State = Literal["held", "broken", "allowed", "unknown"]
"""allowed: broken, and it is declared that it may be."""

Item = tuple[str, str]
"""(request, ""), or ("", target)."""

CONFIRMED = 2
"""Attempts that must show what is broken before it counts: 2 of 3."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One item over all attempts. state: of most of them. broken: how many. attempts: those that were carried out, with
    the item's cell in each where it is a request name."""

    state: State
    broken: int
    attempts: tuple[tuple[Attempt, Cell | None], ...]

    @property
    def cell(self) -> Cell | None:
        """The first that is as most are, else the first."""
        cells = [cell for _, cell in self.attempts if cell is not None]
        return next((cell for cell in cells if _of_cell(cell) == self.state), cells[0] if cells else None)


def items(experiment: ExperimentResult, more: Sequence[Item] = ()) -> dict[Item, Seen]:
    """more: items to look for as well, which the base or a known weakness has."""
    attempts = carried_out(experiment)
    cells = [{cell.request: cell for cell in one.cells} for one in attempts]
    broken = [broken_otherwise(one) for one in attempts]
    names = sorted({name for by_name in cells for name in by_name})
    targets = list(dict.fromkeys(text for texts in broken for text in texts))
    found: dict[Item, Seen] = {}
    for item in dict.fromkeys([*((name, "") for name in names), *(("", text) for text in targets), *more]):
        request, target = item
        mine = [by_name.get(request) for by_name in cells]
        states: list[State] = (
            ["unknown" if cell is None else _of_cell(cell) for cell in mine]
            if request
            else [_of_target(target, one, texts) for one, texts in zip(attempts, broken, strict=True)]
        )
        found[item] = Seen(
            state=majority(states, "unknown") if states else "unknown",
            broken=states.count("broken"),
            attempts=tuple(zip(attempts, mine, strict=True)),
        )
    return found


def broken_otherwise(attempt: Attempt) -> tuple[str, ...]:
    """What is broken in an attempt that no broken request name explains."""
    if attempt.outcome != "broken":
        return ()
    by_name = any(_of_cell(cell) == "broken" for cell in attempt.cells)
    found = [text for text in attempt.broken_targets if not (by_name and _is_share(text))]
    if attempt.lost_writes:
        found.append(LOST_WRITES)
    return tuple(found) if found or by_name else (WHOLE,)


def base_states(base: BaseExperiment) -> dict[Item, State]:
    by_state: tuple[tuple[State, tuple[str, ...]], ...] = (
        ("held", base.held),
        ("broken", base.broken),
        ("allowed", base.allowed),
        ("unknown", base.unknown),
    )
    states: dict[Item, State] = {(name, ""): state for state, names in by_state for name in names}
    return states | {("", text): "broken" for text in base.targets}


def _of_cell(cell: Cell) -> State:
    return "allowed" if cell.outcome == "broken" and cell.may_fail else cell.outcome


def _of_target(target: str, attempt: Attempt, broken: Sequence[str]) -> State:
    if target in broken:
        return "broken"
    return "unknown" if attempt.outcome == "unknown" or target in attempt.undecided_targets else "held"


def _is_share(text: str) -> bool:
    """A target on the share of bad requests, of which the request names tell."""
    try:
        return is_upper_proportion(parse_targets(text)[0])
    except UsageError:
        return False
