"""record.md of a game day: a page for a wiki or a ticket. Outside text cannot become markup, and names nobody."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from harness.model.records.many_runs.gameday import DrillRecord, GameDayRecord, Prerequisite, Said
from harness.report.gameday import sentences as say
from harness.report.gameday.actions import checked, esc
from harness.report.gameday.evidence import Evidence
from harness.report.markdown import table
from harness.report.sentences import text

T = TypeVar("T")

MAX_MOMENTS = 500
MOST = 100
"""Of anything else."""


def render(record: GameDayRecord, by: Evidence) -> str:
    """The whole record, with as much of a long day as a page can have."""
    blocks = [
        f"# {esc(record.title)}",
        f"**{esc(say.headline(record))}** {esc(say.length(record))}",
        "\n".join(f"- {esc(line)}" for line in say.cautions(record)),
        "## Facts\n\n" + "\n".join(f"- {name}: {esc(said)}" for name, said in say.facts(record)),
        _people(record),
        _prerequisites(record),
        "## Drills\n\n" + _drills(record),
        *(_drill(drill, by.link(drill)) for drill in record.drills[:MOST] if drill.begun is not None),
        _actions(record),
        _notes(record),
        _timeline(record),
        f"Made by: {text.markdown_code(record.plan.command, 1000)}",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _people(record: GameDayRecord) -> str:
    return _list("People", list(record.people.items()), lambda one: f"- {esc(one[0], 100)}: {esc(one[1], 40)}")


def _prerequisites(record: GameDayRecord) -> str:
    def said(one: Prerequisite) -> str:
        return f"- [x] {esc(one.text)} ({esc(one.ticked_by, 100)})" if one.ticked_by else f"- [ ] {esc(one.text)}"

    return _list("Prerequisites", record.prerequisites, said)


def _list(title: str, found: Sequence[T], said: Callable[[T], str]) -> str:
    return f"## {title}\n\n{_lines(found, said)}" if found else ""


def _lines(found: Sequence[T], said: Callable[[T], str]) -> str:
    shown = [said(one) for one in found[:MOST]]
    return "\n".join([*shown, *([f"- and {len(found) - MOST:,} more in gameday.json"] if len(found) > MOST else [])])


def _drills(record: GameDayRecord) -> str:
    shown = record.drills[:MOST]
    rows = [
        [
            _name(drill) + (" (blind)" if drill.plan.blind else ""),
            esc(", ".join(drill.plan.faults), 200),
            esc(say.answer(drill)),
            esc(say.recovery(drill)),
            esc(say.noticed(drill)),
            f"{drill.harm:,}" if drill.harm is not None else "",
        ]
        for drill in shown
    ]
    told = table(("Drill", "Fault", "Hypothesis", "Recovery", "Noticed by", "Bad requests"), rows, 5)
    more = len(record.drills) - len(shown)
    told += f"\n\n{more:,} more in gameday.json." if more else ""
    paced = table(
        ("Drill", "Planned begin", "Began", "Pause before it", "Length"),
        [[_name(drill), *map(esc, say.pace(drill))] for drill in shown],
        5,
    )
    return f"{told}\n\nPlanned, and what happened, since the game day began:\n\n{paced}"


def _name(drill: DrillRecord) -> str:
    return f"{drill.plan.number}. {esc(drill.plan.name, 100)}"


def _drill(drill: DrillRecord, link: str) -> str:
    parts = [f"### {_name(drill)}"]
    parts += [f"Hypothesis: {esc(drill.plan.hypothesis)}"] if drill.plan.hypothesis else []
    parts += [esc(say.found(drill))]
    parts += ["\n".join(f"- {esc(reason)}" for reason in drill.reasons[:10])]
    parts += [f"Expected to be seen: {esc(drill.plan.expect)}"] if drill.plan.expect else []
    parts += [_lines(drill.observed, lambda one: f"- Observed by {esc(one.who, 100)}: {esc(one.text)}")]
    parts += ["\n".join(f"- {esc(line)}" for line in say.responders(drill))]
    parts += [_lines(drill.responders.said, lambda one: f"- {esc(say.spoken(one))}")] if drill.responders else []
    parts += [_lines(drill.alerts, lambda line: f"- Alert {esc(line)}")]
    parts += [f"Its own report: [{drill.directory}]({link})"] if link else []
    parts += [f"Again: {text.markdown_code(drill.command, 1000)}"] if drill.command else []
    return "\n\n".join(part for part in parts if part)


def _actions(record: GameDayRecord) -> str:
    listed = _list("Action items", record.actions, lambda one: f"- [ ] {checked(one)}")
    return listed or "## Action items\n\nNone were written down."


def _notes(record: GameDayRecord) -> str:
    def said(one: Said) -> str:
        return f"- {text.clock(one.at)} {esc(one.who, 100)}: {esc(one.text) or '(mark)'}"

    return _list("Notes", record.notes, said)


def _timeline(record: GameDayRecord) -> str:
    rows = [[text.clock(one.at), esc(one.who, 100), esc(one.said)] for one in record.timeline[:MAX_MOMENTS]]
    more = len(record.timeline) - MAX_MOMENTS
    left = f"\n\n{more:,} more in gameday.json." if more > 0 else ""
    return "## Time line\n\n" + table(("At", "Who", "What"), rows, 3) + left if rows else ""
