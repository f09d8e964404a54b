"""A run directory that this user's state directory does not know: what stands in its journals is told, and only told.

It may come from anybody: an artifact of a CI, an attachment of a bug report. So nothing in it is an instruction. No
process that it names is signalled, no folder removed, no host spoken to, no variable read, no file opened that it
names; and its own two files are read only as far as they are plain files of a sensible size. What comes back may hold
any character: whoever shows it makes the invisible ones visible.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from harness.model.records.faults import UndoRecord
from harness.safety.journal.entries import Entry
from harness.safety.journal.log import JOURNAL, KEEPER
from harness.safety.journal.version import check_version
from harness.safety.journal.view import JournalView, merge, parse

MAX_BYTES = 16_000_000
"""A journal has a line a change and a process; the longest that a run wrote had 60 kB."""
MOST = 50
"""So many of a kind are told; a person reads no more."""


def told(folder: Path) -> list[str]:
    """What the journals in this folder say is still to be undone, ended or removed, a sentence each. Never raises for
    what stands in them; OSError when the folder cannot be read, UndoUnverified for a journal of another version."""
    damage: list[str] = []
    run, keeper = _entries(folder / JOURNAL, damage), _entries(folder / KEEPER, damage)
    return list(_sentences(merge(folder, run, keeper, damage)))


def _entries(path: Path, damage: list[str]) -> list[Entry]:
    # A pipe or a device would hold up whoever opens or reads it; a link could lead to anything.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as error:
        damage.append(f"{path.name} cannot be read: {error.strerror or error}")
        return []
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            damage.append(f"{path.name} is not a plain file")
            return []
        if status.st_size > MAX_BYTES:
            damage.append(f"{path.name} is over {MAX_BYTES // 1_000_000} MB, which no journal is")
            return []
        content = os.pread(fd, MAX_BYTES, 0)
    finally:
        os.close(fd)
    check_version(path, content)
    return parse(path.name, content, damage)


def _sentences(view: JournalView) -> Iterator[str]:
    yield from _some([_change(record) for record in reversed(view.pending)], "changes")
    processes = [f"{root.name}, process {root.process.pid}, may still run" for root in (*view.servers, *view.load)]
    yield from _some(processes, "processes")
    yield from _some([f"the temporary folder {one.path} may still be there" for one in view.folders], "folders")
    projects = [f"the Compose project {one.project} may still be on {one.engine}" for one in view.projects]
    yield from _some(projects, "projects")
    yield from _some([f"Toxiproxy at {one.url} may still be locked" for one in view.locks], "locks")
    yield from _some([f"{line}: what it stood for cannot be told" for line in view.damage], "damaged lines")


def _change(record: UndoRecord) -> str:
    from harness.safety.healing.undo import commands_by_hand

    return (
        f"{record.id}: {record.kind} on {record.dependency.name} may still be on; by hand: {commands_by_hand(record)}"
    )


def _some(lines: list[str], what: str) -> Iterator[str]:
    yield from lines[:MOST]
    if len(lines) > MOST:
        yield f"and {len(lines) - MOST:,} more {what}"
