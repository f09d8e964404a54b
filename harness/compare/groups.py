"""What BASE and NEW name: a run directory, a folder of them, a group with its group.json. Anybody may have made it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from harness.analysis.run_directory import PLAN, missing
from harness.analysis.statistics.sign_flip import MOST_PAIRS
from harness.model.errors import UsageError
from harness.model.files import cannot_be_read, read_limited
from harness.model.jsonl import decodes
from harness.model.records.many_runs.group import SCHEMA, Group, GroupRun

GROUP = "group.json"
A, B = "a", "b"
SIDES = {"A": A, "B": B}
"""The folder of each side of a group of pairs, by its label."""
MAX_BYTES = 1_000_000
MOST_RUNS = MOST_PAIRS
"""On one side."""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """One run directory of a side, and the pair that it belongs to, if to any."""

    path: Path
    pair: int | None = None


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """single: a run beside a run."""

    base: tuple[Named, ...]
    new: tuple[Named, ...]
    paired: bool = False
    single: bool = False


def sides(base: Path, new: Path | None) -> Sides:
    """Raises UsageError for what is no run and no group, and for two that are the same."""
    if new is not None and (both := _sides_of_one(base, new)) is not None:
        return both
    first = _read(base)
    if isinstance(first, Sides):
        if new is not None:
            raise UsageError(f"{base} holds pairs of two versions", hint="compare it alone: harness compare GROUP")
        return first
    if new is None:
        raise UsageError(
            f"{base} holds no pairs of two versions",
            hint="name what it is to be compared with: harness compare BASE NEW",
        )
    second = _read(new)
    if isinstance(second, Sides):
        raise UsageError(f"{new} holds pairs of two versions", hint="compare it alone: harness compare GROUP")
    there = {os.path.realpath(one.path) for one in first}
    for one in second:
        if os.path.realpath(one.path) in there:
            raise UsageError(
                f"{one.path} is on both sides", hint="name two runs, or two groups without a run in common"
            )
    return Sides(base=first, new=second, single=(first[0].path, second[0].path) == (base, new))


def _sides_of_one(base: Path, new: Path) -> Sides | None:
    """Where BASE and NEW are the folders a and b of one group of pairs, they are compared as these pairs."""
    here, there = base.absolute(), new.absolute()
    if here.parent != there.parent or (here.name, there.name) not in ((A, B), (B, A)):
        return None
    if base.is_symlink() or new.is_symlink() or not (here.parent / GROUP).exists():
        return None
    # With the names as they were given, as everywhere.
    found = _read(base.parent if base.name == here.name else here.parent)
    if not isinstance(found, Sides) or any(one.path.parent.name != A for one in found.base):
        return None
    return found if here.name == A else msgspec.structs.replace(found, base=found.new, new=found.base)


def read_group(directory: Path) -> Group:
    """group.json, checked. Raises UsageError."""
    path = directory / GROUP
    data = read_limited(path, MAX_BYTES, links=False)
    with decodes(path):
        group = msgspec.json.decode(data, type=Group)
    if group.schema != SCHEMA:
        raise UsageError(
            f"{path} is of schema {str(group.schema)[:20]}, and this version of the harness reads schema {SCHEMA}",
            hint="read it with the version that wrote it",
        )
    if (wrong := _wrong(group)) is not None:
        raise UsageError(f"{path} is damaged: {wrong}")
    return group


def _wrong(group: Group) -> str | None:
    seen: set[object] = set()
    for run in group.runs:
        # A name in this folder or in its side's: what is compared must not be chosen by a path in a file.
        name = run.directory.removeprefix(f"{SIDES[run.label]}/") if group.kind == "versus" else run.directory
        if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
            return f"{run.directory[:60]!r} is not the name of a run directory in it"
        if group.kind == "repeat" and run.label != "A":
            return "a repeat has no B"
        for one in (run.directory, (run.label, run.pair)):
            if one in seen:
                return f"{run.directory[:60]!r} is there twice, or its place is"
            seen.add(one)
    return None


def _read(path: Path) -> tuple[Named, ...] | Sides:
    """A run, the runs of a group, or, of two versions, both sides."""
    missing(path)
    if (path / PLAN).exists() and not (path / GROUP).exists():
        return (Named(path=path),)
    if (path / GROUP).exists():
        group = read_group(path)
        if group.kind == "versus":
            return _versus(path, group)
        found = [Named(path=_inside(path, run)) for run in group.runs]
    else:
        try:
            # A link to the newest run would count it twice.
            inside = sorted(one for one in path.iterdir() if not one.is_symlink() and (one / PLAN).is_file())
        except OSError as error:
            raise cannot_be_read(path, error) from error
        found = [Named(path=one) for one in inside]
    return _counted(path, found)


def _versus(path: Path, group: Group) -> Sides:
    runs = {(run.label, run.pair): run for run in group.runs}
    pairs = sorted(pair for label, pair in runs if label == "A" and ("B", pair) in runs)
    base, new = (
        _counted(path, [Named(path=_inside(path, runs[label, pair]), pair=pair) for pair in pairs])
        for label in ("A", "B")
    )
    return Sides(base=base, new=new, paired=True)


def _inside(path: Path, run: GroupRun) -> Path:
    inside = path / run.directory
    for one in (inside.parent, inside) if "/" in run.directory else (inside,):
        if one.is_symlink():
            raise UsageError(f"{one} is a link, not a run directory")
    return inside


def _counted(path: Path, found: list[Named]) -> tuple[Named, ...]:
    if not found:
        raise UsageError(f"{path} holds no run directory", hint="name a run directory, or a folder of run directories")
    if len(found) > MOST_RUNS:
        raise UsageError(f"{path} holds {len(found)} runs of one side, and {MOST_RUNS} are compared at most")
    return tuple(found)
