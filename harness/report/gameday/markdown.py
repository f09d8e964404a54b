"""record.md of a game day: a page for a wiki or a ticket. Outside text cannot become markup, and names nobody."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.records.many_runs.gameday import DrillRecord, GameDayRecord
from harness.report.gameday import sentences as say
from harness.report.gameday.actions import checked, esc
from harness.report.gameday.evidence import Evidence
from harness.report.markdown import table
from harness.report.sentences import text

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
    return _list("People", [f"- {esc(name, 100)}: {esc(role, 40)}" for name, role in record.people.items()])


def _prerequisites(record: GameDayRecord) -> str:
    lines = [
        f"- [x] {esc(one.text)} ({esc(one.ticked_by, 100)})" if one.ticked_by else f"- [ ] {esc(one.text)}"
        for one in record.prerequisites
    ]
    return _list("Prerequisites", lines)


def _list(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(_cut(lines)) if lines else ""


def _cut(lines: Sequence[str]) -> list[str]:
    return [*lines[:MOST], *([f"- and {len(lines) - MOST:,} more in gameday.json"] if len(lines) > MOST else [])]


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
    parts += ["\n".join(_cut([f"- Observed by {esc(one.who, 100)}: {esc(one.text)}" for one in drill.observed]))]
    said = drill.responders.said if drill.responders is not None else ()
    parts += ["\n".join(_cut([f"- {esc(line)}" for line in (*say.responders(drill), *map(say.spoken, said))]))]
    parts += ["\n".join(_cut([f"- Alert {esc(line)}" for line in drill.alerts]))]
    parts += [f"Its own report: [{drill.directory}]({link})"] if link else []
    parts += [f"Again: {text.markdown_code(drill.command, 1000)}"] if drill.command else []
    return "\n\n".join(part for part in parts if part)


def _actions(record: GameDayRecord) -> str:
    return _list("Action items", [f"- [ ] {checked(one)}" for one in record.actions] or ["None were written down."])


def _notes(record: GameDayRecord) -> str:
    return _list(
        "Notes", [f"- {text.clock(one.at)} {esc(one.who, 100)}: {esc(one.text) or '(mark)'}" for one in record.notes]
    )


def _timeline(record: GameDayRecord) -> str:
    rows = [[text.clock(one.at), esc(one.who, 100), esc(one.said)] for one in record.timeline[:MAX_MOMENTS]]
    more = len(record.timeline) - MAX_MOMENTS
    left = f"\n\n{more:,} more in gameday.json." if more > 0 else ""
    return "## Time line\n\n" + table(("At", "Who", "What"), rows, 3) + left if rows else ""
