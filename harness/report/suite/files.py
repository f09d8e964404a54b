"""The reports of a suite's folder: which form is in which file, made from what is there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

from harness.analysis.suite.suite_file import MAX_BYTES, SUITE, read_gate, read_suite
from harness.model.errors import HarnessError
from harness.model.files import read_limited, replace_file
from harness.report.files import FORMATS


def is_suite(folder: Path) -> bool:
    return (folder / SUITE).is_file()


def render(suite_dir: Path, format_: str, today: date) -> str:
    """One report as text. Raises UsageError for a damaged suite.json or gate.json; of an experiment's result that
    cannot be read only the advice is missing. today: what is stale by then is marked."""
    suite = read_suite(suite_dir)
    if format_ == "json":
        return read_limited(suite_dir / SUITE, MAX_BYTES, links=False).decode("utf-8")
    from harness.report.suite import html, junit, markdown
    from harness.report.suite.evidence import evidence
    from harness.report.suite.sentences import weaknesses

    gate, found = read_gate(suite_dir), weaknesses(suite)
    by = evidence(suite_dir, suite, found)
    made = {"html": html.render, "md": markdown.render, "junit": junit.render}[format_]
    return made(suite, gate, found, by, today)


def write_suite_reports(suite_dir: Path, say: Callable[[str], None], today: date) -> None:
    """report.html, report.md and junit.xml beside suite.json. What is in the way is said: the suite has its result."""
    for format_ in ("html", "md", "junit"):
        name = FORMATS[format_]
        try:
            replace_file(suite_dir / name, render(suite_dir, format_, today).encode("utf-8", "backslashreplace"))
        except HarnessError as error:
            say(f"{name} could not be made: {error}")
        except OSError as error:
            say(f"{name} could not be written: {error.strerror}")
