"""One file of entries that only its owner writes: what the journal of a run and that of its keeper are made of."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from harness.adapters.keeper.protocol import KEEPER_JOURNAL
from harness.model.errors import Refused
from harness.safety.journal.entries import Entry, encode
from harness.safety.journal.private import open_private, sync_folder

JOURNAL = "journal.jsonl"
"""Written by the run."""
KEEPER = KEEPER_JOURNAL
"""Written by the keeper, and by `heal`."""
TORN = b"#torn"
"""Closes off a line that was cut short before the next one is written: it is known, so it is not damage."""


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
        self._full = False

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

    def note(self, entry: Entry, say: Callable[[str], None]) -> None:
        """As `append`, but a full disk is said, once, and stops nothing."""
        try:
            self.append(entry)
        except OSError as error:
            if not self._full:
                say(f"cannot write to {self.path.name}: {error.strerror or error}; going on without")
            self._full = True

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
