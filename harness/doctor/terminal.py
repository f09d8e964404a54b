"""The diagnosis on a terminal: by part, each line with its word, its evidence and its remedy."""

from __future__ import annotations

import textwrap

from harness.doctor.diagnosis import CANNOT, Diagnosis, DiagnosisLine
from harness.model.redact import redact
from harness.report.sentences.text import visible

_COLOURS = {"ok": "32", "warn": "33", "off": "2", "fail": "31"}
_MARGIN = 8
LEAST_WIDTH = 40
MOST = 1000


def text(found: Diagnosis, *, width: int = 80, colour: bool = False) -> str:
    width = max(LEAST_WIDTH, width)
    declared = f"declared in {found.config}" if found.config is not None else "known by its URL alone"
    lines = _wrapped(f"{found.target}, {declared}", width, "", "")
    by_part: dict[str, list[DiagnosisLine]] = {}
    for line in found.lines:
        by_part.setdefault(line.about, []).append(line)
    for about, of_part in by_part.items():
        lines += ["", _shown(about)]
        for line in of_part:
            lines += _told(line, width, colour)
    return "\n".join([*lines, "", *_wrapped(conclusion(found), width, "", "")])


def conclusion(found: Diagnosis) -> str:
    """One sentence, and the exit code."""
    code = found.exit_code
    failed = sum(line.exit_code == code for line in found.lines)
    lines = f"{failed} line{'' if failed == 1 else 's'} marked fail say{'s' if failed == 1 else ''} why"
    if code == 0:
        return "Nothing was found that would keep a run from beginning or from meaning something (exit code 0)."
    if code == CANNOT:
        return f"A run is refused or cannot begin: {lines} (exit code {code})."
    return f"A run would begin, and would not mean anything: {lines} (exit code {code})."


def _told(line: DiagnosisLine, width: int, colour: bool) -> list[str]:
    word = f"{line.state:<4}"
    found = _wrapped(line.fact, width, "  " + word + "  ", " " * _MARGIN)
    if colour and found:
        found[0] = found[0].replace(word, f"\x1b[{_COLOURS[line.state]}m{word}\x1b[0m", 1)
    found += _wrapped(line.evidence, width, " " * _MARGIN, " " * _MARGIN)
    return found + _wrapped(line.remedy, width, " " * _MARGIN + "-> ", " " * (_MARGIN + 3))


def _wrapped(said: str, width: int, first: str, rest: str) -> list[str]:
    """A command stays whole: it is to be copied."""
    return textwrap.wrap(
        _shown(said),
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _shown(said: str) -> str:
    return visible(redact(said), MOST)
