"""The summary printed on stdout when a run ends."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from harness.model.records.plan import Plan
from harness.model.records.result import PhaseResult, RequestResult, Result
from harness.report.findings.dependency import acknowledged_sentence, signature
from harness.report.findings.notes import notes
from harness.report.sentences import detection, text
from harness.report.sentences.assessment import Line
from harness.report.sentences.by_request_name import slowed
from harness.report.sentences.evidence import fold
from harness.report.sentences.figures import columns_for, figures
from harness.report.sentences.recovery_words import recovery_sentence
from harness.report.sentences.story import (
    headline,
    lines_of,
    load_sentence,
    other_reasons,
    request_rows,
    scale_sentence,
    title,
    totals,
    undo_words,
    unsent,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MAX_ROWS = 20
WORDS = ("Name", "Phase", "Kind", "Name: example")
"""Columns of text; the others are of numbers."""
STYLES = {"held": "green", "broken": "bold red", "undecided": "yellow", "not_judged": "dim"}
VERDICT_STYLES = {"pass": "bold green", "fail": "bold red", "inconclusive": "bold yellow"}


def summary(plan: Plan, result: Result, run_dir: Path | str | None = None, *, width: int = 100, colour: bool) -> str:
    """The whole summary, without a last newline; escape codes only with `colour`. width: columns, at least 60."""
    out = StringIO()
    console = _console(out, max(60, width), colour)
    _head(console, plan, result)
    _totals(console, result)
    _requests(console, result)
    _phases(console, result)
    _errors(console, result)
    _faults(console, plan, result)
    _print(console, recovery_sentence(plan, result))
    if (promised := acknowledged_sentence(result)) is not None:
        _print(console, promised, "bold red" if result.acknowledged and result.acknowledged.lost else "")
    for note in notes(plan, result):
        _print(console, note)
    _alerts(console, result)
    for finding in signature(plan, result):
        _print(console, f"{finding.title}: {finding.seen}", "yellow")
    _print(console, "")
    for row, style in assessment_lines(lines_of(plan, result)):
        _print(console, row, style)
    _print(console, "")
    scaled = scale_sentence(plan)
    if scaled:
        _print(console, scaled)
        _print(console, "")
    for warning in result.warnings:
        _print(console, f"Warning: {text.visible(warning, 500)}", "yellow")
    _verdict(console, plan, result, run_dir)
    # Table cells are padded to their column; a summary that is piped and compared should not end in blanks.
    written = out.getvalue().rstrip("\n")
    return written if colour else "\n".join(line.rstrip() for line in written.split("\n"))


def assessment_lines(lines: tuple[Line, ...]) -> list[tuple[str, str]]:
    """(text, style) of each line of the block TARGET ASSESSMENT, secondary targets under their own heading."""
    rows = [("TARGET ASSESSMENT", "bold")]
    if not lines:
        return [*rows, ("No target was judged.", "")]
    width = max(len(line.name) for line in lines) + 1
    previous = True
    for line in lines:
        if previous and not line.primary:
            rows.append(("Secondary (warnings only):", "dim"))
        previous = line.primary
        style = "yellow" if line.outcome == "broken" and not line.primary else STYLES[line.outcome]
        rows.append((f"{line.name + ':':<{width}}  {line.mark} {line.detail}", style))
    return rows


def _console(out: StringIO, width: int, colour: bool) -> Console:
    from rich.console import Console

    # Every source of styling that rich would look up in the environment is fixed: the caller has decided.
    return Console(
        file=out,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )


def _print(console: Console, line: str, style: str = "") -> None:
    from rich.text import Text

    # A long line wraps at the terminal's edge by itself: copied text then has no line breaks of ours in it.
    console.print(Text(text.visible_lines(line), style=style), soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for i, name in enumerate(columns):
        number = name not in WORDS
        # Only the last column of text (an error's example) may take several lines.
        table.add_column(Text(name), justify="right" if number else "left", no_wrap=number or i == 0, overflow="fold")
    return table


def _row(table: Table, *cells: str, style: str = "") -> None:
    from rich.text import Text

    table.add_row(*(Text(text.visible_lines(cell)) for cell in cells), style=style)


def _show(console: Console, table: Table) -> None:
    console.print(table)
    _print(console, "")


def _head(console: Console, plan: Plan, result: Result) -> None:
    _print(console, f"{title(plan)} / {plan.scenario.name} on {text.visible(result.target_url, 120)}", "bold")
    _print(console, f"{load_sentence(plan)}, {plan.stack} stack, seed {plan.seed}, {text.visible(plan.experiment, 80)}")
    _print(console, "")


def _totals(console: Console, result: Result) -> None:
    whole, left = totals(result), unsent(result)
    pairs = [
        ("Total requests", text.count(whole.requests)),
        ("Failures", text.count(whole.failures) + (f" and {left:,} unsent" if left else "")),
        ("Failure rate", text.percent(whole.error_rate)),
        ("RPS", text.rps(whole.rps)),
        ("Mean", text.ms(whole.mean_ms)),
        ("Median", text.ms(whole.p50_ms)),
        ("p95", text.ms(whole.p95_ms)),
        ("p99", text.ms(whole.p99_ms)),
        ("Max", text.ms(whole.max_ms)),
    ]
    _print(console, "WHOLE RUN (all phases; latencies of successful requests)", "bold")
    for name, value in pairs:
        _print(console, f"{name + ':':<16}{value}")
    _print(console, "")


def _figures(
    console: Console,
    title: str,
    heads: Sequence[str],
    rows: Sequence[PhaseResult | RequestResult],
    leads: Sequence[Sequence[str]],
) -> None:
    """The table with as many columns of numbers as fit whole: a clipped number is a wrong number. What matters least is
    left out first. heads, leads: the columns before the numbers, and the cells of each row in them."""
    from rich.measure import Measurement

    left_out: set[str] = set()
    columns = columns_for(rows)
    for more in ("", "Mean", "Max", "Failed p50", "p50", "RPS", "p99", "Requests", "Failed p95"):
        left_out.add(more)
        shown = [column for column in columns if column not in left_out]
        table = _table(title, *heads, *shown)
        for row, lead in zip(rows, leads, strict=False):
            style = "bold" if isinstance(row, PhaseResult) and row.name == "fault" else ""
            _row(table, *lead, *figures(row, shown), style=style)
        if Measurement.get(console, console.options.update(max_width=10_000), table).maximum <= console.width:
            break
    _show(console, table)


def _request_table(console: Console, title: str, rows: Sequence[RequestResult]) -> None:
    width = max(26, console.width - 74)
    names = [(text.shorten(text.visible(row.name), width),) for row in rows[:MAX_ROWS]]
    _figures(console, title, ("Name",), rows, names)
    if len(rows) > MAX_ROWS:
        _print(console, f"... and {len(rows) - MAX_ROWS} more names, in result.json")


def _requests(console: Console, result: Result) -> None:
    rows = request_rows(result)
    if not rows:
        return
    where = "whole run" if result.totals else f"{rows[0].phase} phase"
    _request_table(console, f"REQUESTS ({where})", rows)
    fault = [row for row in result.requests if row.phase == "fault"]
    if result.totals and (any((row.error_rate or 0) >= 0.01 for row in fault) or slowed(result)):
        _request_table(console, "REQUESTS IN THE FAULT PHASE", sorted(fault, key=lambda r: -(r.error_rate or 0)))


def _phases(console: Console, result: Result) -> None:
    if result.phases:
        leads = [
            (text.visible(p.name, 20), text.moment(p.start_s), text.seconds(p.end_s - p.start_s)) for p in result.phases
        ]
        _figures(console, "PHASES", ("Phase", "From", "Length"), result.phases, leads)


def _errors(console: Console, result: Result) -> None:
    if not result.errors:
        return
    table = _table("ERRORS BY KIND", "Kind", "Count", "First", "Last", "Name: example")
    for error in sorted(result.errors, key=lambda error: -error.count)[:MAX_ROWS]:
        name = text.shorten(text.visible(error.name), 40) if error.name else "(no request)"
        _row(
            table,
            text.visible(error.kind, 20),
            text.count(error.count),
            text.moment(error.first_s),
            text.moment(error.last_s),
            f"{name}: {text.excerpt(error.example, 160)}" if error.example else name,
        )
    _show(console, table)
    if len(result.errors) > MAX_ROWS:
        _print(console, f"... and {len(result.errors) - MAX_ROWS} more, in result.json")


def _faults(console: Console, plan: Plan, result: Result) -> None:
    if not result.faults:
        return
    _print(console, "FAULTS", "bold")
    for fault in result.faults:
        if fault.injected_s is None:
            _print(console, f"{text.visible(fault.name, 60)}: never injected", "yellow")
            continue
        injected = f"injected at {text.moment(fault.injected_s)}"
        _print(console, f"{text.visible(fault.name, 60)}: {injected}, {undo_words(plan, fault)}")
        if fault.proven:
            _print(console, "  proven:", "green")
        else:
            _print(console, f"  NOT PROVEN: {text.visible(fault.missing or 'no evidence', 300)}", "bold yellow")
        seen = fold(fault.proof)
        for item in seen[:8]:
            evidence = item.first
            sign = "✅" if evidence.held else "❌"
            again = f", {item.times} times" if item.times > 1 else ""
            expected = text.visible(evidence.expected, 100)
            _print(
                console,
                f"  {sign} {evidence.source}: {text.visible(evidence.observed, 160)}{again} (expected: {expected})",
            )
        if len(seen) > 8:
            _print(console, f"  ... and {len(seen) - 8} more kinds of observation, in history.jsonl")
    _print(console, "")


def _alerts(console: Console, result: Result) -> None:
    found = result.detection
    if found is None:
        return
    _print(console, detection.lead(found))
    for one in found.alerts[:MAX_ROWS]:
        _print(console, f"  alert {detection.sentence(one)}", STYLES[detection.AS_TARGET[one.outcome]])
    if len(found.alerts) > MAX_ROWS:
        _print(console, f"  ... and {len(found.alerts) - MAX_ROWS} more, in result.json")


def _verdict(console: Console, plan: Plan, result: Result, run_dir: Path | str | None) -> None:
    first = headline(plan, result)
    _print(console, first, VERDICT_STYLES[result.verdict])
    for reason in other_reasons(result, first):
        _print(console, f"  - {reason}")
    if run_dir is not None:
        _print(console, f"Report: {text.visible(str(Path(run_dir) / 'report.html'), 4000)}")
