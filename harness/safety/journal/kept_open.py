"""A journal that stays readable after somebody has deleted it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from harness.safety.journal.log import JOURNAL, KEEPER
from harness.safety.journal.private import open_private
from harness.safety.journal.view import JournalView, merge, parse


class KeptJournal:
    """Both files of a state folder, held open from the first look: deleting the folder does not stop an undo."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, int] = {}

    def read(self) -> JournalView:
        """As `read_journal`, also after the folder was deleted. Raises Refused, OSError."""
        damage: list[str] = []
        found = []
        for name in (JOURNAL, KEEPER):
            if name not in self._files:
                with suppress(FileNotFoundError):
                    self._files[name] = open_private(self._folder / name, os.O_RDONLY)
            fd = self._files.get(name)
            found.append([] if fd is None else parse(name, os.pread(fd, os.fstat(fd).st_size, 0), damage))
        return merge(self._folder, found[0], found[1], damage)
