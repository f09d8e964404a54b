"""What a suite's runs show by themselves of who needs what: by cells that are broken, over all of a dependency's
experiments."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from harness.analysis.suite.score import cells_of_most
from harness.model.records.many_runs.suite import Cell, ExperimentResult

MOSTLY = 0.5
"""A name of whose bad requests more than this share failed fails; the others are slow."""


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A request that a dependency's loss breaks. fails, slow: experiments in which most of its bad requests failed, or
    were only too slow. declared: it may fail with this dependency in all of them; partly: in some of them. independent:
    it is declared that it does not need it."""

    request: str
    fails: tuple[str, ...]
    slow: tuple[str, ...]
    declared: bool
    partly: bool
    independent: bool


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment that broke every request, though some do not need its dependency: they are declared independent,
    or held in another of its experiments."""

    experiment: str
    requests: tuple[str, ...]


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """One dependency. held: requests that held in every experiment of it. undecided: neither."""

    dependency: str
    experiments: tuple[str, ...]
    needs: tuple[Need, ...] = ()
    held: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    froze: tuple[Frozen, ...] = ()

    @property
    def undeclared(self) -> tuple[Need, ...]:
        """Couplings that nobody declared."""
        return tuple(need for need in self.needs if not need.declared)


def isolation(experiments: Iterable[ExperimentResult]) -> tuple[Isolation, ...]:
    """By dependency, in the order of the suite. An experiment that hits two tells of neither by itself, and a control
    run of none; that every request needs the service itself, nobody has to be told."""
    by_dependency: dict[str, dict[str, tuple[Cell, ...]]] = {}
    for one in experiments:
        cells = cells_of_most(one)
        if one.dependency and "+" not in one.dependency and not one.on_target and cells:
            by_dependency.setdefault(one.dependency, {})[one.name] = cells
    return tuple(_of(dependency, found) for dependency, found in by_dependency.items())


def _of(dependency: str, found: dict[str, tuple[Cell, ...]]) -> Isolation:
    by_name: dict[str, dict[str, Cell]] = {}
    for experiment, cells in found.items():
        for cell in cells:
            by_name.setdefault(cell.request, {})[experiment] = cell
    needs, held, undecided = [], [], []
    for name, seen in sorted(by_name.items()):
        broken = {experiment: cell for experiment, cell in seen.items() if cell.outcome == "broken"}
        if broken:
            fails = tuple(e for e, cell in broken.items() if cell.failed > MOSTLY * cell.bad)
            needs.append(
                Need(
                    request=name,
                    fails=fails,
                    slow=tuple(e for e in broken if e not in fails),
                    declared=all(cell.may_fail for cell in broken.values()),
                    partly=any(cell.may_fail for cell in broken.values()),
                    independent=any(cell.independent for cell in broken.values()),
                )
            )
        elif len(seen) == len(found) and all(cell.outcome == "held" for cell in seen.values()):
            held.append(name)
        else:
            undecided.append(name)
    sound = {name for name, seen in by_name.items() if any(cell.outcome == "held" for cell in seen.values())}
    froze = tuple(
        Frozen(experiment=experiment, requests=spared)
        for experiment, cells in found.items()
        if len(cells) > 1
        and all(cell.outcome == "broken" for cell in cells)
        and (spared := tuple(cell.request for cell in cells if cell.independent or cell.request in sound))
    )
    return Isolation(
        dependency=dependency,
        experiments=tuple(found),
        needs=tuple(needs),
        held=tuple(held),
        undecided=tuple(undecided),
        froze=froze,
    )
