"""Objects that packages register under a name, in one group of entry points."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

T = TypeVar("T")


def loaded(group: str, type_: type[T]) -> tuple[dict[str, T], dict[str, str]]:
    """The objects of this type by name, and why the others cannot be used: one does not import, is something else, or
    has a name that is taken. Never raises: what one package has got wrong must not stop what another one does."""
    found: dict[str, T] = {}
    wrong: dict[str, str] = {}
    by_name: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        by_name.setdefault(point.name, []).append(point)
    for name, points in sorted(by_name.items()):
        values = sorted({point.value for point in points})
        if len(values) > 1:
            wrong[name] = f"registered more than once: {', '.join(values)}"
            continue
        try:
            registered = points[0].load()
        except Exception as error:  # a package may fail in any way
            wrong[name] = f"{values[0]} cannot be imported: {type(error).__name__}: {error}"
            continue
        if isinstance(registered, type_):
            found[name] = registered
        else:
            wrong[name] = f"{values[0]} is not a {type_.__name__}"
    return found, wrong
