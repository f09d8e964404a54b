"""Append-only JSON lines: one object a line, readable while it is written, a torn last line tolerated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def encode_line(value: Any) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def read_lines(path: Path, type_: type[T] | Any) -> Iterator[T]:
    """Decode every complete line. A last line without its newline is ignored (it is being written, or torn).

    Raises ValueError naming file and line when a complete line does not decode.
    """
    decoder = msgspec.json.Decoder(type_)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            if line == b"\n":
                continue
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise ValueError(f"{path.name} line {number}: {error}") from error
