"""The run's journal: what must be undone is on disk before it is done.

`record` and the intent to inject are on the disk when the call returns, or it raises and nothing may be injected.
What is written after an injection never raises: a full disk must not stop an undo. It only means that the change
still counts as pending, and undoing twice is harmless (compare and set).
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Collection
from pathlib import Path

import msgspec

from harness.model.errors import Refused, SetupError
from harness.model.faults import UndoOutcome, UndoRecord
from harness.safety.entries import (
    Action,
    Closed,
    Entry,
    Folder,
    FolderGone,
    Intent,
    KeeperOpened,
    Locking,
    Opened,
    Outcome,
    Process,
    ProcessGone,
    ProxyLock,
    Recorded,
    Unlocked,
    boottime,
    decode,
    encode,
)
from harness.safety.family import Root
from harness.safety.private import check_private, open_private, private_folder, sync_folder
from harness.safety.processes import identify

JOURNAL = "journal.jsonl"
KEEPER = "keeper.jsonl"
TORN = b"#torn"
"""Closes off a line that was cut short before the next one is written: it is known, so it is not damage."""
UNDONE = frozenset({"verified", "moot", "not_injected"})


class Busy(Refused):
    """Another living process writes this log."""


class Log:
    """An append-only file of entries, locked by its writer for as long as it lives.

    `append` raises OSError; it is all or nothing as far as a file can be: a line cut short by a full disk is closed
    off and marked as such before the next one.
    """

    def __init__(self, path: Path) -> None:
        """Raises Busy while another process writes it, Refused when it is not ours alone, FileNotFoundError when it
        was removed while we waited for its writer, OSError.
        """
        self.path = path
        self._mutex = threading.Lock()
        self.fd = open_private(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        # Whoever asks `is_written` holds it for a moment: only a lasting lock is a writer's.
        for pause in (0.01, 0.1, None):
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if isinstance(error, BlockingIOError) and pause is not None:
                    time.sleep(pause)
                    continue
                os.close(self.fd)
                if isinstance(error, BlockingIOError):
                    raise Busy(f"{path} is being written by another process") from None
                raise
        if not _still_there(path, self.fd):
            os.close(self.fd)
            raise FileNotFoundError(2, "it was removed meanwhile", str(path))
        self._torn = not self._ends_with_newline()

    def _ends_with_newline(self) -> bool:
        size = os.fstat(self.fd).st_size
        return size == 0 or os.pread(self.fd, 1, size - 1) == b"\n"

    def append(self, entry: Entry, *, durable: bool = False) -> None:
        """durable: on the disk, with its name in the folder, before it returns."""
        line = encode(entry)
        with self._mutex:
            data = TORN + b"\n" + line if self._torn else line
            self._torn = True  # until every byte is out
            while data:
                data = data[os.write(self.fd, data) :]
            self._torn = False
            if durable:
                os.fsync(self.fd)
                sync_folder(self.path.parent)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _still_there(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(fd))
    except OSError:
        return False


def is_written(path: Path) -> bool:
    """Whether a living process has this log open for writing."""
    try:
        fd = open_private(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


class Journal:
    """The run's side. `trouble`: what could not be written since the injection, for the report."""

    def __init__(self, log: Log, folder: Path) -> None:
        self._log = log
        self.folder = folder
        self.trouble: list[str] = []

    @classmethod
    def create(
        cls,
        folder: Path,
        *,
        owner: str = "",
        run_dir: Path | None = None,
        allowed: Collection[str] = (),
    ) -> Journal:
        """Open `folder`/journal.jsonl for this process. owner: the run's name; see `Opened` for the rest.

        Raises SetupError when it cannot be written, Refused when others may write there or another run uses it.
        """
        private_folder(folder)
        me = identify(os.getpid())
        if me is None:
            raise SetupError("cannot read this process's own start time")
        try:
            journal = cls(Log(folder / JOURNAL), folder)
            journal._log.append(
                Opened(
                    run=me,
                    host=socket.gethostname(),
                    owner=owner or folder.name,
                    run_dir=str(run_dir.absolute()) if run_dir is not None else None,
                    allowed=tuple(allowed),
                ),
                durable=True,
            )
        except OSError as error:
            raise SetupError(f"cannot write the journal in {folder}: {error.strerror or error}") from error
        return journal

    def record(self, record: UndoRecord) -> None:
        """On the disk when it returns. Raises SetupError: then do not inject."""
        self._must(Recorded(record=record), f"the undo record of {record.id}")

    def intent(self, record_id: str, action: Action) -> None:
        """ "inject": on the disk when it returns, else SetupError: then do not inject. "undo": never raises."""
        entry = Intent(id=record_id, action=action, boot_s=boottime())
        if action == "inject":
            self._must(entry, f"the intent to inject {record_id}")
        else:
            self._try(entry)

    def outcome(self, record_id: str, text: str, *, left: str | None = None, mend: str | None = None) -> None:
        """text: injected, not_injected, verified, moot or unverified (with left and mend). Never raises OSError.

        not_injected only when provably nothing was changed; after an unknown outcome write nothing.
        """
        self._try(Outcome(id=record_id, state=text, left=left, mend=mend))

    def undone(self, outcome: UndoOutcome) -> None:
        """The same from an UndoOutcome."""
        self.outcome(outcome.record_id, outcome.state, left=outcome.left, mend=outcome.mend)

    def load_process(self, name: str, pid: int, start_time: float) -> None:
        """A process the run started itself; whoever heals ends it. Raises SetupError when it cannot be recorded."""
        process = identify(pid, start_time)
        if process is not None:
            self._must(Process(root=Root(name=name, process=process)), f"the process {name}")

    def closed(self, left: Collection[str] = ()) -> None:
        """The run has undone everything itself (or says what is left). Call it before the keeper is finished."""
        self._try(Closed(clean=not left, left=tuple(left)))

    def close(self) -> None:
        """Close the file; writes nothing."""
        self._log.close()

    def _must(self, entry: Entry, what: str) -> None:
        try:
            self._log.append(entry, durable=True)
        except OSError as error:
            raise SetupError(
                f"cannot write {what} to {self._log.path}: {error.strerror or error}",
                hint="nothing is injected without it; make room or name another folder with XDG_STATE_HOME",
            ) from error

    def _try(self, entry: Entry) -> None:
        try:
            self._log.append(entry)
        except OSError as error:
            self.trouble.append(f"{self._log.path}: {error.strerror or error}")


class JournalView(msgspec.Struct, frozen=True, kw_only=True):
    """Both files of a folder, put together.

    records: in order of recording. states: record id -> recorded, injecting, injected, undoing, verified, moot,
    unverified or not_injected. unsure: records whose injection began and has no recorded outcome. intents:
    (record id, action) -> boot_s of the last one. outcomes: record id -> its last undo outcome. servers, load: roots
    not yet known gone; had_servers: the keeper once owned some, so the stack was the run's own. folders: not yet
    removed. locks: of Toxiproxies, not yet known gone. allowed: hosts that undo may reach besides loopback. damage: one
    line each. closed: the last word, if there was one.
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
    locks: tuple[ProxyLock, ...] = ()
    allowed: tuple[str, ...] = ()
    damage: tuple[str, ...] = ()
    closed: Closed | None = None

    @property
    def pending(self) -> tuple[UndoRecord, ...]:
        """Records whose change is, or may be, still there; oldest first."""
        return tuple(r for r in self.records if self.states[r.id] not in UNDONE and self.states[r.id] != "recorded")

    @property
    def something_left(self) -> bool:
        return bool(self.pending or self.servers or self.load or self.folders or self.locks or self.damage)


def read_journal(folder: Path, *, copied: bool = False) -> JournalView:
    """Read both files of a run's state folder, or of a run directory they were copied to (copied=True).

    Missing files are empty. A torn last line is ignored: nothing was injected after it. Raises Refused when a file
    belongs to someone else or others may write it.
    """
    if not copied:
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
        return parse(path.name, os.pread(fd, os.fstat(fd).st_size, 0), damage)
    finally:
        os.close(fd)


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
                records[record.id] = record
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
        locks=tuple(locks),
        allowed=allowed,
        damage=tuple(damage),
        closed=closed,
    )
