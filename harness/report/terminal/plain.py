"""Standard streams on which nothing but text gets through.

A request name, an error message or a file name may hold what a terminal obeys: escapes, control characters, marks that
turn the direction of writing. Whoever prints need not think of it: the stream itself spells them out. Our own colours
and cursor movements are written to `styled(stream)`, by those who have made the text in them visible first.
"""

from __future__ import annotations

import codecs
import io
from typing import TextIO

from harness.report.sentences.text import visible_lines


class PlainStream(io.TextIOWrapper):
    """stream: the one in whose place it stands, with the same buffer. A sign that its encoding lacks is spelt out too.

    declared: its encoding. Where that is ASCII, UTF-8 is written, as click does on a stream that says so.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self.declared = stream.encoding
        encoding = "utf-8" if codecs.lookup(stream.encoding).name == "ascii" else stream.encoding
        stream.flush()
        lines = stream.line_buffering
        super().__init__(
            stream.buffer, encoding=encoding, errors="backslashreplace", line_buffering=lines, write_through=True
        )
        self.styled = io.TextIOWrapper(
            stream.buffer, encoding=encoding, errors="backslashreplace", line_buffering=lines, write_through=True
        )

    def write(self, text: str, /) -> int:
        super().write(visible_lines(text))
        return len(text)


def styled(stream: TextIO) -> TextIO:
    """Where escape codes of ours are written; the stream itself where it lets them through."""
    return stream.styled if isinstance(stream, PlainStream) else stream


def plain(stream: TextIO) -> TextIO:
    """The stream that stands in its place; itself where it is one, or has no bytes below it."""
    if isinstance(stream, PlainStream) or not isinstance(stream, io.TextIOWrapper):
        return stream
    return PlainStream(stream)
