"""Append-only JSON lines: one object a line, readable while it is written, a torn last line tolerated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec

from harness.model.errors import UsageError
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


MOST_SAID = 400


def decoding_error(error: Exception) -> str:
    """What msgspec says of a text; "unexpected" is our word for bugs, and this is none."""
    said = str(error).replace("unexpected ", "")
    # It repeats a value that is wrong, however long; what it is and where it stands are at the ends.
    return said if len(said) <= MOST_SAID else f"{said[: MOST_SAID // 2]}...{said[-MOST_SAID // 2 :]}"


@contextmanager
def decodes(path: Path) -> Iterator[None]:
    """What msgspec cannot decode meanwhile is a UsageError that names the file."""
    try:
        yield
    except RecursionError as error:
        raise UsageError(f"{path} is damaged: nested too deeply") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is damaged: {decoding_error(error)}") from error


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


class LineReader(Generic[T]):
    """The complete lines of a file as values, also while it is written: a last line without its newline is torn, or
    waits for its end.

    trouble: what is wrong with a value that decodes, if anything is. since: the byte to begin with, where a line does.
    """

    def __init__(
        self, path: Path, type_: type[T] | Any, trouble: Callable[[T], str | None] = lambda value: None, since: int = 0
    ) -> None:
        self._path = path
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_)
        self._trouble = trouble
        self._since = since
        self._file: BinaryIO | None = None
        self._rest = b""
        self._number = 0

    def poll(self) -> Iterator[T]:
        """Every line that became complete since the last call.

        Raises ValueError naming file and line when one does not decode, is longer than any of ours, or is in trouble;
        UsageError for what is no file, is a link, or is larger than any of ours.
        """
        if self._file is None:
            self._file = open_regular(self._path, links=False)
            self._file.seek(self._since)
        while part := self._file.readline(MAX_LINE + 1 - len(self._rest)):
            line, self._rest = self._rest + part, b""
            if not line.endswith(b"\n"):
                if len(line) > MAX_LINE:
                    raise self._error(f"longer than {MAX_LINE // 2**20} MB", 1)
                self._rest = line
                return
            self._number += 1
            if self._file.tell() > MAX_FILE:
                raise self._error(f"the file goes on beyond {MAX_FILE // 2**30} GB")
            if line == b"\n":
                continue
            try:
                value = self._decoder.decode(line)
            except RecursionError:
                raise self._error("nested too deeply") from None
            except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError) as error:
                raise self._error(decoding_error(error)) from error
            if (wrong := self._trouble(value)) is not None:
                raise self._error(wrong)
            yield value

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _error(self, what: str, ahead: int = 0) -> ValueError:
        return ValueError(f"{self._path.name} line {self._number + ahead}: {what}")


def read_lines(
    path: Path, type_: type[T] | Any, trouble: Callable[[T], str | None] = lambda value: None
) -> Iterator[T]:
    """Every complete line of a file; raises what LineReader does."""
    with closing(LineReader(path, type_, trouble)) as lines:
        yield from lines.poll()
