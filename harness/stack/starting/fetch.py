"""The cache of fetched and built files: made once, checked before every use, never seen half made.

file            the thing itself, renamed into place when it is complete
file.sha256     its SHA-256, recorded when it was made (where no committed hash says what it must be)
file.lock       held while somebody makes it

A record beside a file proves nothing to whom both may be written by: what is run from here lies in folders that nobody
else may write in.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.model.errors import Refused, SetupError
from harness.model.paths import cache_dir
from harness.model.records.stack import Progress
from harness.stack.starting.ready import Interrupted

Make = Callable[[Path], None]
"""Writes the complete file to the given temporary path."""

LOCK_LIMIT_S = 900.0


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_folder(folder: Path) -> None:
    """Raises Refused when somebody else may write in the folder, or in one of those above it up to the cache's own.

    root is nobody else: it may do anything anyway. A folder that does not exist yet is none.
    """
    root = cache_dir()
    within = [folder, *folder.parents]
    for each in within[: within.index(root) + 1] if root in within else [folder]:
        status = _status(each)
        if status is None:
            continue
        if status.st_uid not in (os.geteuid(), 0):
            why = f"belongs to another user (uid {status.st_uid})"
        elif not stat.S_ISDIR(status.st_mode):
            why = "is no folder"
        elif status.st_mode & 0o022:
            why = f"may be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
        else:
            continue
        raise Refused(
            f"the cache folder {each} {why}, and programs are run from it",
            hint="remove it (it is made again), or set XDG_CACHE_HOME to a folder of yours",
        )
    above = _status(root.parent) if root in within else None
    # In /tmp, which is sticky, nobody can put another folder in the place of ours.
    if above is not None and above.st_mode & 0o002 and not above.st_mode & stat.S_ISVTX:
        raise Refused(
            f"the cache folder {root} lies in {root.parent}, where everybody may put another in its place"
            f" (mode {stat.S_IMODE(above.st_mode):04o}), and programs are run from it",
            hint=f"chmod o-w {root.parent}, or set XDG_CACHE_HOME to a folder of yours",
        )


def make_folder(folder: Path) -> None:
    """With those above it, for nobody but us to write in whatever the umask says. Raises OSError."""
    for each in [*reversed(folder.parents), folder]:
        if not each.is_dir():
            each.mkdir(mode=0o755, exist_ok=True)


def is_intact(path: Path, sha256: str | None = None) -> bool:
    """The file is there and has the hash: the given one, else the one recorded when it was made, where only we (and
    root) could have written either of the two."""
    try:
        if sha256 is None and not (_ours(path) and _ours(_record(path))):
            return False
        expected = sha256 or _record(path).read_text("ascii").strip()
        return sha256_of(path) == expected
    except (OSError, ValueError):
        return False


def ensure_file(
    path: Path,
    make: Make,
    *,
    title: str,
    progress: Progress,
    sha256: str | None = None,
    executable: bool = False,
) -> Path:
    """`path`, verified; made by `make` first when it is missing or damaged.

    Two processes that need it at once: one makes it, the other waits. With `sha256` a wrong result is made again
    once. Raises SetupError: cache not writable, still wrong the second time, or whatever `make` raises; Refused:
    somebody else may write in the cache.
    """
    check_folder(path.parent)
    if is_intact(path, sha256):
        return path
    with locked(path, title=title, progress=progress):
        check_folder(path.parent)
        if is_intact(path, sha256):
            return path
        if path.exists():
            progress(f"{title}: the cached file is damaged, getting it again")
        for attempt in (1, 2):
            temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
            try:
                make(temporary)
                found = sha256_of(temporary)
                if sha256 is not None and found != sha256:
                    if attempt == 1:
                        progress(f"{title}: {path.name} has the wrong checksum, getting it again")
                        continue
                    raise SetupError(
                        f"{title}: {path.name} has SHA-256 {found}, but {sha256} is expected (tried twice)",
                        hint="something between here and the registry changes the file; the wrong one was not kept",
                    )
                temporary.chmod(0o755 if executable else 0o644)
                _replace(temporary, path, found if sha256 is None else None)
                return path
            except OSError as error:
                raise cache_error(title, path.parent, error) from error
            finally:
                temporary.unlink(missing_ok=True)
    raise AssertionError("unreachable")


def cache_error(title: str, folder: Path, error: OSError) -> SetupError:
    return SetupError(
        f"{title}: cannot write to the cache folder {folder}: {error.strerror or error}",
        hint="set XDG_CACHE_HOME to a folder that you can write, with about 1 GB free while it is set up",
    )


@contextlib.contextmanager
def locked(
    path: Path,
    *,
    title: str,
    progress: Progress,
    limit_s: float = LOCK_LIMIT_S,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Hold `path.lock`. The lock goes with the process, so a killed one blocks nobody.

    Raises SetupError when the cache cannot be written, or another process held it for `limit_s`; Interrupted.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        make_folder(path.parent)
        file = lock.open("a")
    except OSError as error:
        raise cache_error(title, path.parent, error) from error
    with file:
        deadline = time.monotonic() + limit_s
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    progress(f"{title}: another process is setting it up, waiting")
                    said = True
                if time.monotonic() > deadline:
                    raise SetupError(
                        f"{title}: another process has been setting it up for {limit_s:.0f} s",
                        hint=f"see who holds {lock}, or remove the folder {path.parent}",
                    ) from None
                if stopped():
                    raise Interrupted(f"{title}: stopped") from None
                time.sleep(0.1)
        yield


@contextlib.contextmanager
def work_folder(parent: Path, title: str) -> Iterator[Path]:
    """A temporary folder inside the cache, removed afterwards. Call it with the lock held: what an earlier,
    killed maker left behind is removed too."""
    for stale in parent.glob("work-*"):
        shutil.rmtree(stale, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix="work-", dir=parent))
    except OSError as error:
        raise cache_error(title, parent, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _status(path: Path) -> os.stat_result | None:
    """Where a link of ours leads is what counts: a cache on another disk is common. None: it cannot be used anyway."""
    try:
        link = path.lstat()
        return path.stat() if link.st_uid in (os.geteuid(), 0) else link
    except OSError:
        return None


def _ours(path: Path) -> bool:
    """Raises OSError."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _replace(temporary: Path, path: Path, record: str | None) -> None:
    """Rename into place. The record comes last: a crash in between leaves a file that counts as damaged."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    if record is not None:
        written = _record(path).with_name(f".{path.name}.{os.getpid()}.sha256")
        written.write_text(record + "\n", "ascii")
        written.chmod(0o644)
        written.replace(_record(path))
