"""What is said of a game day and of its drills, from the record alone. Every sentence has a condition."""

from __future__ import annotations

from harness.model.records.many_runs.gameday import Answer, DrillRecord, GameDayRecord, Responders
from harness.model.units import format_duration

ANSWERS: dict[Answer, str] = {
    "confirmed": "confirmed: every primary target was held",
    "refuted": "refuted: a primary target was broken",
    "not decided": "not decided",
}


def headline(record: GameDayRecord) -> str:
    """`4 drills: confirmed 2, refuted 1, not decided 0; aborted 1.`"""
    done = [drill for drill in record.drills if drill.status == "done"]
    counts = [f"{word} {sum(drill.answer == word for drill in done)}" for word in ANSWERS]
    unknown = sum(drill.answer is None for drill in done)
    counts += [f"without a result {unknown}"] if unknown else []
    for status in ("aborted", "skipped", "not_run"):
        many = sum(drill.status == status for drill in record.drills)
        counts += [f"{status.replace('_', ' ')} {many}"] if many else []
    many = len(record.drills)
    return f"{many} drill{'' if many == 1 else 's'}: {', '.join(counts)}."


def length(record: GameDayRecord) -> str:
    bad = f"{record.harm:,} bad request{'' if record.harm == 1 else 's'}"
    return f"{format_duration(round(record.seconds))}; {bad} in all, beyond what was usual before."


def cautions(record: GameDayRecord) -> list[str]:
    """What a reader must know before he believes the rest."""
    found = []
    if not record.complete:
        found.append(
            "The game day was not closed in order: what came after the last line of its time line is not known."
        )
    if record.abort_tried is None and any(drill.status in ("done", "aborted") for drill in record.drills):
        found.append("The abort was not tried before the first drill.")
    if open_ := [one.text for one in record.prerequisites if not one.ticked_by]:
        found.append(f"{len(open_)} of {len(record.prerequisites)} prerequisites were not ticked: {'; '.join(open_)}")
    left = [drill for drill in record.drills if drill.undone is False]
    found += [f"The undo of drill {drill.plan.number} could not be verified." for drill in left]
    return found


def facts(record: GameDayRecord) -> list[tuple[str, str]]:
    plan = record.plan
    load = f"{plan.rate:,g} requests a second" if plan.rate is not None else f"{plan.users:,} users"
    tried, share = "not tried", 100 * record.filled.by_harness
    if record.abort_tried is not None:
        tried = f"tried at {format_duration(round(record.abort_tried, 1))}"
    version = f", version {plan.target_version}" if plan.target_version else ""
    return [
        ("Began", record.started),
        ("Target", f"{plan.target_url} ({plan.stack}){version}"),
        ("Load", f"scenario {plan.scenario}, {load}"),
        ("Abort", tried),
        ("Filled in", f"{share:.0f}% of the fields by the harness, {record.filled.empty} empty"),
        ("Made with", f"harness {plan.harness} on {plan.machine}"),
    ]


def answer(drill: DrillRecord) -> str:
    if drill.status == "done":
        return drill.answer or drill.why
    return drill.why or drill.status.replace("_", " ")


def recovery(drill: DrillRecord) -> str:
    match drill.recovery:
        case "recovered" if drill.recovery_s is not None:
            return f"recovered after {format_duration(round(drill.recovery_s, 1))}"
        case None:
            return ""
        case _:
            return drill.recovery.replace("_", " ")


def found(drill: DrillRecord) -> str:
    """What was found, in a sentence or two."""
    if drill.answer is None:
        return f"No result: {drill.why}." if drill.why else "No result."
    said = (
        f"The hypothesis was {ANSWERS[drill.answer]}."
        if drill.status == "done"
        else f"{drill.why[:1].upper()}{drill.why[1:]}."
    )
    if drill.proven is False:
        said += " The fault was not proven."
    if drill.impact_s is not None:
        said += f" Users were hurt {format_duration(round(max(0.0, drill.impact_s), 1))} after the injection."
    if (back := recovery(drill)) and drill.recovery != "no_impact":
        said += f" It {back}." if drill.recovery == "recovered" else f" Recovery: {back}."
    return said


def responders(drill: DrillRecord) -> list[str]:
    """Of those who had to find out: how long it took, and what they said."""
    found = drill.responders
    if found is None:
        return []
    since = "the impact began" if found.counted_from == "impact" else "the injection: nobody was hurt"
    lines = [
        _took("Noticed", found.noticed_s, since, "Nobody said that something was wrong."),
        _took("Diagnosed rightly", found.diagnosed_s, since, "Nobody named what was broken."),
        _well(found),
    ]
    for one in found.said:
        judged = {True: " (right)", False: " (it was something else)", None: ""}[one.right]
        lines.append(f'{one.who}, {one.since_s:+.1f} s: "{one.text or "mitigated"}"{judged}')
    return [line for line in lines if line]


def _took(what: str, seconds: float | None, since: str, never: str) -> str:
    return f"{what} {format_duration(seconds)} after {since}." if seconds is not None else never


def _well(found: Responders) -> str:
    if found.counted_from == "injection":
        return ""
    if found.mitigated_s is None:
        return "When the service was well again is not known."
    return f"The service was well again {format_duration(found.mitigated_s)} after the impact began, as measured."
