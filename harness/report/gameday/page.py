"""What the page of a game day shows, as plain values: the template only sets them in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from harness.model.records.many_runs.gameday import ActionItem, DrillRecord, GameDayRecord, Severity
from harness.report.gameday import sentences as say
from harness.report.gameday.evidence import Evidence
from harness.report.html.charts import Panel
from harness.report.sentences import text

T = TypeVar("T")

SIGNS = {
    "confirmed": "held",
    "refuted": "broken",
    "not decided": "undecided",
    "no result": "undecided",
    "aborted": "warn",
    "cut off": "warn",
    "skipped": "not_judged",
    "not run": "not_judged",
}
"""Classes of the report's style sheet, with the icons of svg.icon."""
OF_SEVERITY: dict[Severity, str] = {"high": "broken", "medium": "warn", "low": "not_judged"}


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much a page has room for: what is beyond is counted and said to be left out. points: a line of a chart; 0:
    no charts. characters: of what somebody wrote."""

    drills: int
    points: int
    lines: int
    characters: int


class Badge(msgspec.Struct, frozen=True):
    """An outcome with its sign and word."""

    css: str
    word: str


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """A drill, told in short. facts: (name, said)."""

    number: int
    name: str
    badge: Badge
    hypothesis: str
    facts: tuple[tuple[str, str], ...]
    told: bool
    """Whether it has a section of its own on the page."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """A drill, told in full."""

    number: int
    name: str
    badge: Badge
    about: str
    hypothesis: str
    found: str
    reasons: Sequence[str]
    expect: str
    observed: Sequence[str]
    responders: Sequence[str]
    spoken: Sequence[str]
    alerts: Sequence[str]
    panels: tuple[Panel, ...]
    injected: bool
    link: str
    command: str


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """An action item."""

    text: str
    owner: str
    due: str
    severity: Badge
    drill: str
    retest: str


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """See record.html.j2, which has one section for each. more_...: left out."""

    title: str
    headline: str
    length: str
    when: str
    cautions: Sequence[str]
    cards: tuple[Card, ...]
    more_drills: int
    actions: tuple[Act, ...]
    more_actions: int
    drills: tuple[Told, ...]
    pace: tuple[tuple[str, ...], ...]
    timeline: tuple[tuple[str, str, str, bool], ...]
    more_moments: int
    prerequisites: tuple[tuple[Badge, str], ...]
    more_prerequisites: int
    people: tuple[tuple[str, str], ...]
    more_people: int
    notes: tuple[tuple[str, str, str], ...]
    more_notes: int
    facts: tuple[tuple[str, str], ...]
    command: str
    harness: str


def page(record: GameDayRecord, by: Evidence, room: Room) -> Page:
    shown = record.drills[: room.drills]
    lines, cut = room.lines, room.characters
    return Page(
        title=text.visible(record.title, 200),
        headline=say.headline(record),
        length=say.length(record),
        when=text.when(record.started),
        cautions=_lines(say.cautions(record), 10, 600),
        cards=tuple(_card(drill, cut) for drill in shown),
        more_drills=len(record.drills) - len(shown),
        actions=tuple(_action(one, cut) for one in record.actions[:lines]),
        more_actions=max(0, len(record.actions) - lines),
        drills=tuple(_told(drill, by, room) for drill in shown if drill.begun is not None),
        pace=tuple((f"{drill.plan.number}. {text.excerpt(drill.plan.name, 60)}", *say.pace(drill)) for drill in shown),
        timeline=tuple(
            (text.clock(one.at), text.visible(one.who, 60), text.visible(one.said, cut), one.who == "harness")
            for one in record.timeline[: 3 * lines]
        ),
        more_moments=max(0, len(record.timeline) - 3 * lines),
        prerequisites=tuple(
            (Badge("held", f"ticked by {text.visible(one.ticked_by, 60)}"), text.visible(one.text, cut))
            if one.ticked_by
            else (Badge("not_judged", "not ticked"), text.visible(one.text, cut))
            for one in record.prerequisites[:lines]
        ),
        more_prerequisites=max(0, len(record.prerequisites) - lines),
        people=tuple((text.visible(name, 60), role) for name, role in list(record.people.items())[:lines]),
        more_people=max(0, len(record.people) - lines),
        notes=tuple(
            (text.clock(one.at), text.visible(one.who, 60), text.visible(one.text, cut) or "marked this moment")
            for one in record.notes[:lines]
        ),
        more_notes=max(0, len(record.notes) - lines),
        facts=tuple((name, text.visible(said, 300)) for name, said in say.facts(record)),
        command=text.visible(record.plan.command, 1000),
        harness=text.visible(record.plan.harness, 40),
    )


def badge(drill: DrillRecord) -> Badge:
    word = say.outcome(drill)
    return Badge(SIGNS[word], word)


def _card(drill: DrillRecord, cut: int) -> Card:
    known = [
        ("Fault", text.visible(", ".join(drill.plan.faults), 120) + (" (blind)" if drill.plan.blind else "")),
        ("Why", text.visible(say.answer(drill), 200) if drill.why else ""),
        ("Recovery", say.recovery(drill)),
        ("Bad requests", f"{drill.harm:,}" if drill.harm is not None else ""),
        ("Noticed by", text.visible(say.noticed(drill), 120)),
    ]
    return Card(
        number=drill.plan.number,
        name=text.excerpt(drill.plan.name, 80),
        badge=badge(drill),
        hypothesis=text.visible(drill.plan.hypothesis, min(cut, 200)),
        facts=tuple((name, said) for name, said in known if said),
        told=drill.begun is not None,
    )


def _told(drill: DrillRecord, by: Evidence, room: Room) -> Told:
    plan, cut = drill.plan, room.characters
    about = [", ".join(plan.faults), "not planned" if drill.ad_hoc else "", "blind" if plan.blind else ""]
    heard = drill.responders
    drawn = by.drawn.get(drill.directory) if room.points else None
    return Told(
        number=plan.number,
        name=text.excerpt(plan.name, 80),
        badge=badge(drill),
        about=text.visible("; ".join(filter(None, about)), 300),
        hypothesis=text.visible(plan.hypothesis, cut),
        found=text.visible(say.found(drill), 600),
        reasons=_lines(drill.reasons, 6, 400),
        expect=text.visible(plan.expect, cut),
        observed=_lines(drill.observed, room.lines // 5, cut, lambda one: f"{one.who}: {one.text}"),
        responders=_lines(say.responders(drill), 6, 300),
        spoken=_lines(heard.said if heard is not None else (), room.lines // 5, cut, say.spoken),
        alerts=_lines(drill.alerts, room.lines // 5, 200),
        panels=drawn.panels(room.points) if drawn is not None else (),
        injected=drill.proven is not None,
        link=by.link(drill),
        command=text.visible(drill.command, 600),
    )


def _action(one: ActionItem, cut: int) -> Act:
    return Act(
        text=text.visible(one.text, cut),
        owner=text.visible(one.owner, 60) or "nobody yet",
        due=text.visible(one.due, 20) or "no date",
        severity=Badge(OF_SEVERITY[one.severity], one.severity) if one.severity else Badge("", "not said"),
        drill=str(one.drill) if one.drill is not None else "",
        retest=text.visible(one.retest, 600),
    )


def _lines(found: Sequence[T], most: int, characters: int, said: Callable[[T], str] = str) -> Sequence[str]:
    shown = [text.visible(said(one), characters) for one in found[:most]]
    return [*shown, *([f"and {len(found) - most:,} more in gameday.json"] if len(found) > most else [])]
