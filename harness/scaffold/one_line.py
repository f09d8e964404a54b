"""Lines of a file that is printed for somebody to save: what is in a comment stays in it."""

from __future__ import annotations

from collections.abc import Sequence


def joined(lines: Sequence[str]) -> str:
    """The lines as one text. Whatever would end a line or cannot be seen is spelt out: names and settings in comments
    come from files of others, and the rest of a broken comment would be a setting, of harness.toml even a command."""
    return "\n".join(map(one_line, lines))


def one_line(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in line)
