"""Following windows.jsonl while the load writes it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import msgspec

from harness.model.jsonl import MAX_LINE
from harness.model.records.windows import Row

_CHUNK = 1 << 20


class WindowTail:
    """Reads complete rows as they appear; a torn last line waits for its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""
        self._decoder: msgspec.json.Decoder[Row] = msgspec.json.Decoder(Row)

    def poll(self) -> list[Row]:
        """Every row that became complete since the last call. Raises ValueError for a row that does not decode."""
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return []
        rows: list[Row] = []
        while chunk := self._file.read(_CHUNK):
            lines = (self._rest + chunk).split(b"\n")
            self._rest = lines.pop()
            if len(self._rest) > MAX_LINE:
                self.close()
                raise ValueError(f"{self._path.name}: a line of more than {MAX_LINE // 2**20} MB")
            try:
                rows += [self._decoder.decode(line) for line in lines if line]
            except msgspec.MsgspecError as error:
                self.close()
                raise ValueError(f"{self._path.name}: {error}") from error
        return rows

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
