"""The list and the trends as lines of text. What is from outside is made visible here, so that colours can be ours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from harness.history.reading import CONTROL, seconds_of
from harness.history.records import (
    Counts,
    Entry,
    Line,
    Listing,
    Outside,
    Point,
    ScoreTrend,
    SuitePoint,
    Trend,
    Unread,
    Weakness,
)
from harness.history.trend import HARM, MARGIN, reasons
from harness.model.records.metrics import Unit
from harness.report.sentences.text import UNKNOWN, excerpt, in_unit, seconds, visible

Row = tuple[str, str]
"""A line, and the colour of it: "" for none."""
_COLOURS = {"pass": "green", "fail": "red", "inconclusive": "yellow"}
KINDS = {"run": "", "suite": "suite ", "gameday": "game day "}
BAR = "#"
NAMED = 3
"""Of unreadable folders so many are named; --json has all."""


def listing(found: Listing, width: int) -> list[Row]:
    if not found.entries:
        return [("nothing matches", ""), *_unreadable(found.unreadable, found.foreign, width)]
    table = [("WHEN (UTC)", "WHAT", "SCENARIO", "VERDICT", "RECOVERY", "WHY"), *(_cells(one) for one in found.entries)]
    rows = [(row, "") for row in aligned(table, width)]
    rows = [rows[0], *((row, _COLOURS[one.verdict]) for (row, _), one in zip(rows[1:], found.entries, strict=True))]
    if len(found.entries) < found.matching:
        rows.append((f"{len(found.entries)} of {found.matching:,} shown; --limit 0 shows all", ""))
    return [*rows, *_unreadable(found.unreadable, found.foreign, width)]


def aligned(table: Sequence[Sequence[str]], width: int) -> list[str]:
    """Columns side by side; the last one is cut where the width ends."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]) - 1)]
    rows = ["  ".join([*(f"{cell:{w}}" for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in table]
    return [row.rstrip() if len(row) <= width else f"{row[: max(width - 3, 1)]}..." for row in rows]


def _cells(entry: Entry) -> tuple[str, ...]:
    share = "" if entry.scale == 1 else f" {entry.scale * 100:.3g} %"
    what = f"{KINDS[entry.kind]}{'no fault' if entry.name == CONTROL and entry.kind == 'run' else entry.name}"
    return (
        moment(entry.started),
        excerpt(what, 40),
        f"{excerpt(entry.scenario, 20)}{share}",
        _outcome(entry),
        _recovered(entry),
        f"{'(raw records pruned) ' if entry.pruned else ''}{visible(entry.reason, 300)}",
    )


def _outcome(entry: Entry) -> str:
    counts = entry.counts
    if counts is None:
        return entry.verdict.upper()
    if entry.kind != "gameday":
        return outcomes(counts)
    undecided = counts.unknown + counts.not_run
    return f"confirmed {counts.held}, refuted {counts.broken}, not decided {undecided} of {counts.all}"


def outcomes(counts: Counts) -> str:
    """`held 17, broken 4, unknown 6 of 27`: an experiment that was not run is unknown, too."""
    return f"held {counts.held}, broken {counts.broken}, unknown {counts.unknown + counts.not_run} of {counts.all}"


def _recovered(entry: Entry) -> str:
    if entry.recovery in (None, "not_judged"):
        return ""
    if entry.recovery == "recovered":
        return seconds(entry.recovery_s)
    return str(entry.recovery).replace("_", " ")


def moment(iso: str) -> str:
    return datetime.fromtimestamp(seconds_of(iso), UTC).strftime("%Y-%m-%d %H:%M")


def _unreadable(unreadable: Sequence[Unread], foreign: int, width: int) -> list[Row]:
    """One line at most of what is not shown."""
    said = []
    if unreadable:
        first = "; ".join(f"{visible(one.directory, 60)} ({visible(one.why, 120)})" for one in unreadable[:NAMED])
        more = f"; {len(unreadable) - NAMED} more" if len(unreadable) > NAMED else ""
        said.append(f"unreadable: {first}{more}")
    if foreign:
        said.append(f"{foreign} other folder{'s' if foreign > 1 else ''}")
    return [("; ".join(said), "yellow" if unreadable else "")] if said else []


def outside_text(outside: Outside, unit: Unit) -> str:
    """Between which versions a value went out of the range."""
    low, high = in_unit(outside.low, unit), in_unit(outside.high, unit)
    between = (
        f"with the same versions ({outside.now})"
        if outside.since == outside.now
        else f"between {outside.since} and {outside.now}"
    )
    return (
        f"outside {low} to {high}, the range of {outside.accepted} accepted before widened by {MARGIN:.0%}; "
        f"{visible(between, 300)}"
    )


def trend(found: Trend, width: int) -> list[Row]:
    rows: list[Row] = [(visible(found.of, 400), "bold")]
    for line in found.lines:
        rows += _line(line, width)
    return [*rows, *_left_out(found.left_out), *_unreadable(found.unreadable, 0, width)]


def _left_out(left_out: Sequence[Unread]) -> list[Row]:
    if not left_out:
        return []
    many = f"{len(left_out)} other{'s' if len(left_out) > 1 else ''}"
    return [(f"left out as not comparable: {many}: {visible(reasons(left_out), 400)}", "")]


def _line(line: Line, width: int) -> list[Row]:
    values = [point.value for point in line.points if point.value is not None]
    top = max(values, default=0.0)
    bars = max(min(width - 48, 40), 8)
    rows: list[Row] = [(visible(line.title), "bold")]
    for point in line.points:
        shown = in_unit(point.value, line.unit) if point.value is not None else UNKNOWN
        length = round(bars * point.value / top) if point.value is not None and top > 0 else 0
        bar = BAR * max(length, 1 if point.value else 0) if point.value is not None else f"({visible(point.why, 80)})"
        rows.append((f"{moment(point.started)}  {shown:>9}  {point.verdict.upper():12}  {bar}", _colour(point)))
        if point.outside is not None:
            rows.append((f"    ! {outside_text(point.outside, line.unit)}", "yellow"))
    if line.metric == HARM:
        rows.append(("harm: bad requests from the injection on, less baseline's share", ""))
    return rows


def _colour(point: Point) -> str:
    return "" if point.outside is None else "yellow"


def score(found: ScoreTrend, width: int) -> list[Row]:
    rows: list[Row] = [(f"score of {visible(found.of)}, over {found.common} common experiments", "bold")]
    bars = max(min(width - 70, 50), 10)
    for point in found.points:
        low, high = round(bars * point.low / 100), round(bars * point.high / 100)
        bar = f"[{BAR * low}{'-' * (high - low)}{' ' * (bars - high)}]"
        interval = interval_text(point.low, point.high)
        rows.append((f"{moment(point.started)}  {interval:>14}  {bar}  {outcomes(point.counts)}", ""))
        rows += [(f"    {said}", "yellow") for said in changes(point)]
    if not found.common:
        rows.append(("no experiment is common to both ends: the score says nothing", "yellow"))
    rows.append(("", ""))
    rows += [(f"{title}: {'; '.join(names)}", "") for title, names in sections(found) if names]
    rows.append((coverage(found), ""))
    return [*rows, *_left_out(found.left_out), *_unreadable(found.unreadable, 0, width)]


def interval_text(low: float, high: float) -> str:
    return f"{low:.0f}-{high:.0f} of 100" if round(low) != round(high) else f"{low:.0f} of 100"


def changes(point: SuitePoint) -> list[str]:
    """What of the suite itself is another than before."""
    found = (("added", point.added), ("removed", point.removed), ("changed", point.changed))
    said = [f"suite: {what} {', '.join(visible(name, 60) for name in names)}" for what, names in found if names]
    said += ["suite: another load"] if point.load_changed else []
    return [*said, f"stale: {point.stale}; what held of these is unknown by now"] if point.stale else said


def sections(found: ScoreTrend) -> list[tuple[str, list[str]]]:
    """Title and lines; those that are empty included."""
    known = sorted((one for one in found.weaknesses if one.owner), key=lambda one: (-one.days, one.owner))
    return [
        ("fixed", [visible(name, 80) for name in found.fixed]),
        ("newly broken", [visible(name, 80) for name in found.newly_broken]),
        ("known, still broken", [weakness(one) for one in known]),
        ("broken, owned by nobody", [weakness(one) for one in found.weaknesses if not one.owner]),
        ("no longer decided", [visible(name, 80) for name in found.undecided]),
        ("known, and held in the newest suite: its entry can go", [visible(name, 80) for name in found.holds_again]),
        ("excluded on purpose", [visible(name, 80) for name in found.excluded]),
    ]


def weakness(one: Weakness) -> str:
    """`redis-hang (broken for 41 days, known for 40 days, owner Ada, until 12 January 2027, ...)`."""
    least = "at least " if one.at_least else ""
    said = [f"broken for {least}{one.days} day{'s' if one.days != 1 else ''}"]
    if one.owner:
        said.append(visible(one.owned, 200))
    said += [visible(text, 120) for text in (one.ticket, one.reason) if text]
    return f"{visible(one.experiment, 80)} ({', '.join(said)})"


def coverage(found: ScoreTrend) -> str:
    cells = f"; {found.decided_cells} of {found.cells} cells decided" if found.cells else ""
    stale = "".join(f"; {len(one.experiments)} stale, {visible(one.why, 160)}" for one in found.stale)
    return (
        f"coverage of the newest suite: {found.carried_out} of {found.experiments} experiments carried out, "
        f"{found.decided} decided{cells}{stale}"
    )
