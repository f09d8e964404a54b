"""Files that only their owner may write: a journal is read back as instructions, so nobody else may write it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from harness.model.errors import Refused, SetupError


def private_folder(path: Path) -> Path:
    """Make the folder (0700) where it is missing; raises Refused when others own it or may write in it."""
    try:
        # One by one: `parents=True` makes those above it with whatever the umask leaves, for a group to write perhaps.
        for folder in [*reversed(path.parents), path]:
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SetupError(f"cannot make the folder {path}: {error.strerror or error}") from error
    check_private(path, os.lstat(path), folder=True)
    return path


def check_private(path: Path, status: os.stat_result, *, folder: bool = False) -> None:
    """Raises Refused when it is not a plain file (or folder) of ours, or when others may write to it."""
    right_kind = stat.S_ISDIR(status.st_mode) if folder else stat.S_ISREG(status.st_mode)
    if not right_kind:
        raise Refused(f"{path} is not a plain {'folder' if folder else 'file'}", hint="remove it")
    if status.st_uid != os.geteuid():
        raise Refused(f"{path} belongs to another user (uid {status.st_uid})", hint="run it as that user")
    if status.st_mode & 0o022:
        raise Refused(
            f"{path} may be written by others (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"look into it, then: chmod go-w {path}",
        )


def open_private(path: Path, flags: int) -> int:
    """Open our own file (made 0600), following no symbolic link; close-on-exec. Raises Refused, OSError."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        check_private(path, os.fstat(fd))
    except BaseException:
        os.close(fd)
        raise
    return fd


def sync_folder(path: Path) -> None:
    """fsync a folder, so that a new file in it survives a crash. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
