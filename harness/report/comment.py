"""A suite as a comment on a pull request: new, unknown, fixed, known, in at most 60 lines of Markdown.

Every line begins with words of ours, so that none that carries outside text can be a command to a CI job's runner.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from harness.analysis.suite.age import day_of, owned_words, stale_lines, stale_words
from harness.model.records.many_runs.gate import Finding, GateResult
from harness.model.records.many_runs.suite import ExperimentResult, SuiteResult
from harness.report.sentences import text

MAX_LINES = 60
_SIGNS = {0: "✅", 1: "❌", 3: "❔"}
_MOST = {"New": 12, "Unknown": 6, "Holds now": 6, "Known": 8, "Stale in the base": 2, "Not compared": 4}
"""Lines of each section. With their headings, 4 lines of head and "n more" they are 60."""


def render(suite: SuiteResult, gate: GateResult | None, today: date) -> str:
    """gate: None where nothing has been accepted yet; then what is broken or unknown is listed by itself. today:
    what is stale by then is said."""
    score = suite.score
    counts = f"held {score.held}, broken {score.broken}, unknown {score.unknown + score.not_run}"
    of = f"{counts} of {len(suite.experiments)}; score {int(score.low)}–{-int(-score.high // 1)} of 100"
    sign = _SIGNS.get(suite.exit_code if gate is None else gate.exit_code, "❔")
    said = "no base to compare with" if gate is None else gate.sentence
    old = "".join(f" {_esc(line, 300)}" for line in stale_lines(suite, today)[:3])
    lines = [f"### {sign} Resilience: {said}", "", f"Suite {_esc(suite.name)}: {of}.{old}"]
    if gate is None:
        sections = {
            "Broken": [_experiment(one) for one in suite.experiments if one.outcome == "broken"],
            "Unknown": [_experiment(one) for one in suite.experiments if one.outcome in ("unknown", "not_run")],
        }
    else:
        commands = {one.name: one.command for one in suite.experiments}
        new = [
            _finding(one, commands.get(one.experiment, ""), day_of(gate.day))
            for one in (*gate.new, *gate.worse, *gate.expired)
        ]
        sections = {
            "New": new,
            "Unknown": [_finding(one) for one in gate.unknown],
            "Holds now": [_finding(one) + (": remove it" if one.known else "") for one in gate.fixed],
            "Known": [_finding(one, day=day_of(gate.day)) for one in gate.known],
            "Stale in the base": [_esc(stale_words(one), 500) for one in gate.stale],
            "Not compared": [_esc(one) for one in gate.listed],
        }
    for title, found in sections.items():
        lines += _section(title, found)
    return "\n".join(lines) + "\n"


def _section(title: str, found: Sequence[str]) -> list[str]:
    if not found:
        return []
    most = _MOST.get(title, _MOST["New"])
    more = [f"- {len(found) - most} more"] if len(found) > most else []
    return ["", f"**{title}**", *(f"- {one}" for one in found[:most]), *more]


def _finding(found: Finding, command: str = "", day: date | None = None) -> str:
    what = text.markdown_code(found.request or found.target, 100) if found.request or found.target else "as a whole"
    said = f"{text.markdown_code(found.experiment, 100)}, {what}"
    if found.why:
        said += f": {_esc(found.why)}"
    if found.known is not None:
        ticket = f", {_esc(found.known.ticket, 60)}" if found.known.ticket else ""
        said += f" ({_esc(owned_words(found.known, day), 200)}{ticket})"
    return said + (f"; again: {text.markdown_code(command, 300)}" if command else "")


def _experiment(one: ExperimentResult) -> str:
    shown = one.shown
    said = one.why or (shown.reason if shown is not None else "")
    return f"{text.markdown_code(one.name, 100)}{': ' if said else ''}{_esc(said, 300)}"


def _esc(said: str, limit: int = 200) -> str:
    """Escaped; and a name after @ is not told that it was written of."""
    return text.markdown_escape(said, limit).replace("@", "@\u200b")
