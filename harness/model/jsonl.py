"""Append-only JSON lines: one object a line, readable while it is written, a torn last line tolerated."""

from __future__ import annotations

from collections.abc import Iterator
from os import SEEK_END
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


def encode(value: Any) -> bytes:
    """JSON. Half a surrogate pair (a file name or a foreign message that is no UTF-8) is spelt out, never an error:
    a record must not fail because of what it tells."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_spelt(msgspec.to_builtins(value)))


def encode_line(value: Any) -> bytes:
    return encode(value) + b"\n"


def append_line(path: Path, line: bytes) -> None:
    """Append one whole line, or raise OSError: what a full disk cut short is taken back, so that the lines after it
    can still be read."""
    with path.open("ab", buffering=0) as file:
        end = file.seek(0, SEEK_END)
        written = 0
        try:
            while written < len(line):
                written += file.write(line[written:])
        except OSError:
            file.truncate(end)
            raise


def _spelt(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {_spelt(key): _spelt(part) for key, part in value.items()}
        case list() | tuple():
            return [_spelt(part) for part in value]
        case _:
            return value


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
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise ValueError(f"{path.name} line {number}: {error}") from error
