"""`harness report`: render a judged run, or a suite."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli.commands.many_runs.suite import base_option, base_path
from harness.cli.settings import debug_option


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["html", "md", "json", "junit", "comment"]),
    default="html",
    show_default=True,
    help="html: one self-contained page; md: for a pull request; json: result.json or suite.json; junit: for CI; "
    "comment: of a suite, against what was accepted of it, for a pull request.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write there, not on stdout; - is stdout.")
@base_option
@debug_option
def report(run_dir: Path, format_: str, out: Path | None, base_file: Path | None) -> int:
    """Render the report of a run, or of a suite, from its recorded files.

    Needs no network and no locustfile. A run and a suite write report.html, report.md and junit.xml themselves; this
    makes them again, for example after `harness analyze`.

    \b
    harness report runs/20261123-160000-redis-down-target --format md
    harness report runs/20261123-160000-redis-down-target --out report.html
    """
    from harness.model.clock import today
    from harness.model.errors import UsageError
    from harness.report.files import render
    from harness.report.sentences.text import visible_lines
    from harness.report.suite import files as suite_files

    if out is None and format_ == "html" and sys.stdout.isatty():
        raise UsageError(
            "report.html is a page for a browser, too much for a terminal",
            hint="name a file with --out, or pipe it",
        )
    if base_file is not None and format_ != "comment":
        raise UsageError("--base goes with --format comment")
    if format_ == "comment":
        text = _comment(run_dir, base_file)
    else:
        of_suite = suite_files.is_suite(run_dir)
        text = suite_files.render(run_dir, format_, today()) if of_suite else render(run_dir, format_)
    if out is None or str(out) == "-":
        if format_ != "html":  # escaped already, and no terminal
            text = visible_lines(text)
        click.echo(text.encode("utf-8", "backslashreplace"), nl=not text.endswith("\n"))
        return 0
    try:
        out.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error
    click.echo(f"written: {out}", err=True)
    return 0


def _comment(suite_dir: Path, base_file: Path | None) -> str:
    """A suite against what was accepted of it."""
    from harness.analysis.suite.base_files import known_file, read_base, read_known
    from harness.analysis.suite.gate import gate
    from harness.analysis.suite.suite_file import read_suite
    from harness.model.clock import today
    from harness.report import comment

    path, day = base_path(base_file), today()
    suite, base = read_suite(suite_dir), read_base(path)
    known = read_known(known_file(path), day)
    return comment.render(suite, None if base is None else gate(base, known, suite, day), day)
