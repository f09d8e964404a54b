"""The action items of a game day: for a tracker, and for a page with boxes to tick."""

from __future__ import annotations

import csv
import io

from harness.model.records.many_runs.gameday import ActionItem, GameDayRecord
from harness.report.sentences import text

COLUMNS = ("action", "owner", "due", "severity", "drill", "retest", "asked_by")


def as_csv(record: GameDayRecord) -> str:
    """RFC 4180; what a spreadsheet would take for a formula is text."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for one in record.actions:
        drill = str(one.drill) if one.drill is not None else ""
        row = (one.text, one.owner, one.due, one.severity or "", drill, one.retest, one.who)
        writer.writerow([text.csv_cell(value) for value in row])
    return out.getvalue()


def as_checklist(record: GameDayRecord) -> str:
    """Markdown with boxes."""
    lines = [f"# Action items: {esc(record.title, 200)}", ""]
    lines += [f"- [ ] {checked(one)}" for one in record.actions] or ["None were written down."]
    return "\n".join(lines) + "\n"


def checked(one: ActionItem) -> str:
    """One line of Markdown."""
    said = f"{esc(one.text)} ({esc(one.owner, 100) if one.owner else 'nobody yet'}"
    said += f", due {esc(one.due, 40)}" if one.due else ", no date"
    said += f", {one.severity})" if one.severity is not None else ")"
    return f"{said}; test again: {text.markdown_code(one.retest, 1000)}" if one.retest else said


def esc(said: str, limit: int = 600) -> str:
    """As Markdown in which nothing is markup, and nobody is called by name."""
    return text.markdown_escape(said, limit).replace("@", "@\u200b")
