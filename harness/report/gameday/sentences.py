"""What is said of a game day and of its drills, from the record alone. Every sentence has a condition."""

from __future__ import annotations

from harness.model.records.many_runs.gameday import ActKind, Answer, DrillRecord, GameDayRecord, Responders, Said
from harness.model.units import format_duration
from harness.report.sentences import text

ANSWERS: dict[Answer, str] = {
    "confirmed": "every primary target was held",
    "refuted": "a primary target was broken",
    "not decided": "it cannot be told whether every primary target was held",
}
MOST_NAMED = 3
"""Prerequisites in a caution."""
MOST_NUMBERS = 20
"""Of drills in one."""


def headline(record: GameDayRecord) -> str:
    """`4 drills: confirmed 2, refuted 1, not decided 0; aborted 1.`"""
    done = [drill for drill in record.drills if drill.status == "done"]
    counts = [f"{word} {sum(drill.answer == word for drill in done)}" for word in ANSWERS]
    unknown = sum(drill.answer is None for drill in done)
    counts += [f"without a result {unknown}"] if unknown else []
    for status in ("aborted", "cut_off", "skipped", "not_run"):
        many = sum(drill.status == status for drill in record.drills)
        counts += [f"{status.replace('_', ' ')} {many}"] if many else []
    return f"{_many(len(record.drills), 'drill')}: {', '.join(counts)}."


def length(record: GameDayRecord) -> str:
    """How long it took, and how many were hurt: of all drills only where they could be counted in all."""
    begun = [drill for drill in record.drills if drill.begun is not None]
    # Without a result it is not known whether anything was injected.
    hurting = [drill for drill in begun if drill.proven is not None or drill.verdict is None]
    counted = [drill for drill in hurting if drill.harm is not None]
    said = f"{format_duration(round(record.seconds))}"
    if not hurting:
        return f"{said}; nothing was injected."
    if not counted:
        return f"{said}; bad requests could not be counted."
    bad = f"{_many(record.harm, 'bad request')} beyond what was usual before"
    where = "in all" if len(counted) == len(hurting) else f"counted in {len(counted)} of {_many(len(hurting), 'drill')}"
    return f"{said}; {bad}, {where}."


def cautions(record: GameDayRecord) -> list[str]:
    """What a reader must know before he believes the rest."""
    found = []
    if not record.complete:
        found.append(
            "The game day was not closed in order: what came after the last line of its time line is not known."
        )
    begun = [drill for drill in record.drills if drill.begun is not None]
    if record.abort_tried is None and begun:
        found.append("The abort was not tried before the first drill.")
    if open_ := [one.text for one in record.prerequisites if not one.ticked_by]:
        more = f"; and {len(open_) - MOST_NAMED} more" if len(open_) > MOST_NAMED else ""
        named = "; ".join(text.excerpt(one, 120) for one in open_[:MOST_NAMED])
        found.append(f"{len(open_)} of {_many(len(record.prerequisites), 'prerequisite')} not ticked: {named}{more}.")
    if left := [one for one in begun if one.undone is False]:
        found.append(f"Undo not verified: {_numbers(left)}.")
    if unproven := [one for one in begun if one.proven is False]:
        found.append(f"Fault not proven: {_numbers(unproven)}.")
    if endless := [one for one in begun if one.ended is None]:
        found.append(f"No end on record: {_numbers(endless)}.")
    return found


def _numbers(drills: list[DrillRecord]) -> str:
    shown = ", ".join(str(one.plan.number) for one in drills[:MOST_NUMBERS])
    more = f" and {len(drills) - MOST_NUMBERS:,} more" if len(drills) > MOST_NUMBERS else ""
    return f"drill{'s' if len(drills) > 1 else ''} {shown}{more}"


def facts(record: GameDayRecord) -> list[tuple[str, str]]:
    plan = record.plan
    load = f"{plan.rate:,g} requests a second" if plan.rate is not None else f"{plan.users:,} users"
    tried, share = "not tried before the first drill", 100 * record.filled.by_harness
    if record.abort_tried is not None:
        tried = f"tried at {text.clock(record.abort_tried)}, before the first drill"
    version = f", version {plan.target_version}" if plan.target_version else ""
    return [
        ("Began", text.when(record.started)),
        ("Target", f"{plan.target_url} ({plan.stack}){version}"),
        ("Load", f"scenario {plan.scenario}, {load}"),
        ("Abort", tried),
        ("Filled in", f"{share:.0f}% of the fields by the harness, {record.filled.empty} empty"),
        ("Made with", f"harness {plan.harness} on {plan.machine}"),
    ]


def outcome(drill: DrillRecord) -> str:
    """A word or two: confirmed, refuted, not decided, aborted, cut off, skipped, not run, no result."""
    if drill.status == "done":
        return drill.answer or "no result"
    return drill.status.replace("_", " ")


def answer(drill: DrillRecord) -> str:
    """The same with its reason, where it has one."""
    if drill.status == "aborted" and drill.answer == "refuted":
        return f"{drill.why}; {drill.answer}"
    return drill.why or outcome(drill)


def recovery(drill: DrillRecord) -> str:
    match drill.recovery:
        case "recovered" if drill.recovery_s is not None:
            return f"recovered after {format_duration(round(drill.recovery_s, 1))}"
        case None:
            return ""
        case "no_impact":
            return "nothing to recover from"
        case _:
            return drill.recovery.replace("_", " ")


def found(drill: DrillRecord) -> str:
    """What was found, in a sentence or two."""
    said = [f"{drill.why[:1].upper()}{drill.why[1:]}."] if drill.why else []
    if drill.answer is None:
        return " ".join([*said, "There is no result."])
    # What an abort cut short is undecided because of it: only what was broken by then is worth a word.
    if drill.status == "done" or drill.answer == "refuted":
        held = ANSWERS[drill.answer]
        if drill.plan.hypothesis:
            said.append(f"The hypothesis was {drill.answer}: {held}.")
        else:
            said.append(f"No hypothesis was written down; {held}.")
    if drill.proven is None:
        said.append("Nothing was injected.")
    if drill.proven is False:
        said.append("The fault was not proven.")
    if drill.mended_s is not None:
        said.append(f"People had ended the fault by hand {format_duration(drill.mended_s)} after its injection.")
    if drill.impact_s is not None:
        after = f"{format_duration(drill.impact_s)} after the injection"
        said.append(f"Users were hurt {after}." if drill.impact_s >= 0 else "Users were hurt before the injection.")
    back = recovery(drill)
    if drill.recovery == "recovered":
        said.append(f"It {back}.")
    elif drill.recovery == "not_recovered":
        said.append("It did not recover while it was watched.")
    elif drill.recovery == "undecided" and drill.status == "done":
        said.append("Whether it recovered is not decided.")
    return " ".join(said)


def noticed(drill: DrillRecord) -> str:
    """Who noticed when, in a clause; empty where nobody was asked to."""
    heard = drill.responders
    if heard is None:
        return ""
    if heard.noticed_s is None:
        return "nobody" if not heard.said else f"nobody after {_zero(heard)}"
    return f"{heard.noticed_by}, {format_duration(heard.noticed_s)} after {_zero(heard)}"


def responders(drill: DrillRecord) -> list[str]:
    """Of those who had to find out: how long it took."""
    heard = drill.responders
    if heard is None:
        return []
    lines = []
    since = f"after {_zero(heard)}"
    if heard.noticed_s is not None:
        lines.append(f"Noticed {format_duration(heard.noticed_s)} {since}, by {heard.noticed_by}.")
    elif heard.said:
        lines.append(f"Nobody said {since} that something was wrong.")
    else:
        lines.append("Nobody said that something was wrong.")
    tried = [one for one in heard.said if one.kind == "think"]
    if heard.diagnosed_s is not None:
        lines.append(f"Diagnosed rightly {format_duration(heard.diagnosed_s)} {since}, by {heard.diagnosed_by}.")
    elif tried and drill.plan.dependencies and not any(one.right for one in tried):
        lines.append(f"No diagnosis named {' or '.join(drill.plan.dependencies)}.")
    elif not tried and drill.plan.blind:
        lines.append("Nobody said what it was.")
    if heard.mitigated_s is not None:
        lines.append(f"The service was well again {format_duration(heard.mitigated_s)} {since}, as measured.")
    elif heard.counted_from == "impact" and drill.recovery != "not_recovered":
        lines.append("When the service was well again is not known.")
    elif heard.counted_from == "injection" and drill.answer == "confirmed":
        lines.append("No target was broken.")
    return lines


def spoken(one: Said) -> str:
    """`Bo, +17.7 s, diagnoses: "it is the db" (names what was broken)`."""
    did = {"see": "sees something", "think": "diagnoses", "mitigated": "says that it is mended"}
    judged = {True: " (names what was broken)", False: " (names something else)", None: ""}[one.right]
    since = f", {one.since_s:+.1f} s" if one.since_s is not None else ""
    kind: ActKind = one.kind
    quoted = f': "{one.text}"' if one.text else ""
    return f"{one.who}{since}, {did.get(kind, kind)}{quoted}{judged}"


def pace(drill: DrillRecord) -> tuple[str, str, str, str]:
    """Planned begin, real begin with the difference, pause, length: the latter two planned and real."""
    plan = drill.plan
    begun = text.clock(drill.begun) if drill.begun is not None else ""
    if drill.late_s is not None:
        late = round(drill.late_s)
        begun += f" ({_span(abs(late))} {'later' if late > 0 else 'earlier'})" if late else " (on time)"
    both = ("", "") if drill.ad_hoc else (_span(plan.pause_s), f"at least {_span(plan.seconds)}")
    real = tuple(_span(one) if one is not None else "" for one in (drill.paused_s, drill.lasted_s))
    pause, lasted = (_beside(planned, one) for planned, one in zip(both, real, strict=True))
    return text.clock(drill.planned_begin) if drill.planned_begin is not None else "", begun, pause, lasted


def _beside(planned: str, real: str) -> str:
    return ", ".join([*([f"planned {planned}"] if planned else []), *([f"took {real}"] if real else [])])


def _span(seconds: float) -> str:
    return format_duration(round(seconds))


def _zero(heard: Responders) -> str:
    return "the impact began" if heard.counted_from == "impact" else "the injection"


def _many(many: int, what: str) -> str:
    return f"{many:,} {what}{'' if many == 1 else 's'}"
