"""The cache of fetched and built files: made once, checked before every use, never seen half made.

file            the thing itself, renamed into place when it is complete
file.sha256     its SHA-256, recorded when it was made (where no committed hash says what it must be)
file.lock       held while somebody makes it
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.model.errors import SetupError
from harness.model.stack import Progress

Make = Callable[[Path], None]
"""Writes the complete file to the given temporary path."""

LOCK_LIMIT_S = 900.0


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_intact(path: Path, sha256: str | None = None) -> bool:
    """The file is there and has the hash: the given one, else the one recorded when it was made."""
    try:
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
    once. Raises SetupError: cache not writable, still wrong the second time, or whatever `make` raises.
    """
    if is_intact(path, sha256):
        return path
    with locked(path, title=title, progress=progress):
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
                if executable:
                    temporary.chmod(0o755)
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
def locked(path: Path, *, title: str, progress: Progress, limit_s: float = LOCK_LIMIT_S) -> Iterator[None]:
    """Hold `path.lock`. The lock goes with the process, so a killed one blocks nobody.

    Raises SetupError when the cache cannot be written, or another process held it for `limit_s`.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
        written.replace(_record(path))
