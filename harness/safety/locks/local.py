"""One run at a time on a target and on every resource it changes.

A lock is a flock on a file named after the resource. flock belongs to the open file, not to the process: the keeper
inherits the descriptors, so the lock outlives a killed run until its keeper has healed and exits. It also outlives
both: the file names the folder with the owner's journal, and while that still lists something to undo nobody else
gets the lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.model.clock import wall
from harness.model.errors import Refused, SetupError
from harness.model.paths import state_dir
from harness.safety.journal.private import open_private, private_folder


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What the lock file says. folder: where the owner's journal is, None when it keeps none."""

    resource: str
    owner: str
    host: str
    pid: int
    since: str
    folder: str | None = None


class Locks:
    """Held locks. `fds` go to the keeper. `release()` lets go of this process's share."""

    def __init__(self, folder: Path | None = None) -> None:
        self.fds: tuple[int, ...] = ()
        self.resources: tuple[str, ...] = ()
        self._folder = folder

    def _add(self, fd: int, resource: str) -> None:
        self.fds = (*self.fds, fd)
        self.resources = (*self.resources, resource)

    def release(self) -> None:
        """Call it after the keeper has gone; may be called again.

        While the owner's journal still lists something to undo, the files keep its name: the next run is refused and
        told to heal first.
        """
        if self._folder is None or not _left_broken(self._folder):
            clear(self.fds)
        else:
            for fd in self.fds:
                os.close(fd)
        self.fds, self.resources = (), ()

    def __enter__(self) -> Locks:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def clear(fds: Sequence[int]) -> None:
    """Empty lock files and close them: nothing is left behind any more."""
    for fd in fds:
        try:
            os.ftruncate(fd, 0)
        except OSError:
            pass
        try:
            os.close(fd)
        except OSError:
            pass


def lock_file(resource: str) -> Path:
    slug = re.sub(r"[^A-Za-z0-9]+", "-", resource).strip("-")[:40]
    return state_dir() / "locks" / f"{slug}-{hashlib.sha256(resource.encode()).hexdigest()[:16]}.lock"


def acquire(resources: Sequence[str], owner: str, *, folder: Path | None = None) -> Locks:
    """Lock all resources, in sorted order, for `owner` (the run's name).

    folder: the run's state folder, remembered in the lock. Raises Refused naming the run, host and pid that hold one,
    or the dead run that left it broken; then none is held. Raises SetupError when the state directory cannot be used.
    """
    locks = Locks(folder)
    try:
        private_folder(state_dir() / "locks")
        for resource in sorted(set(resources)):
            fd = open_private(lock_file(resource), os.O_RDWR | os.O_CREAT)
            try:
                _take(fd, resource, folder)
            except BaseException:
                os.close(fd)
                raise
            locks._add(fd, resource)
            text = Holder(
                resource=resource,
                owner=owner,
                host=socket.gethostname(),
                pid=os.getpid(),
                since=wall(),
                folder=str(folder.absolute()) if folder is not None else None,
            )
            os.ftruncate(fd, 0)
            os.pwrite(fd, msgspec.json.encode(text) + b"\n", 0)
    except OSError as error:
        locks.release()
        raise SetupError(f"cannot lock {', '.join(resources)}: {error.strerror or error}") from error
    except BaseException:
        locks.release()
        raise
    return locks


def refuse_beside_living(resources: Sequence[str]) -> None:
    """Raise Refused, naming the run, while a living one (or the keeper that heals it) holds one of these.

    It takes nothing. For whoever looks at a system before locking it: what another run has broken there is not to be
    mended by hand.
    """
    for resource in sorted(set(resources)):
        try:
            fd = open_private(lock_file(resource), os.O_RDONLY)
        except OSError:
            continue  # nobody has locked it yet; or `acquire` will say what is wrong with the file
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _refusal(resource, _read(fd)) from None
        finally:
            os.close(fd)


def _take(fd: int, resource: str, mine: Path | None) -> None:
    """flock it. Raises Refused; the file keeps its text then: it still stands for what holds it or is broken."""
    # Whoever only looks (`refuse_beside_living`) holds it for a moment: only a lasting lock is a run's.
    for pause in (0.01, 0.1, None):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if pause is None:
                raise _refusal(resource, _read(fd)) from None
            time.sleep(pause)
    holder = _read(fd)
    if holder is None or holder.folder is None or (mine is not None and holder.folder == str(mine.absolute())):
        return
    if _left_broken(Path(holder.folder)):
        raise Refused(
            f"{resource}: run {holder.owner} ({holder.host}, pid {holder.pid}) ended and left changes behind",
            hint=f"run `harness heal {holder.folder}` first",
        )


def _left_broken(folder: Path) -> bool:
    from harness.safety.journal.view import has_pending

    return folder.is_dir() and has_pending(folder)


def _refusal(resource: str, holder: Holder | None) -> Refused:
    if holder is None:
        return Refused(f"{resource} is locked by another run", hint="wait for it to end")
    return Refused(
        f"{resource} is in use by run {holder.owner} (host {holder.host}, pid {holder.pid}, since {holder.since})",
        hint="wait for it to end, or stop it",
    )


def _read(fd: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(fd, 65536, 0), type=Holder)
    except (msgspec.MsgspecError, OSError):
        return None
