"""Append-only JSON lines: one object a line, readable while it is written, a torn last line tolerated."""

from __future__ import annotations

from collections.abc import Iterator
from os import SEEK_END
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from harness.model.files import open_regular

T = TypeVar("T")

MAX_LINE = 16 * 2**20
"""Bytes of one line. Ours have some hundreds to some thousands; one without an end must not fill the memory."""
MAX_FILE = 4 * 2**30
"""Bytes of one file: days of load."""


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


def decoding_error(error: Exception) -> str:
    """What msgspec says of a text; "unexpected" is our word for bugs, and this is none."""
    return str(error).replace("unexpected ", "")


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

    Raises ValueError naming file and line when a complete line does not decode, or is longer than any of ours;
    UsageError for what is no file, is a link, or is larger than any of ours.
    """
    decoder = msgspec.json.Decoder(type_)
    with open_regular(path, links=False) as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) > MAX_LINE:
                    raise ValueError(f"{path.name} line {number}: longer than {MAX_LINE // 2**20} MB")
                return
            if file.tell() > MAX_FILE:
                raise ValueError(f"{path.name} line {number}: the file goes on beyond {MAX_FILE // 2**30} GB")
            if line == b"\n":
                continue
            try:
                yield decoder.decode(line)
            except RecursionError:
                raise ValueError(f"{path.name} line {number}: nested too deeply") from None
            except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
                raise ValueError(f"{path.name} line {number}: {decoding_error(error)}") from error
