"""The state folders of runs and of stacks that stay up: which are there, which were left, how a finished one goes."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec

from harness.adapters.keeper.protocol import KEEPER_LOG
from harness.adapters.processes.identity import alive
from harness.model.errors import HarnessError, Refused
from harness.model.files import replace_file
from harness.model.paths import state_dir
from harness.safety.journal.log import JOURNAL, KEEPER, is_written
from harness.safety.journal.private import check_private
from harness.safety.journal.view import read_journal


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A run whose harness died. pending: record ids whose change is, or may be, still on. locks: still held."""

    folder: Path
    owner: str
    host: str
    since: str
    pending: tuple[str, ...]
    servers: tuple[str, ...]
    locks: tuple[str, ...] = ()
    trouble: str | None = None


def active_dir() -> Path:
    """Where the state folders of runs are."""
    return state_dir() / "active"


def homes() -> tuple[Path, ...]:
    """Folders of state folders: runs, and stacks that were brought up to stay."""
    return active_dir(), state_dir() / "stacks"


def known(name: str) -> Path | None:
    """The state folder of the run (or the stack) of that name; None when this user's state directory has none."""
    if not name or name.startswith(".") or Path(name).name != name:
        return None
    return next((home / name for home in homes() if os.path.lexists(home / name)), None)


def check_known(folder: Path) -> None:
    """Raises Refused unless it is a state folder of this user: only there a journal is read as instructions.

    It and what it lies in, up to the harness's own folder, must be real folders that nobody else may write: a link
    would lead to a journal that came from elsewhere.
    """
    if folder.parent not in homes():
        raise Refused(
            f"{folder} is no run's folder in the state directory ({state_dir()}), so nothing is done by what it says",
            hint=f"to see what it says: harness heal {folder}",
        )
    for part in (folder.parent.parent, folder.parent, folder):
        try:
            check_private(part, part.lstat(), folder=True)
        except FileNotFoundError:
            return  # cleared away meanwhile: there is nothing to believe


def state_folders() -> list[Path]:
    found: list[Path] = []
    for home in homes():
        try:
            found += sorted(path for path in home.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError:
            continue
    return found


def find_active() -> list[Left]:
    """Runs whose harness and keeper are both dead and that left something. Reads only."""
    found = []
    for folder in state_folders():
        try:
            if is_written(folder / JOURNAL) or is_written(folder / KEEPER):
                continue
            view = read_journal(folder)
        except (HarnessError, OSError) as error:
            found.append(
                Left(folder=folder, owner=folder.name, host="", since="", pending=(), servers=(), trouble=str(error))
            )
            continue
        if view.something_left:
            opened = view.opened
            found.append(
                Left(
                    folder=folder,
                    owner=opened.owner if opened is not None else folder.name,
                    host=opened.host if opened is not None else "",
                    since=opened.at if opened is not None else "",
                    pending=tuple(record.id for record in view.pending),
                    servers=(
                        *(root.name for root in view.servers if alive(root.process)),
                        *(f"the Compose project {one.project}" for one in view.projects),
                    ),
                    locks=tuple(f"the lock of {lock.url}" for lock in view.locks),
                    trouble="; ".join(view.damage) or None,
                )
            )
    return found


def retire(folder: Path, run_dir: Path | None = None) -> None:
    """Copy a finished state folder's files to the run directory, then remove the folder when nothing is left in it.

    Never raises: it is the last act of a run that has been undone.
    """
    with suppress(OSError):  # a run directory on a full disk gets no copy; what is undone is cleared away all the same
        if run_dir is not None and run_dir.is_dir():
            for name in (JOURNAL, KEEPER):
                _copy(folder / name, run_dir / name)
            if (folder / KEEPER_LOG).exists() and not (run_dir / "logs").is_symlink():
                (run_dir / "logs").mkdir(exist_ok=True)
                _copy(folder / KEEPER_LOG, run_dir / "logs" / KEEPER_LOG)
    try:
        if not read_journal(folder).something_left:
            # First out of the way, in one step: whoever waits to heal it finds all of it or nothing.
            # (A name of its own: one made longer might be too long for the file system.)
            gone = folder.with_name(f".{hashlib.sha256(os.fsencode(folder.name)).hexdigest()[:16]}.gone")
            folder.rename(gone)
            shutil.rmtree(gone)
    except (OSError, HarnessError):
        pass


def _copy(source: Path, target: Path) -> None:
    """Where it is there at all. A link in its place is replaced: who cleared the run directory away may have left
    another one under its name."""
    with suppress(FileNotFoundError):
        replace_file(target, source.read_bytes(), mode=0o600)
