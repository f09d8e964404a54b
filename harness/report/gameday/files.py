"""The record's files in a game day's folder: which form is where, made from what is there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.analysis.gameday.files import read_record, write_record
from harness.model.errors import HarnessError
from harness.model.files import replace_file
from harness.model.jsonl import encode
from harness.model.records.many_runs.gameday import GameDayRecord
from harness.report.gameday import actions, markdown

FORMATS: dict[str, tuple[str, Callable[[GameDayRecord], str]]] = {
    "md": ("record.md", markdown.render),
    "csv": ("actions.csv", actions.as_csv),
    "checklist": ("actions.md", actions.as_checklist),
}
"""Format -> (file, how it is made)."""


def render(folder: Path, format_: str) -> str:
    """One form of the record, made anew. Raises UsageError for a folder that is none, or damaged."""
    record = read_record(folder)
    if format_ == "json":
        return encode(record).decode()
    return FORMATS[format_][1](record)


def write_game_day_reports(folder: Path, say: Callable[[str], None]) -> GameDayRecord | None:
    """gameday.json and all forms of it. What is in the way is said; None where nothing can be made of the folder."""
    try:
        record = read_record(folder)
    except HarnessError as error:
        say(f"the record could not be made: {error}")
        return None
    try:
        write_record(folder, record)
        for name, made in FORMATS.values():
            replace_file(folder / name, made(record).encode("utf-8", "backslashreplace"))
    except OSError as error:
        say(f"the record could not be written: {error.strerror}")
    return record
