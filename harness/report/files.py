"""Reports from a run directory: each format and the file it is kept in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.model.errors import UsageError

if TYPE_CHECKING:
    from harness.analysis.run_directory import Run

FORMATS: Mapping[str, str] = MappingProxyType(
    {"html": "report.html", "md": "report.md", "json": "result.json", "junit": "junit.xml"}
)


def import_all() -> None:
    """Import everything that `render` and the printed summary need, and compile the template, ahead of its use."""
    import harness.analysis.run_directory
    import harness.analysis.verdict.timeline
    import harness.report.junit
    import harness.report.markdown
    import harness.report.terminal.summary  # noqa: F401
    from harness.report.html import document as html

    html.template()


def render(run_dir: Path, format_: str) -> str:
    """One report of a run that has been judged, as text.

    Raises UsageError naming what is wrong with the directory, its records or the format. html needs the recorded
    history and windows, the others only plan.json and result.json.
    """
    from harness.analysis import run_directory

    if format_ not in FORMATS:
        raise UsageError(f"no report format {format_!r}", hint=f"one of {', '.join(FORMATS)}")
    run_directory.missing(run_dir)
    return run_directory.made_of(run_dir, lambda: rendered(run_dir, format_))


def rendered(run_dir: Path, format_: str, run: Run | None = None) -> str:
    """The same for a directory of this run's own: what is wrong with its numbers is a bug, and raised as it is.
    run: its record, where that was read already."""
    from harness.analysis import run_directory
    from harness.model.files import read_limited

    result = run_directory.read_result(run_dir)
    if format_ == "json":
        return read_limited(run_dir / run_directory.RESULT, run_directory.MAX_BYTES, links=False).decode("utf-8")
    if format_ == "html":
        from harness.analysis.record.windows import WindowStore
        from harness.analysis.verdict.timeline import chart_data
        from harness.report.html import document as html

        if not (run_dir / run_directory.HISTORY).exists():
            # The run failed before anything could happen; its result says why, and that deserves a page too.
            plan = run_directory.read_plan(run_dir)
            return html.render(plan, result, chart_data(WindowStore(plan), ()), (), run_dir)
        run = run or run_directory.load_run(run_dir)
        return html.render(run.plan, result, chart_data(run.store, run.samples, run.history), run.history, run_dir)
    plan = run_directory.read_plan(run_dir)
    if format_ == "md":
        from harness.report import markdown

        return markdown.render(plan, result)
    from harness.report import junit

    return junit.render(plan, result)
