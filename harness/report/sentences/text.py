"""Outside text made safe for each place it is shown in, and numbers as people read them.

Request names, error messages and notes come from the system under test: their control characters are made
visible (safety rules), and they are escaped for HTML, Markdown, XML and CSV. Escaping comes
last: `visible` first, then the one for the place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.model import units

if TYPE_CHECKING:
    from harness.model.records.metrics import Unit

UNKNOWN = "n/a"
"""What a value that is not known looks like; never a zero."""

_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

_COMMAND = re.compile(r"#(?=#[\w.-]*\[)|:(?=:[A-Za-z][\w-]*(?: [^\n]*?)?::)")
"""What the runner of a CI job obeys wherever it stands in a log: `##vso[...]` (Azure), `##[...]` and `::name ...::`
(GitHub), `##teamcity[...]`. Its first character is spelt out."""


def visible(text: str, limit: int = 200) -> str:
    """Text on one line with every control, format and unassigned character and every command to a CI job's runner
    spelt out, cut after `limit`.

    A line feed becomes `\\n`, an escape `\\x1b`, a right-to-left override `\\u202e`. A cut shows how much is missing;
    nothing is cut that is no longer than the words for that.
    """
    missing = f"... ({len(text) - limit:,} more characters)"
    if len(text) <= limit + len(missing):
        limit, missing = len(text), ""
    cut = text[:limit]
    shown = "".join(_spell(c) if unicodedata.category(c) in _INVISIBLE else c for c in cut)
    return without_commands(shown) + missing


def without_commands(text: str) -> str:
    """One line without a command to a CI job's runner: two harmless texts may make one together."""
    return _COMMAND.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _spell(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def visible_lines(text: str) -> str:
    """The same for text of many lines, of any length: line feeds and tabs stay.

    What is spelt out is spelt as JSON does, so that a printed JSON text keeps its meaning.
    """
    text = _COMMAND.sub(lambda found: _spell_json(found[0]), text)
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _INVISIBLE else _spell_json(c) for c in text)


def _spell_json(char: str) -> str:
    if char < " ":
        return _spell(char)
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def markdown_escape(text: str, limit: int = 200) -> str:
    """For Markdown prose and table cells: nothing in it can start markup, a link, a cell or HTML."""
    special = "\\`*_[]<>#|~&"
    escaped = "".join("\\" + c if c in special else c for c in visible(text, limit))
    # GitHub makes a link of either where it stands.
    return escaped.replace("://", ":\\//").replace("www.", "www\\.")


def markdown_code(text: str, limit: int = 200) -> str:
    """As inline code in Markdown, also inside a table cell (where a pipe still ends the cell)."""
    shown = visible(text, limit).replace("|", "\\|")
    fence = "`"
    while fence in shown:
        fence += "`"
    pad = " " if shown.startswith("`") or shown.endswith("`") or not shown.strip() else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def xml_clean(text: str, limit: int = 2000) -> str:
    """For XML 1.0, which has no way to write most control characters: they are spelt out. Not yet escaped."""
    return "\n".join(visible(line, limit) for line in text.split("\n"))


def csv_cell(text: str, limit: int = 1000) -> str:
    """A value of CSV that no spreadsheet takes for a formula (OWASP: CSV injection)."""
    shown = visible(text, limit)
    return f"'{shown}" if shown[:1] in tuple("=+-@") else shown


def shorten(text: str, width: int) -> str:
    """At most `width` characters, the middle left out: both ends of a path tell more than one."""
    if len(text) <= width or width < 8:
        return text[:width]
    head = (width - 3) * 2 // 3
    return f"{text[:head]}...{text[len(text) - (width - 3 - head) :]}"


def excerpt(text: str, width: int) -> str:
    """Outside text on one line, the middle left out where it is too long: the cause of an error is often at its end."""
    return shorten(visible(text, 4000), width)


def _known(shown: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: UNKNOWN if value is None else shown(value)


ms = _known(units.format_ms)
"""A latency in milliseconds: 0.42ms, 41ms, 1.24s."""
percent = _known(units.format_percent)
"""A proportion. Never 0% for something that is not nothing, never 100% for something that is not all."""
rps = _known(units.format_rps)
"""Requests per second."""
seconds = _known(units.format_duration)
"""A length of time: 0s, 50ms, 1.3s, 1m12s."""
moment = _known("{:.1f}s".format)
"""A moment with a tenth of a second: `at 24.1s`."""
count = _known("{:,}".format)
size = _known(units.format_bytes)
number = _known(lambda value: f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}")
"""A bare number: up to four significant digits, thousands separated."""


def clock(value: float | None) -> str:
    """A moment since the load began, as minutes and seconds: 0:07, 1:23, 1:02:03."""
    if value is None:
        return UNKNOWN
    sign, whole = ("-", -value) if value < 0 else ("", value)
    total = int(whole)
    if total < 3600:
        return f"{sign}{total // 60}:{total % 60:02d}"
    return f"{sign}{total // 3600}:{total % 3600 // 60:02d}:{total % 60:02d}"


def in_unit(value: float | None, unit: Unit) -> str:
    """A target's value in its own unit."""
    from harness.model.target_grammar import format_value  # every command imports this file, --help too

    return number(value) if value is None or unit == "number" else format_value(value, unit)


def limit_in_unit(value: float, unit: Unit) -> str:
    """A limit as a person would type it: 200ms, 1%, 30s, 95."""
    match unit:
        case "ms":
            return f"{value:g}ms" if value < 10_000 else f"{value / 1000:g}s"
        case "proportion":
            return f"{value * 100:.6g}%"
        case "s":
            return f"{value:g}s"
        case "per_h":
            return f"{value * 100:.6g}%/h"
        case _:
            return f"{value:,g}"


def when(iso: str | None) -> str:
    """A wall time for people: `23 Nov 2026, 16:01:00 UTC`. What does not read as a time is shown as it is."""
    if iso is None:
        return UNKNOWN
    try:
        at = datetime.fromisoformat(iso.replace("Z", "+00:00")).astimezone(UTC)
    except ValueError:
        return visible(iso, 40)
    return f"{at.day} {at:%b %Y, %H:%M:%S} UTC"
