"""What the page of a suite shows, as plain values: the template only sets them in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date

import msgspec
from markupsafe import Markup

from harness.analysis.suite.age import day_of, stale, stale_lines
from harness.analysis.suite.isolation import Isolation, isolation
from harness.model.records.many_runs.gate import GateResult
from harness.model.records.many_runs.suite import Attempt, Cell, ExperimentResult, SuiteResult
from harness.model.records.result import AlertResult
from harness.report.findings.finding import Finding
from harness.report.html.svg import tag
from harness.report.sentences import detection, text
from harness.report.suite import sentences as say
from harness.report.suite.evidence import Evidence
from harness.report.suite.sentences import Weakness

WORDS = {"held": "held", "broken": "broken", "unknown": "unknown", "not_run": "not run"}
CSS = {"held": "held", "broken": "broken", "unknown": "undecided", "not_run": "not_judged"}
"""Classes of the report's style sheet, with the icons of svg.icon."""
REMEDIES = 4


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much a page has room for: what is beyond is counted and named as left out."""

    experiments: int
    names: int
    weaknesses: int
    lines: int


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """An outcome with its sign and word. link: to the experiment's own report, or empty. more: figures under it."""

    css: str
    word: str
    link: str = ""
    name: str = ""
    more: tuple[str, ...] = ()


def page(
    suite: SuiteResult, gate: GateResult | None, found: Sequence[Weakness], by: Evidence, room: Room, today: date
) -> Page:
    isolations = isolation(suite.experiments)
    tried = [one for one in suite.experiments if one.dependency and "+" not in one.dependency]
    others = [one for one in suite.experiments if one not in tried]
    css, word = say.verdict(suite)
    undecided = [one for one in suite.experiments if one.outcome in ("unknown", "not_run")]
    old = stale(suite, today)
    day = day_of(suite.started)
    return Page(
        css=css,
        word=word,
        headline=say.headline(suite),
        title=text.visible(suite.name, 100),
        score=say.interval(suite),
        bar=bar(suite),
        nothing=say.nothing_broken(suite),
        undecided=say.undecided(suite),
        reasons=_cut([*(text.visible(one, 400) for one in (*stale_lines(suite, today), *suite.reasons))], 5),
        worst=tuple(_weak(one, gate, by) for one in found[: say.WORST]),
        others=max(0, len(found) - say.WORST),
        gate=gate.sentence if gate is not None else "",
        known=_cut(say.known(gate, day), room.lines),
        map=_map(tried[: room.experiments], by, old),
        not_mapped=tuple(_mark(one, by, old) for one in others[: room.experiments]),
        left_out=max(0, len(tried) - room.experiments) + max(0, len(others) - room.experiments),
        isolation=_isolation(suite, isolations, room.names),
        coupling=_cut([line for one in isolations for line in say.needs(one)], room.lines),
        changes=tuple((title, _cut(lines, room.lines)) for title, lines in (say.changes(gate) if gate else [])),
        weaknesses=tuple(_weak(one, gate, by) for one in found[: room.weaknesses]),
        more_weak=max(0, len(found) - room.weaknesses),
        not_decided=tuple(
            (_mark(one, by, old), text.visible(say.why_undecided(one), 300), text.visible(one.command, 1000))
            for one in undecided[: room.lines]
        ),
        more_undecided=max(0, len(undecided) - room.lines),
        noticed=say.noticed(suite),
        alerts=tuple(_alert(one, attempt, alert, by) for one, attempt, alert in say.alerts(suite)[: 2 * room.lines]),
        alert_columns=detection.COLUMNS[1:],
        more_alerts=max(0, len(say.alerts(suite)) - 2 * room.lines),
        excluded=_cut(say.excluded(suite), room.lines),
        resets=tuple((said, by.link(attempt)) for _, attempt, said in say.resets(suite)[: room.lines]),
        facts=tuple(say.facts(suite, sum(len(one.attempts) for one in suite.experiments))),
        warnings=_cut([text.visible(one, 300) for one in suite.warnings], 10),
        command=text.visible(suite.command, 1000),
        harness=text.visible(suite.harness, 40),
        day=_day(day),
    )


class Weak(msgspec.Struct, frozen=True, kw_only=True):
    """A weakness, told. first: what to do first, a title and a sentence."""

    name: str
    link: str
    status: str
    breaks: str
    much: str
    first: tuple[str, str]
    remedies: tuple[tuple[str, str, str], ...]
    cells: tuple[tuple[str, str, str, str], ...]
    attempts: tuple[Mark, ...]
    command: str


class Row(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    cells: tuple[tuple[Mark, ...], ...]


class Grid(msgspec.Struct, frozen=True, kw_only=True):
    """Marks by row and column. more: rows that are left out."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    more: int = 0


class Noticed(msgspec.Struct, frozen=True, kw_only=True):
    """An expected alert of one experiment. cells: as in detection.COLUMNS, without the outcome, which is a mark."""

    name: str
    link: str
    alert: str
    mark: Mark
    cells: tuple[str, ...]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """See resilience.html.j2, which has one section for each."""

    css: str
    word: str
    headline: str
    title: str
    score: str
    bar: Markup
    nothing: str
    undecided: str
    reasons: Sequence[str]
    worst: tuple[Weak, ...]
    others: int
    gate: str
    known: Sequence[str]
    map: Grid
    not_mapped: tuple[Mark, ...]
    left_out: int
    isolation: Grid
    coupling: Sequence[str]
    changes: tuple[tuple[str, Sequence[str]], ...]
    weaknesses: tuple[Weak, ...]
    more_weak: int
    not_decided: tuple[tuple[Mark, str, str], ...]
    more_undecided: int
    noticed: str
    alerts: tuple[Noticed, ...]
    alert_columns: Sequence[str]
    more_alerts: int
    excluded: Sequence[str]
    resets: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    warnings: Sequence[str]
    command: str
    harness: str
    day: str


def bar(suite: SuiteResult) -> Markup:
    """The score as an interval: held, undecided (hatched by its dashes), broken. The words stand beside it."""
    if not suite.experiments:
        return Markup("")
    low, high = suite.score.low, suite.score.high
    parts = [
        tag("rect", class_=f"part {css}", x=f"{start:.1f}%", y=2, height=14, width=f"{end - start:.1f}%")
        for css, start, end in (("is-held", 0.0, low), ("is-open", low, high), ("is-broken", high, 100.0))
        if end > start
    ]
    hatch = [
        tag("path", d=f"M{at} 16L{at + 9} 2", class_="hatch")
        for at in range(-10, 1300, 9)  # cut off by the inner svg, which is as wide as what is undecided
    ]
    if high > low:
        inner = tag("svg", *hatch, x=f"{low:.1f}%", y=0, width=f"{high - low:.1f}%", height=18)
        parts.append(inner)
    return tag("svg", *parts, class_="score-bar", width="100%", height=18, role="img", aria_label=say.interval(suite))


def _weak(one: Weakness, gate: GateResult | None, by: Evidence) -> Weak:
    advice = by.remedy(one.attempt)
    return Weak(
        name=_excerpt(one.experiment.name),
        link=by.link(one.attempt),
        status=say.status(one.experiment.name, gate),
        breaks=say.what_breaks(one),
        much=say.how_much(one),
        first=first_step(advice, by.link(one.attempt)),
        remedies=tuple(
            (each.title, text.visible(each.seen, 500), text.visible(each.advice, 800)) for each in advice[:REMEDIES]
        ),
        cells=tuple(_cell(cell) for cell in one.cells[:20]),
        attempts=tuple(_attempt(each, by) for each in one.experiment.attempts[:5]),
        command=text.visible(one.experiment.command, 1000),
    )


def first_step(advice: Sequence[Finding], link: str) -> tuple[str, str]:
    """(title, two sentences) of the first advice; where there is none that is said, and nothing is invented."""
    if advice:
        words = ". ".join(advice[0].advice.split(". ")[:2]).rstrip(".")
        return text.visible(advice[0].title, 120), f"{text.visible(words, 400)}."
    if link:
        return "no advice is at hand", "start with the report of this experiment."
    return "no report of this experiment is at hand", "run it again and read its report."


def _cell(cell: Cell) -> tuple[str, str, str, str]:
    share = f" ({text.percent(cell.bad / cell.n)})" if cell.n else ""
    how = f"{cell.failed:,} failed, {cell.bad - cell.failed:,} too slow"
    return _excerpt(cell.request), f"{cell.bad:,} of {cell.n:,}{share}", how, text.visible(cell.target, 80)


def _attempt(attempt: Attempt, by: Evidence) -> Mark:
    return Mark(css=CSS[attempt.outcome], word=WORDS[attempt.outcome], link=by.link(attempt))


def _mark(one: ExperimentResult, by: Evidence, old: Mapping[str, str]) -> Mark:
    """more: whether it is stale, recovery, bad requests, attempts, what of these is on record. old: why, by name."""
    attempt = one.shown or next(iter(one.attempts), None)
    more = ["stale"] if one.name in old else []
    if attempt is not None:
        if recovered := say.recovery(attempt):
            more.append(recovered)
        if attempt.harm is not None:
            more.append(f"{attempt.harm:,} bad")
        elif bad := sum(cell.bad for cell in attempt.cells):
            more.append(f"{bad:,} bad in the fault")
        if len(one.attempts) > 1:
            more.append(f"{len(one.attempts)} attempts")
    return Mark(
        css=CSS[one.outcome], word=WORDS[one.outcome], link=by.link(attempt), name=_excerpt(one.name), more=tuple(more)
    )


def _alert(one: ExperimentResult, attempt: Attempt, alert: AlertResult, by: Evidence) -> Noticed:
    name, word, *cells = detection.cells(alert)
    return Noticed(
        name=_excerpt(one.name),
        link=by.link(attempt),
        alert=name,
        mark=Mark(css=detection.AS_TARGET[alert.outcome], word=word),
        cells=tuple(cells),
    )


def _map(tried: Sequence[ExperimentResult], by: Evidence, old: Mapping[str, str]) -> Grid:
    """Kinds of faults down, dependencies across: there are few of these. What was not tried is an empty cell."""
    found: dict[tuple[str, str], list[Mark]] = {}
    for one in tried:
        found.setdefault((one.kind, one.dependency), []).append(_mark(one, by, old))
    columns = _unique(one.dependency for one in tried)
    rows = [
        Row(name=_excerpt(kind), cells=tuple(tuple(found.get((kind, each), ())) for each in columns))
        for kind in _unique(one.kind for one in tried)
    ]
    return Grid(columns=tuple(map(_excerpt, columns)), rows=tuple(rows))


def _isolation(suite: SuiteResult, found: Sequence[Isolation], most: int) -> Grid:
    """Request names down, dependencies across."""
    declared = say.declarations(suite)
    marks: dict[tuple[str, str], Mark] = {}
    for one in found:
        by_name: Mapping[str, tuple[str, str]] = {
            **dict.fromkeys(one.held, ("held", "held")),
            **dict.fromkeys(one.undecided, ("undecided", "unknown")),
            **{need.request: ("broken", "broken") if need.fails else ("warn", "slowed") for need in one.needs},
        }
        for name, (css, word) in by_name.items():
            told = declared.get((one.dependency, name), say.Declared())
            more = [*(["declared independent"] if told.independent else []), *(["may fail"] if told.may_fail else [])]
            marks[one.dependency, name] = Mark(css=css, word=word, more=tuple(more))
    worst: dict[str, int] = {}
    for (_, name), mark in marks.items():
        worst[name] = min(worst.get(name, 3), ("broken", "warn", "undecided", "held").index(mark.css))
    names = sorted(worst, key=lambda name: (worst[name], name))
    columns = [one.dependency for one in found]
    rows = [
        Row(
            name=_excerpt(name),
            cells=tuple((marks[each, name],) if (each, name) in marks else () for each in columns),
        )
        for name in names[:most]
    ]
    return Grid(columns=tuple(map(_excerpt, columns)), rows=tuple(rows), more=max(0, len(names) - most))


def _cut(lines: Sequence[str], most: int) -> Sequence[str]:
    return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} more in suite.json"]


def _excerpt(said: str) -> str:
    return text.excerpt(said, 80)


def _unique(found: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(found))


def _day(day: date | None) -> str:
    return f"{day.day} {day:%B %Y}" if day is not None else ""
