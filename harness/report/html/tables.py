"""The tables of the HTML report, as cells of plain text; the template escapes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from harness.model.records.faults import Evidence
from harness.model.records.metrics import Origin
from harness.model.records.plan import Plan
from harness.model.records.result import RecoveryOutcome, Result
from harness.report.html.svg import sparkline
from harness.report.sentences import detection, text
from harness.report.sentences import traces as sentences
from harness.report.sentences.assessment import Line, mark
from harness.report.sentences.event_log import Moment
from harness.report.sentences.evidence import fold
from harness.report.sentences.figures import columns_for, figures
from harness.report.sentences.story import request_rows

if TYPE_CHECKING:
    from harness.analysis.verdict.timeline import ChartData

MAX_ROWS = 100
MAX_ERRORS = 50
MAX_SPARKLINES = 40


class Column(msgspec.Struct, frozen=True):
    """css: number (set right), name (a first column), words (text that wraps)."""

    name: str
    css: str = "words"

    @property
    def number(self) -> bool:
        return self.css == "number"


class Cell(msgspec.Struct, frozen=True):
    """css: an outcome's class, which draws the text as a badge. more: a second, quieter line. link: a URL."""

    text: str
    css: str = ""
    more: str = ""
    link: str = ""


class Row(msgspec.Struct, frozen=True):
    cells: tuple[Cell, ...]
    loud: bool = False


class Table(msgspec.Struct, frozen=True):
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()


def _columns(*names: str, first: int = 1) -> tuple[Column, ...]:
    return tuple(Column(name, "name" if i < first else "number") for i, name in enumerate(names))


def row_of(*cells: str | Cell, loud: bool = False) -> Row:
    return Row(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in cells), loud)


_RANK = {"broken": 0, "undecided": 1, "not_judged": 2, "held": 3}
PHASE_COLUMNS = ("baseline", "fault", "after")


def _words(marked: str) -> str:
    """Without its sign, which the page draws: an emoji depends on a font."""
    return marked.partition(" ")[2]


def recovery_outcome(outcome: RecoveryOutcome) -> str:
    return "held from the undo on" if outcome == "no_impact" else outcome.replace("_", " ")


def targets(lines: Sequence[Line]) -> Table:
    """One row a target, broken ones first; a column a judged phase: outcome in words and colour, the value under it."""
    lines = sorted(lines, key=lambda line: _RANK[line.outcome] + (0 if line.primary else len(_RANK)))
    columns = (Column("Target", "name"), *(Column(name) for name in (*PHASE_COLUMNS, "whole run")))
    rows = []
    for line in lines:
        cells = [Cell(line.name, more="" if line.primary else "secondary: warns, does not decide")]
        for phase in (*PHASE_COLUMNS, None):
            found = next((r for r in line.results if r.phase == phase), None)
            if found is None:
                cells.append(Cell(""))
                continue
            if found.traits.origin is Origin.RECOVERY:
                observed = line.observed
            else:
                known = found.observed is not None
                observed = text.in_unit(found.observed, found.traits.unit) if known else "no data"
            more = (
                f"{observed}; {text.visible(found.why, 200)}" if found.why and found.why not in observed else observed
            )
            css = "warn" if found.outcome == "broken" and not found.primary else found.outcome
            cells.append(Cell(_words(mark(found.outcome, found.primary)), css, more))
        rows.append(row_of(*cells))
    return Table(columns, tuple(rows))


def alerts(result: Result) -> Table:
    """One row an expected alert."""
    found = result.detection
    name, outcome, *others = detection.COLUMNS
    columns = (
        Column(name, "name"),
        Column(outcome),
        *(Column(other, "number") for other in others[:-1]),
        Column("Why"),
    )
    rows = []
    for one in found.alerts[:MAX_ROWS] if found is not None else ():
        first, word, *rest = detection.cells(one)
        rows.append(row_of(first, Cell(word, detection.AS_TARGET[one.outcome]), *rest))
    return Table(columns, (*rows, *_more(len(found.alerts) if found is not None else 0, len(columns))))


def recovery_targets(result: Result) -> Table:
    columns = _columns("Target", "Outcome", "Recovered after", "Not before", "Not after")
    found = result.recovery.targets if result.recovery else ()
    return Table(
        (columns[0], Column("Outcome"), *columns[2:]),
        tuple(
            row_of(
                text.visible(t.target),
                Cell(recovery_outcome(t.outcome), more=text.visible(t.why, 300)),
                "by degrees" if t.graded and t.seconds is not None else text.seconds(t.seconds),
                text.seconds(t.lower_s),
                text.seconds(t.upper_s),
            )
            for t in found
        ),
    )


def proofs(evidence: Sequence[Evidence]) -> Table:
    columns = (Column("", "name"), Column("Expected"), Column("Observed"), Column("At", "number"))
    names = {"control": "control plane", "probe": "data path", "path": "the service uses it", "undo": "after the undo"}
    return Table(
        columns,
        tuple(
            row_of(
                Cell(
                    "seen" if e.first.held else "not seen",
                    "held" if e.first.held else "broken",
                    names[e.first.source],
                ),
                text.visible(e.first.expected, 300),
                text.visible(e.first.observed, 300),
                e.when,
            )
            for e in fold(evidence)[:30]
        ),
    )


def phases(result: Result) -> Table:
    columns = columns_for(result.phases)
    return Table(
        _columns("Phase", "From", "Length", "Planned", *columns, "Unsent", "Broken for"),
        tuple(
            row_of(
                text.visible(p.name, 20),
                text.moment(p.start_s),
                text.seconds(p.end_s - p.start_s),
                text.count(p.planned),
                *figures(p, columns),
                text.count(p.unsent),
                text.seconds(p.violating_s),
                loud=p.name == "fault",
            )
            for p in result.phases
        ),
    )


def measured(result: Result) -> Table:
    """Closed model: what was really sent, where virtual arrivals were added to the figures above."""
    return Table(
        _columns("Phase", "Virtual arrivals", "Fail %", "Mean", "p50", "p95", "p99"),
        tuple(
            row_of(
                text.visible(p.name, 20),
                text.count(p.backfilled),
                text.percent(m.error_rate),
                *(text.ms(v) for v in (m.mean_ms, m.p50_ms, m.p95_ms, m.p99_ms)),
            )
            for p in result.phases
            if (m := p.measured) is not None
        ),
    )


def requests(result: Result) -> Table:
    rows = request_rows(result)
    where = "Whole run" if result.totals or not rows else f"In phase {rows[0].phase}"
    aggregated = tuple(row for row in result.totals if row.name == "Aggregated")
    columns = columns_for(rows)
    return Table(
        _columns(where, *columns),
        (
            *(row_of(text.visible(row.name), *figures(row, columns)) for row in rows[:MAX_ROWS]),
            *_more(len(rows), 1 + len(columns)),
            *(row_of("All together", *figures(row, columns), loud=True) for row in aggregated),
        ),
    )


def traces(plan: Plan, result: Result) -> Table:
    found = sentences.traces(plan, result)
    columns = tuple(Column(name, "name" if name == "Request" else "words") for name in sentences.COLUMNS)
    rows = (
        row_of(text.visible(t.name), text.visible(t.why, 60), t.phase, t.took, Cell(t.trace_id, link=t.link))
        for t in found[:MAX_ROWS]
    )
    return Table(columns, (*rows, *_more(len(found), len(columns))))


def by_phase(result: Result) -> Table:
    rows = (*result.setup, *result.requests)
    columns = columns_for(rows)
    return Table(
        _columns("Name", "Phase", *columns, first=2),
        (
            *(row_of(text.visible(row.name), row.phase, *figures(row, columns)) for row in rows[:MAX_ROWS]),
            *_more(len(rows), 2 + len(columns)),
        ),
    )


def _more(there_are: int, columns: int) -> tuple[Row, ...]:
    """The last row of a table that was cut."""
    if there_are <= MAX_ROWS:
        return ()
    return (row_of(f"{there_are - MAX_ROWS} more in result.json", *[""] * (columns - 1)),)


def errors(result: Result) -> Table:
    ordered = sorted(result.errors, key=lambda error: -error.count)
    columns = (
        Column("Kind"),
        Column("Request", "name"),
        Column("Count", "number"),
        Column("First", "number"),
        Column("Last", "number"),
        Column("Example"),
    )
    rows = [
        row_of(
            text.visible(error.kind, 40),
            text.visible(error.name) if error.name else "(before any request)",
            text.count(error.count),
            text.moment(error.first_s),
            text.moment(error.last_s),
            text.excerpt(error.example, 400),
        )
        for error in ordered[:MAX_ERRORS]
    ]
    if len(ordered) > MAX_ERRORS:
        rows.append(row_of(f"{len(ordered) - MAX_ERRORS} more", "in result.json", "", "", "", ""))
    return Table(columns, tuple(rows))


def signals(result: Result, chart: ChartData) -> Table:
    """Means by phase; a phase without a value stays empty. The small line is the whole run, lowest to highest."""
    shown = ("baseline", "fault", "recovery", "after")
    return Table(
        (*_columns("Signal", *shown), Column("Over time")),
        (
            *(
                row_of(
                    Cell(text.visible(name, 80), more="per second" if signal.counter else ""),
                    *(text.number(signal.by_phase.get(phase)) for phase in shown),
                    sparkline(chart.signals.get(name, ()), told="over the whole run")
                    if number < MAX_SPARKLINES
                    else "",
                )
                for number, (name, signal) in enumerate(list(result.signals.items())[:MAX_ROWS])
            ),
            *_more(len(result.signals), 2 + len(shown)),
        ),
    )


def moments(found: Sequence[Moment]) -> Table:
    return Table(
        (Column("At", "number"), Column("What")),
        tuple(row_of(text.moment(m.at), m.said, loud=m.loud) for m in found[:500]),
    )
