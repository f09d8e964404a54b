"""The record's files in a game day's folder: which form is where, made from what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.analysis.gameday.files import write_record
from harness.model.errors import HarnessError, UsageError
from harness.model.files import replace_file
from harness.model.jsonl import encode
from harness.model.records.many_runs.gameday import GameDayRecord
from harness.report.gameday import actions, html, markdown
from harness.report.gameday.evidence import Evidence, read

FORMATS: dict[str, tuple[str, Callable[[GameDayRecord, Evidence], str]]] = {
    "html": ("record.html", html.render),
    "md": ("record.md", markdown.render),
    "csv": ("actions.csv", lambda record, _: actions.as_csv(record)),
    "checklist": ("actions.md", lambda record, _: actions.as_checklist(record)),
}
"""Format -> (file, how it is made)."""


def render(folder: Path, format_: str) -> str:
    """One form of the record, made anew. Raises UsageError for a folder that is none, or damaged."""
    record, by = read(folder)
    if format_ == "json":
        return encode(record).decode()
    return FORMATS[format_][1](record, by)


def write(folder: Path) -> GameDayRecord:
    """gameday.json and all forms of it, made anew. Raises UsageError as `render` does, and where nothing can be written
    to the folder."""
    record, by = read(folder)
    try:
        _write(folder, record, by)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}") from error
    return record


def write_game_day_reports(folder: Path, say: Callable[[str], None]) -> GameDayRecord | None:
    """The same for a day that has just ended: what is in the way is said; None where nothing can be made of it."""
    try:
        record, by = read(folder)
    except HarnessError as error:
        say(f"the record could not be made: {error}")
        return None
    try:
        _write(folder, record, by)
    except OSError as error:
        say(f"the record cannot be written: {error.strerror or error}")
    return record


def _write(folder: Path, record: GameDayRecord, by: Evidence) -> None:
    made = {name: form(record, by).encode("utf-8", "backslashreplace") for name, form in FORMATS.values()}
    write_record(folder, record)
    for name, data in made.items():
        replace_file(folder / name, data)
