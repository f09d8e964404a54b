"""Dropping the raw records of old runs. What was found stays: plan, result, history, reports, journals.

Only below a run's or a suite's own folder, by fixed names, never through a link: names are opened from the folder's
descriptor, so that nobody can put another folder in its place meanwhile. A run that is going on, or of which something
is left to undo, has a state folder by its name, and is left alone.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from harness.analysis.run_directory import PRUNED
from harness.history.reading import Found
from harness.model.clock import wall
from harness.model.jsonl import encode_line
from harness.safety.state_folders import state_folders

RAW = ("windows.jsonl", "clean.jsonl", "samples.jsonl", "alerts.jsonl", "log.jsonl", "acknowledged.jsonl", "logs")
OF_SESSION = re.compile(r"session-on(-\d+)?|load-\d{2,}")
"""In a suite's folder: what a session that went on with it has recorded, and what a load beside the first one has."""
QUIET_S = 3600.0
"""One whose raw records were written to within this time is taken for one that is going on, whatever it says."""


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What was dropped, or would be. runs: folders. skipped: directory and why it was left alone."""

    runs: int
    freed: int
    skipped: tuple[tuple[str, str], ...]


def prune(found: Iterable[Found], before: float, *, dry_run: bool) -> Pruned:
    """Drop the raw records of what began before that time (seconds since 1970), of a suite with its
    experiments, of a game day with its drills and waits."""
    runs = freed = 0
    skipped = []
    # A session that goes on with a suite has its number behind the suite's name.
    going = {re.sub(r"-on-\d+\Z", "", folder.name) for folder in state_folders()}
    for one in found:
        if one.at >= before:
            continue
        if going & _names(one.path):
            skipped.append((one.entry.directory, "it is going on, or something of it is left to undo"))
            continue
        for folder in [one.path, *(_parts(one.path) if one.parts is not None else ())]:
            try:
                size = _prune(folder, dry_run)
            except OSError as error:
                skipped.append((_told(one, folder), error.strerror or str(error)))
                continue
            except _Busy:
                skipped.append((_told(one, folder), "its records were written to within the last hour"))
                continue
            runs += size is not None
            freed += size or 0
    return Pruned(runs=runs, freed=freed, skipped=tuple(skipped))


class _Busy(Exception):
    """Somebody writes these records, as far as can be seen."""


def _names(path: Path) -> set[str]:
    """What its state folder may be called: a run directory whose name was taken is numbered, its state folder is not;
    an experiment has that of its suite."""
    own = (path.absolute().name, path.absolute().parent.name)
    return {*own, *(re.sub(r"-\d+\Z", "", name) for name in own)}


def _told(one: Found, folder: Path) -> str:
    return "/".join((one.entry.directory, *folder.relative_to(one.path).parts))


def _parts(suite: Path, *, session: bool = False) -> list[Path]:
    """Its experiments, and what its session has in folders of their own. session: of a session that went on with it."""
    with os.scandir(suite) as entries:
        folders = sorted(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and e.name not in RAW)
    found: list[Path] = []
    for path in folders:
        if OF_SESSION.fullmatch(path.name):
            found += [path, *([] if session else _parts(path, session=True))]
        elif not session and (path / "plan.json").is_file():
            found.append(path)
    return found


def _prune(folder: Path, dry_run: bool) -> int | None:
    """Bytes freed; None where there was nothing to drop."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        there = [(name, status) for name in RAW if (status := _status(name, fd)) is not None]
        if not there:
            return None
        if any(time.time() - status.st_mtime < QUIET_S for _, status in there):
            raise _Busy
        size = sum(_size(folder / name, status) for name, status in there)
        if dry_run:
            return size
        _mark(fd, [name for name, _ in there])
        for name, status in there:
            if stat.S_ISDIR(status.st_mode):
                shutil.rmtree(name, dir_fd=fd)
            else:
                os.unlink(name, dir_fd=fd)
        return size
    finally:
        os.close(fd)


def _status(name: str, fd: int) -> os.stat_result | None:
    """Of a file of that name, or of the folder of logs. Links and whatever else stands there are not ours."""
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    is_ours = stat.S_ISDIR if name == "logs" else stat.S_ISREG
    return status if is_ours(status.st_mode) else None


def _size(path: Path, status: os.stat_result) -> int:
    return sum(_sizes(path)) if stat.S_ISDIR(status.st_mode) else status.st_size


def _sizes(folder: Path) -> Iterator[int]:
    for base, _, files in os.walk(folder):  # follows no links
        for name in files:
            yield Path(base, name).lstat().st_size


def _mark(fd: int, names: list[str]) -> None:
    """Before anything is dropped, so that nobody takes a run that was pruned half for a damaged one."""
    line = encode_line({"schema": 1, "at": wall(), "dropped": names})
    number = os.open(PRUNED, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666, dir_fd=fd)
    with os.fdopen(number, "wb") as file:
        file.write(line)
