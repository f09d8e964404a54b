"""What a suite found as annotations of a GitHub workflow: commands to its runner, one a line.

All that is in a command but its message is ours, and no message can begin another one: text from outside has no line
feeds and nothing left that a runner obeys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from harness.model.records.many_runs.gate import Finding, GateResult
from harness.model.records.many_runs.suite import SuiteResult
from harness.report.sentences.text import visible, without_commands

Kind = Literal["error", "warning", "notice"]
MOST = 9
"""Of a kind in a step GitHub shows ten, and drops the others without a word."""


def annotations_of(suite: SuiteResult, gate: GateResult | None) -> list[str]:
    """`::error title=Newly broken::redis-down, POST /checkout: ...`. gate: None where nothing has been accepted yet:
    then what is broken or unknown is told by itself."""
    found = list(_of_suite(suite) if gate is None else _of_gate(gate))
    lines = []
    for kind in ("error", "warning", "notice"):
        those = [(title, text) for each, title, text in found if each == kind]
        lines += [_command(kind, title, text) for title, text in those[:MOST]]
        if len(those) > MOST:
            lines.append(_command(kind, "Resilience", f"{len(those) - MOST} more"))
    return lines


def _of_gate(gate: GateResult) -> Iterator[tuple[Kind, str, str]]:
    for one in gate.new:
        yield "error", "Newly broken", _finding(one)
    for one in gate.worse:
        yield "error", "Worse than accepted", _finding(one)
    for one in gate.expired:
        yield "error", "Known weakness past its day", _finding(one)
    for one in gate.unknown:
        yield "warning", "Unknown", _finding(one)
    for one in gate.fixed:
        yield "notice", "Holds now", _finding(one) + (": remove it from the known ones" if one.known else "")


def _of_suite(suite: SuiteResult) -> Iterator[tuple[Kind, str, str]]:
    for one in suite.experiments:
        said = one.why or (one.shown.reason if one.shown is not None else "")
        text = f"{visible(one.name, 100)}{': ' if said else ''}{visible(said, 300)}"
        match one.outcome:
            case "broken":
                yield "error", "Broken", text
            case "unknown":
                yield "warning", "Unknown", text
            case "not_run":
                yield "warning", "Not run", text


def _finding(one: Finding) -> str:
    what = visible(one.request or one.target, 100) or "as a whole"
    return f"{visible(one.experiment, 100)}, {what}{': ' if one.why else ''}{visible(one.why, 300)}"


def _command(kind: str, title: str, text: str) -> str:
    return f"::{kind} title={title}::{without_commands(text).replace('%', '%25')}"
