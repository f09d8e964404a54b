"""The kinds of dependencies that are installed, by name: entry points of the group `harness.dependencies`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from harness.config.file import DependencyTable
from harness.dependencies.kind import DependencyKind
from harness.model.entry_points import loaded
from harness.model.errors import UsageError
from harness.model.records.faults import Dependency

GROUP = "harness.dependencies"


def kinds() -> Mapping[str, DependencyKind]:
    """Every kind that can be used, by its name; `unusable` tells of the others. Never raises."""
    return _load()[0]


def unusable() -> Mapping[str, str]:
    """Why a registered kind cannot be used, by its name."""
    return _load()[1]


def tables() -> dict[str, type[DependencyTable]]:
    """What harness.toml may say of a dependency, by its kind."""
    return {name: kind.table for name, kind in kinds().items()}


def kind_of(dependency: Dependency) -> DependencyKind:
    """Raises UsageError for a kind that is not installed here."""
    found = kinds().get(dependency.kind)
    if found is None:
        raise UsageError(
            f"{dependency.name} is a dependency of kind {dependency.kind!r}, which is not installed here",
            hint="install the package that brings this kind",
        )
    return found


@cache
def _load() -> tuple[Mapping[str, DependencyKind], Mapping[str, str]]:
    return loaded(GROUP, DependencyKind)
