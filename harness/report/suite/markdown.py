"""report.md of a suite: a page for a ticket. Outside text cannot become markup, and names nobody."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date

from harness.analysis.suite.age import day_of, stale, stale_lines
from harness.analysis.suite.isolation import isolation
from harness.model.records.many_runs.gate import GateResult
from harness.model.records.many_runs.suite import SuiteResult
from harness.report.markdown import table
from harness.report.sentences import detection, text
from harness.report.suite import sentences as say
from harness.report.suite.evidence import Evidence
from harness.report.suite.page import REMEDIES, WORDS, first_step
from harness.report.suite.sentences import Weakness

SIGNS = {"held": "✅", "broken": "❌", "unknown": "❔", "not_run": "–"}
ORDER = ("broken", "unknown", "not_run", "held")
HEADS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
MAX_ROWS = 60
MAX_WEAK = 20


def esc(said: str, limit: int = 600) -> str:
    return text.markdown_escape(said, limit).replace("@", "@\u200b")


def render(suite: SuiteResult, gate: GateResult | None, found: Sequence[Weakness], by: Evidence, today: date) -> str:
    css, word = say.verdict(suite)
    facts = say.facts(suite, sum(len(one.attempts) for one in suite.experiments))
    blocks = [
        f"# {HEADS[css]} Resilience: {esc(suite.name, 100)}",
        f"**{word.capitalize()}: {say.headline(suite)}.** {say.interval(suite)}",
        _list([*stale_lines(suite, today), *suite.reasons]),
        f"Against the accepted base: {esc(gate.sentence)}." if gate is not None else "",
        say.nothing_broken(suite),
        _worst(found, by),
        _section("Known weaknesses", say.known(gate, day_of(suite.started))),
        "## Experiments\n\n" + _experiments(suite, by, today) if suite.experiments else "",
        _section("What nobody declared", [line for one in isolation(suite.experiments) for line in say.needs(one)]),
        *(_section(title, lines) for title, lines in (say.changes(gate) if gate is not None else [])),
        _weaknesses(found, gate, by),
        _alerts(suite),
        _section("Left out on purpose", say.excluded(suite), 4000),
        _section("Resets of the target", [said for _, _, said in say.resets(suite)]),
        _section("Warnings", suite.warnings),
        _section("Facts", [f"{name}: {said}" for name, said in facts]),
        f"Again: {text.markdown_code(suite.command, 1000)}",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _list(lines: Iterable[str], limit: int = 600) -> str:
    every = list(lines)
    more = [f"- {len(every) - MAX_ROWS} more in suite.json"] if len(every) > MAX_ROWS else []
    return "\n".join([*(f"- {esc(line, limit)}" for line in every[:MAX_ROWS]), *more])


def _section(title: str, lines: Iterable[str], limit: int = 600) -> str:
    made = _list(lines, limit)
    return f"## {title}\n\n{made}" if made else ""


def _worst(found: Sequence[Weakness], by: Evidence) -> str:
    lines = []
    for number, one in enumerate(found[: say.WORST], 1):
        title, sentence = first_step(by.remedy(one.attempt), by.link(one.attempt))
        first = f"{title}: {sentence}" if sentence else title
        lines.append(f"{number}. {esc(say.what_breaks(one))} {esc(say.how_much(one))} First: {esc(first)}")
    return "\n".join(lines)


def _alerts(suite: SuiteResult) -> str:
    found = say.alerts(suite)
    rows = [
        [esc(text.excerpt(one.name, 80)), *(esc(cell, 300) for cell in detection.cells(alert))]
        for one, _, alert in found[:MAX_ROWS]
    ]
    more = [f"{len(found) - MAX_ROWS} more in suite.json."] if len(found) > MAX_ROWS else []
    made = table(("Experiment", *detection.COLUMNS), rows, 1 + len(detection.COLUMNS))
    return "\n\n".join(["## Did anybody notice?", esc(say.noticed(suite)), made, *more]) if found else ""


def _experiments(suite: SuiteResult, by: Evidence, today: date) -> str:
    rows, old = [], stale(suite, today)
    for one in sorted(suite.experiments, key=lambda each: ORDER.index(each.outcome))[:MAX_ROWS]:
        attempt, link = one.shown, by.link(one.shown)
        word = f"{SIGNS[one.outcome]} {WORDS[one.outcome]}{', stale' if one.name in old else ''}"
        why = say.why_undecided(one) if one.outcome in ("unknown", "not_run") else ""
        rows.append(
            [
                f"[{esc(text.excerpt(one.name, 80))}]({link})" if link else esc(text.excerpt(one.name, 80)),
                word,
                esc(say.recovery(attempt) if attempt is not None else ""),
                esc(why, 200),
                f"{attempt.harm:,}" if attempt is not None and attempt.harm is not None else "",
            ]
        )
    more = len(suite.experiments) - MAX_ROWS
    left = f"\n\n{more} more in suite.json." if more > 0 else ""
    return table(("Experiment", "Outcome", "Recovery", "Why", "Bad requests"), rows, 4) + left


def _weaknesses(found: Sequence[Weakness], gate: GateResult | None, by: Evidence) -> str:
    if not found:
        return ""
    parts = ["## Weaknesses, the worst first"]
    for one in found[:MAX_WEAK]:
        status = say.status(one.experiment.name, gate)
        parts.append(f"### {esc(text.excerpt(one.experiment.name, 80))}{f' ({status})' if status else ''}")
        parts.append(f"{esc(say.what_breaks(one))} {esc(say.how_much(one))}".strip())
        if one.cells:
            rows = [
                [esc(cell.request, 80), f"{cell.bad:,} of {cell.n:,}", f"{cell.failed:,}", esc(cell.target, 80)]
                for cell in one.cells[:20]
            ]
            parts.append(table(("Request", "Bad", "Failed", "Target"), rows))
        advice = by.remedy(one.attempt)[:REMEDIES]
        if advice:
            parts.append("\n".join(f"- **{esc(a.title)}.** {esc(a.seen)} {esc(a.advice, 1000)}" for a in advice))
        if one.experiment.command:
            parts.append(f"Again: {text.markdown_code(one.experiment.command, 600)}")
    if len(found) > MAX_WEAK:
        parts.append(f"{len(found) - MAX_WEAK} more in suite.json.")
    return "\n\n".join(parts)
