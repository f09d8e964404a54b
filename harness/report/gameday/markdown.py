"""record.md of a game day: a page for a wiki or a ticket. Outside text cannot become markup, and names nobody."""

from __future__ import annotations

from harness.model.records.many_runs.gameday import DrillRecord, GameDayRecord
from harness.report.gameday import sentences as say
from harness.report.gameday.actions import checked
from harness.report.markdown import table
from harness.report.sentences import text

MAX_MOMENTS = 500


def esc(said: str, limit: int = 600) -> str:
    return text.markdown_escape(said, limit).replace("@", "@\u200b")


def render(record: GameDayRecord) -> str:
    """The whole record."""
    blocks = [
        f"# {esc(record.title)}",
        f"**{esc(say.headline(record))}** {esc(say.length(record))}",
        "\n".join(f"- {esc(line)}" for line in say.cautions(record)),
        "## Facts\n\n" + "\n".join(f"- {name}: {esc(said)}" for name, said in say.facts(record)),
        _people(record),
        _prerequisites(record),
        "## Drills\n\n" + _drills(record),
        *(_drill(drill) for drill in record.drills if drill.status in ("done", "aborted")),
        _actions(record),
        _notes(record),
        _timeline(record),
        f"Made by: {text.markdown_code(record.plan.command, 1000)}",
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _people(record: GameDayRecord) -> str:
    if not record.people:
        return ""
    return "## People\n\n" + "\n".join(f"- {esc(name, 100)}: {esc(role, 40)}" for name, role in record.people.items())


def _prerequisites(record: GameDayRecord) -> str:
    if not record.prerequisites:
        return ""
    lines = [
        f"- [x] {esc(one.text)} ({esc(one.ticked_by, 100)})" if one.ticked_by else f"- [ ] {esc(one.text)}"
        for one in record.prerequisites
    ]
    return "## Prerequisites\n\n" + "\n".join(lines)


def _drills(record: GameDayRecord) -> str:
    rows = [
        [
            f"{drill.plan.number}. {esc(drill.plan.name, 100)}" + (" (blind)" if drill.plan.blind else ""),
            esc(", ".join(drill.plan.faults), 200),
            esc(say.answer(drill)),
            esc(say.recovery(drill)),
            f"{drill.harm:,}" if drill.harm is not None else "",
        ]
        for drill in record.drills
    ]
    return table(("Drill", "Fault", "Hypothesis", "Recovery", "Bad requests"), rows, 4)


def _drill(drill: DrillRecord) -> str:
    parts = [f"### {drill.plan.number}. {esc(drill.plan.name, 100)}"]
    parts += [f"Hypothesis: {esc(drill.plan.hypothesis)}"] if drill.plan.hypothesis else []
    parts += [esc(say.found(drill))]
    parts += ["\n".join(f"- {esc(reason)}" for reason in drill.reasons)] if drill.reasons else []
    parts += [f"Expected to be seen: {esc(drill.plan.expect)}"] if drill.plan.expect else []
    parts += ["\n".join(f"- Observed by {esc(one.who, 100)}: {esc(one.text)}" for one in drill.observed)]
    parts += ["\n".join(f"- {esc(line)}" for line in say.responders(drill))]
    parts += ["\n".join(f"- Alert {esc(line)}" for line in drill.alerts)]
    parts += [f"Record: [{drill.directory}]({drill.directory}/report.html)"] if drill.directory else []
    parts += [f"Again: {text.markdown_code(drill.command, 1000)}"] if drill.command else []
    return "\n\n".join(part for part in parts if part)


def _actions(record: GameDayRecord) -> str:
    lines = [f"- [ ] {checked(one)}" for one in record.actions] or ["None were written down."]
    return "## Action items\n\n" + "\n".join(lines)


def _notes(record: GameDayRecord) -> str:
    lines = [f"- {text.clock(one.at)} {esc(one.who, 100)}: {esc(one.text) or '(mark)'}" for one in record.notes]
    return "## Notes\n\n" + "\n".join(lines) if lines else ""


def _timeline(record: GameDayRecord) -> str:
    rows = [[text.clock(one.at), esc(one.who, 100), esc(one.said)] for one in record.timeline[:MAX_MOMENTS]]
    more = len(record.timeline) - MAX_MOMENTS
    left = f"\n\n{more} more in gameday.json." if more > 0 else ""
    return "## Time line\n\n" + table(("At", "Who", "What"), rows, 3) + left if rows else ""
