"""report.md: the run in a form that pastes into a pull request or an incident channel."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.report.findings.dependency import acknowledged_sentence
from harness.report.findings.notes import notes
from harness.report.findings.rules import findings
from harness.report.sentences import detection, text
from harness.report.sentences.assessment import Line
from harness.report.sentences.evidence import fold
from harness.report.sentences.figures import FIGURES, columns_for, figures
from harness.report.sentences.recovery_words import recovery_sentence
from harness.report.sentences.story import (
    headline,
    lines_of,
    load_sentence,
    not_measured,
    other_reasons,
    reproduce,
    request_rows,
    scale_sentence,
    title,
    totals,
    undo_words,
    unsent,
)
from harness.report.sentences.traces import COLUMNS, traces
from harness.report.terminal.timeline import recorded_timeline

_SIGNS = {"pass": "✅", "fail": "❌", "inconclusive": "❔"}
MAX_ROWS = 50

esc = text.markdown_escape


def render(plan: Plan, result: Result) -> str:
    """GitHub-flavoured Markdown, ending in a newline. Outside text cannot become markup."""
    blocks = [
        f"# {_SIGNS[result.verdict]} {esc(title(plan))} / {esc(plan.scenario.name)}",
        f"**{esc(headline(plan, result), 1000)}**",
        "\n".join(f"- {esc(reason, 1000)}" for reason in other_reasons(result, headline(plan, result))),
        esc(scale_sentence(plan) or ""),
        esc(recovery_sentence(plan, result), 1000),
        esc(acknowledged_sentence(result) or "", 1000),
        "\n".join(f"- {esc(note, 1000)}" for note in notes(plan, result)),
        "\n".join(f"> Warning: {esc(warning, 500)}" for warning in result.warnings),
        "## Targets",
        _targets(lines_of(plan, result)),
        _phases(result),
        _alerts(result),
        _faults(plan, result),
        _requests(result),
        _errors(result),
        _traces(plan, result),
        _next(plan, result),
        "## Not measured\n\n" + "\n".join(f"- {esc(item, 500)}" for item in not_measured(plan, result)),
        _origin(plan, result),
    ]
    return "\n\n".join(block for block in blocks if block.strip()) + "\n"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Cells arrive escaped. The first text_columns are set left, the rest right."""
    ruler = ["---" if i < text_columns else "---:" for i in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [columns, ruler, *rows])


def _targets(lines: Sequence[Line]) -> str:
    if not lines:
        return "No target was judged."
    rows = [
        [
            esc(line.name),
            "primary" if line.primary else "secondary",
            line.mark,
            esc(line.observed),
            esc(line.worst.phase or "whole run"),
            esc(line.worst.why),
        ]
        for line in lines
    ]
    return table(("Target", "Kind", "Outcome", "Observed", "Worst phase", "Why"), rows, 6)


def _phases(result: Result) -> str:
    if not result.phases:
        return ""
    columns = columns_for(result.phases)
    rows = [
        [esc(p.name), text.moment(p.start_s), text.seconds(p.end_s - p.start_s), *figures(p, columns)]
        for p in result.phases
    ]
    whole = totals(result)
    said = f"{whole.requests:,} requests, {whole.failures:,} failures ({text.percent(whole.error_rate)})"
    if left := unsent(result):
        said += f", {left:,} unsent"
    head = f"## Phases\n\nWhole run: {said}. Latencies are of successful requests."
    if len(columns) > len(FIGURES):
        head += " What failed requests took is in the last columns."
    return f"{head}\n\n{table(('Phase', 'From', 'Length', *columns), rows)}"


def _alerts(result: Result) -> str:
    found = result.detection
    if found is None:
        return ""
    rows = [[esc(cell, 300) for cell in detection.cells(one)] for one in found.alerts[:MAX_ROWS]]
    return f"## Alerts\n\n{esc(detection.lead(found), 500)}\n\n{table(detection.COLUMNS, rows, len(detection.COLUMNS))}"


def _faults(plan: Plan, result: Result) -> str:
    if not result.faults:
        return ""
    parts = ["## Faults"]
    if len(result.faults) > 1 and (drawn := recorded_timeline(plan, result)):
        parts.append(f"```text\n{drawn}\n```")
    for fault in result.faults:
        if fault.injected_s is None:
            parts.append(f"**{esc(fault.name)}**: never injected.")
            continue
        state = "proven" if fault.proven else f"**NOT PROVEN**: {esc(fault.missing or 'no evidence', 300)}"
        parts.append(
            f"**{esc(fault.name)}**: injected at {text.moment(fault.injected_s)}, {undo_words(plan, fault)}; {state}."
        )
        rows = [
            ["✅" if e.first.held else "❌", e.first.source, esc(e.first.expected), esc(e.first.observed), e.when]
            for e in fold(fault.proof)[:20]
        ]
        if rows:
            parts.append(table(("", "Source", "Expected", "Observed", "At"), rows, 4))
    return "\n\n".join(parts)


def _requests(result: Result) -> str:
    """Each request name in the fault phase beside baseline's p95, the worst first; then over the whole run."""
    parts = []
    fault = sorted((row for row in result.requests if row.phase == "fault"), key=lambda r: -(r.error_rate or 0.0))
    before = {row.name: row.p95_ms for row in result.requests if row.phase == "baseline"}
    if fault:
        columns = columns_for(fault)
        rows = [[esc(r.name, 80), *figures(r, columns), text.ms(before.get(r.name))] for r in fault[:MAX_ROWS]]
        parts.append(f"## Requests (fault phase)\n\n{table(('Name', *columns, 'p95 in baseline'), rows)}")
    whole = request_rows(result)
    if whole and (result.totals or not fault):
        columns = columns_for(whole)
        where = "whole run" if result.totals else f"{esc(whole[0].phase)} phase"
        rows = [[esc(row.name, 80), *figures(row, columns)] for row in whole[:MAX_ROWS]]
        parts.append(f"## Requests ({where})\n\n{table(('Name', *columns), rows)}")
    return "\n\n".join(parts)


def _errors(result: Result) -> str:
    if not result.errors:
        return ""
    rows = [
        [
            esc(error.kind),
            esc(error.name or "(no request)", 80),
            text.count(error.count),
            text.moment(error.first_s),
            text.moment(error.last_s),
            text.markdown_code(text.excerpt(error.example, 240), 240) if error.example else "",
        ]
        for error in sorted(result.errors, key=lambda error: -error.count)[:MAX_ROWS]
    ]
    return "## Errors\n\n" + table(("Kind", "Name", "Count", "First", "Last", "Example"), rows, 2)


def _traces(plan: Plan, result: Result) -> str:
    found = traces(plan, result)[:MAX_ROWS]
    rows = [
        [esc(t.name, 80), esc(t.why), t.phase, t.took, f"[{t.trace_id}]({t.link})" if t.link else t.trace_id]
        for t in found
    ]
    title = "## Trace ids that failed and slow requests were sent with"
    return f"{title}\n\n{table(COLUMNS, rows, len(COLUMNS))}" if rows else ""


def _next(plan: Plan, result: Result) -> str:
    found = findings(plan, result)
    if not found:
        return ""
    items = "\n".join(f"- **{esc(f.title)}.** {esc(f.seen, 500)} {esc(f.advice, 1000)}" for f in found)
    return f"## What to look at next\n\n{items}"


def _origin(plan: Plan, result: Result) -> str:
    # A fence longer than any run of backticks in the command cannot be closed by it.
    command = text.visible(reproduce(plan), 2000)
    fence = "```"
    while fence in command:
        fence += "`"
    about = f"{load_sentence(plan)}, {plan.stack} stack, seed {plan.seed}, experiment {plan.experiment}"
    if plan.provenance:
        p = plan.provenance
        about += f", harness {p.harness}, {p.machine}, {p.cpus} CPUs, target {p.target_version or 'version unknown'}"
    return f"## How to reproduce\n\n{fence}\n{command}\n{fence}\n\n{esc(about, 1000)}."
