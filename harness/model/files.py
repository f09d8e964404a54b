"""Reading files that somebody else may have made: regular ones only, and never more than a limit.

A name that leads to a device, a pipe or a socket is refused before anything is read from it: `/dev/zero` has no end,
and a pipe waits for a writer.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

from harness.model.errors import UsageError

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: Path, *, links: bool = True) -> BinaryIO:
    """The file, open for reading. links: whether its name may be a symbolic link.

    Raises UsageError for what is no regular file or cannot be read, FileNotFoundError for what is not there.
    """
    try:
        # Without O_NONBLOCK a pipe would be waited for.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW))
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP and not links:
            raise UsageError(f"{path} is a link, not a file", hint="a run directory holds its own files only") from None
        raise cannot_be_read(path, error) from error
    except ValueError as error:  # a zero byte in its name
        raise UsageError(f"{path} cannot be the name of a file") from error
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        raise UsageError(f"{path} is {next((name for is_, name in _KINDS if is_(mode)), 'something else')}, not a file")
    return os.fdopen(number, "rb")


def read_limited(path: Path, limit: int, *, links: bool = True) -> bytes:
    """All of a file of at most `limit` bytes. Raises as open_regular does, and UsageError for a larger one."""
    with open_regular(path, links=links) as file:
        try:
            data = file.read(limit + 1)
        except OSError as error:
            raise cannot_be_read(path, error) from error
    if len(data) > limit:
        raise UsageError(f"{path}: over {limit / 1e6:g} MB, which no such file is")
    return data


def cannot_be_read(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read: {error.strerror or error}")


def replace_file(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Write a file whole or not at all. Where its name is a link the link is replaced, and what it leads to is left
    alone: the folder may be somebody else's. mode: before the umask. Raises OSError."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            file.write(data)
        os.replace(part, path)  # noqa: PTH105  # the promise is os.replace's: atomic on one file system
    except BaseException:
        part.unlink(missing_ok=True)
        raise
