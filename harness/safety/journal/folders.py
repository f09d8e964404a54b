"""Removing the private temporary folders of a run, and nothing else."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from harness.model.errors import Refused
from harness.model.paths import cache_dir, state_dir
from harness.safety.journal.entries import Folder


def describe(path: str) -> Folder:
    """What to remember of a folder to be removed later. Raises Refused for anything that cannot be a temporary one."""
    folder = Path(path)
    try:
        status = folder.lstat()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from None
    _check(folder, status)
    return Folder(path=path, device=status.st_dev, inode=status.st_ino)


def remove(folder: Folder) -> str | None:
    """Remove it. None when it is gone, else a sentence that says what is left. It must be the very one described."""
    path = Path(folder.path)
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        return f"the folder {path!s} cannot be looked at: {getattr(error, 'strerror', None) or error}"
    try:
        _check(path, status)
    except Refused as error:
        return f"not removed: {error}"
    if (status.st_dev, status.st_ino) != (folder.device, folder.inode):
        return None  # that folder is gone; what stands there now is somebody else's
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        shutil.rmtree(path, onerror=_make_writable)
    return f"the folder {path} could not be removed: rm -r {path}" if path.exists() else None


def _make_writable(_function: object, path: str, _error: object) -> None:
    """A read-only folder keeps its files: make its parent ours to write, and try once more."""
    try:
        Path(path).parent.chmod(0o700)
        if Path(path).is_dir() and not Path(path).is_symlink():
            Path(path).chmod(0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            Path(path).unlink()
    except OSError:
        pass


def _check(path: Path, status: os.stat_result) -> None:
    """The path comes from a file: refuse what would hurt if it were wrong."""
    check_path(path)
    if not stat.S_ISDIR(status.st_mode):
        raise Refused(f"{path} is not a folder")
    if status.st_uid != os.geteuid():
        raise Refused(f"{path} belongs to another user (uid {status.st_uid})")


def check_path(path: Path) -> None:
    """Raises Refused for a path that no temporary folder of ours has, whatever stands there."""
    if not path.is_absolute() or ".." in path.parts or len(path.parts) < 3:
        raise Refused(f"{path} is not the full path of a temporary folder")
    try:
        real = path.resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise Refused(f"{path} is no path: {error}") from error
    for keep in (Path.home(), Path.cwd(), state_dir(), cache_dir(), Path(__file__)):
        if keep.resolve().is_relative_to(real):
            raise Refused(f"{path} contains {keep}")


def plausible(path: str) -> bool:
    """Whether it can be the path of a temporary folder of ours, gone or not."""
    try:
        check_path(Path(path))
    except Refused:
        return False
    return True
