"""What both files of a state folder say together: what is still to be undone, ended, removed; and what is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from harness.adapters.keeper.protocol import KeeperOpened
from harness.adapters.processes.family import Root
from harness.model.records.faults import UndoRecord
from harness.safety.journal.entries import (
    Closed,
    Entry,
    Folder,
    FolderGone,
    Intent,
    Locking,
    Opened,
    Outcome,
    Process,
    ProcessGone,
    Project,
    ProjectGone,
    ProxyLock,
    Recorded,
    Unlocked,
    decode,
)
from harness.safety.journal.log import JOURNAL, KEEPER, TORN
from harness.safety.journal.private import check_private, open_private
from harness.safety.journal.version import check_version

UNDONE = frozenset({"verified", "moot", "not_injected"})


class JournalView(msgspec.Struct, frozen=True, kw_only=True):
    """Both files of a folder, put together.

    records: in order of recording. states: record id -> recorded, injecting, injected, undoing, verified, moot,
    unverified or not_injected. unsure: records whose injection began and has no recorded outcome. intents:
    (record id, action) -> boot_s of the last one. outcomes: record id -> its last undo outcome. servers, load: roots
    not yet known gone; had_servers: the keeper once owned some, so the stack was the run's own. folders: not yet
    removed. projects: of Docker Compose, not yet removed. locks: of Toxiproxies, not yet known gone. allowed: hosts
    that undo may reach besides loopback. damage: one line each. closed: the last word, if there was one. ended: the
    run itself wrote a last word, so its journal did not lose its end.
    """

    folder: str
    opened: Opened | None = None
    keeper: KeeperOpened | None = None
    records: tuple[UndoRecord, ...] = ()
    states: dict[str, str] = {}
    unsure: frozenset[str] = frozenset()
    intents: dict[tuple[str, str], float] = {}
    outcomes: dict[str, Outcome] = {}
    servers: tuple[Root, ...] = ()
    had_servers: bool = False
    load: tuple[Root, ...] = ()
    folders: tuple[Folder, ...] = ()
    projects: tuple[Project, ...] = ()
    locks: tuple[ProxyLock, ...] = ()
    allowed: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    closed: Closed | None = None
    ended: bool = False

    @property
    def pending(self) -> tuple[UndoRecord, ...]:
        """Records whose change is, or may be, still there; oldest first."""
        return tuple(r for r in self.records if self.states[r.id] not in UNDONE and self.states[r.id] != "recorded")

    @property
    def something_left(self) -> bool:
        made = self.servers or self.load or self.folders or self.projects
        return bool(self.pending or made or self.locks or self.damage)


def read_journal(folder: Path) -> JournalView:
    """Read both files of a run's state folder. (What lies anywhere else is text: see stranger.py.)

    Missing files are empty. A torn last line is ignored: nothing was injected after it. Raises Refused when a file
    belongs to someone else or others may write it, UndoUnverified when one is of another version.
    """
    check_private(folder, os.lstat(folder), folder=True)
    damage: list[str] = []
    entries = _read(folder / JOURNAL, damage)
    return merge(folder, entries, _read(folder / KEEPER, damage), damage)


def has_pending(folder: Path) -> bool:
    """Whether a change of this run is, or may be, still there."""
    view = read_journal(folder)
    return bool(view.pending or view.damage)


def _read(path: Path, damage: list[str]) -> list[Entry]:
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return []
    try:
        content = os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)
    check_version(path, content)
    return parse(path.name, content, damage)


def parse(name: str, content: bytes, damage: list[str]) -> list[Entry]:
    """The entries of one file; what cannot be read is added to `damage`."""
    lines = content.split(b"\n")
    found: list[Entry] = []
    for number, line in enumerate(lines[:-1], 1):  # what follows the last newline is empty, or torn
        if not line or line.endswith(TORN):
            continue
        try:
            found.append(decode(line))
        except ValueError as error:
            damage.append(f"{name} line {number}: {error}")
    return found


def merge(folder: Path, run: list[Entry], keeper: list[Entry], damage: list[str]) -> JournalView:
    """What both files say together."""
    opened: Opened | None = None
    by_keeper: KeeperOpened | None = None
    closed: Closed | None = None
    records: dict[str, UndoRecord] = {}
    states: dict[str, str] = {}
    unsure: set[str] = set()
    intents: dict[tuple[str, str], float] = {}
    outcomes: dict[str, Outcome] = {}
    roots: dict[int, Process] = {}
    had_servers = False
    folders: dict[str, Folder] = {}
    projects: dict[tuple[str, str], Project] = {}
    locks: dict[ProxyLock, None] = {}
    allowed: tuple[str, ...] = ()
    for entry in (*run, *keeper):
        match entry:
            case Opened():
                opened = entry
                allowed = entry.allowed
            case Locking(lock=lock):
                locks[lock] = None
            case Unlocked(lock=lock):
                locks.pop(lock, None)
            case KeeperOpened():
                by_keeper = entry
            case Recorded(record=record):
                if records.setdefault(record.id, record) != record:
                    # The change was made after the first one; the second is nobody's original state.
                    damage.append(f"{JOURNAL}: two different undo records of {record.id}; the first one counts")
                states.setdefault(record.id, "recorded")
            case Intent(id=id_, action=action, boot_s=boot_s):
                intents[id_, action] = boot_s
                states[id_] = "injecting" if action == "inject" else "undoing"
                if action == "inject":
                    unsure.add(id_)
            case Outcome(id=id_, state=state):
                # An undo by the keeper comes after everything the run did: its file is read last.
                states[id_] = state
                if state in ("injected", "not_injected"):
                    unsure.discard(id_)
                else:
                    outcomes[id_] = entry
            case Process():
                had_servers |= entry.server
                roots[entry.root.process.pid] = entry
            case ProcessGone(pid=pid):
                roots.pop(pid, None)
            case Folder():
                folders[entry.path] = entry
            case FolderGone(path=path):
                folders.pop(path, None)
            case Project(engine=engine, project=project):
                had_servers = True
                projects[engine, project] = entry
            case ProjectGone(engine=engine, project=project):
                projects.pop((engine, project), None)
            case Closed():
                closed = entry
            case _:
                pass
    for id_ in states.keys() - records.keys():
        # The record was damaged or lost, its intent was not: something was changed that nobody can undo from here.
        damage.append(f"{JOURNAL}: the undo record of {id_} cannot be read ({states[id_]})")
    return JournalView(
        folder=str(folder),
        opened=opened,
        keeper=by_keeper,
        records=tuple(records.values()),
        states=states,
        unsure=frozenset(unsure),
        intents=intents,
        outcomes=outcomes,
        servers=tuple(p.root for p in roots.values() if p.server),
        had_servers=had_servers,
        load=tuple(p.root for p in roots.values() if not p.server),
        folders=tuple(folders.values()),
        projects=tuple(projects.values()),
        locks=tuple(locks),
        allowed=allowed,
        damage=tuple(damage),
        closed=closed,
        ended=any(isinstance(entry, Closed) for entry in run),
    )
