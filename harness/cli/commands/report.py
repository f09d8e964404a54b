"""`harness report`: render a judged run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli.settings import debug_option


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(["html", "md", "json", "junit"]),
    default="html",
    show_default=True,
    help="html: one self-contained page; md: for a pull request; json: result.json; junit: for CI.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write there, not on stdout; - is stdout.")
@debug_option
def report(run_dir: Path, format_: str, out: Path | None) -> int:
    """Render the report of a run from its recorded files.

    Needs no network and no locustfile. A run writes report.html, report.md and junit.xml itself; this makes them
    again, for example after `harness analyze`.

    \b
    harness report runs/20261123-160000-redis-down-target --format md
    harness report runs/20261123-160000-redis-down-target --out report.html
    """
    from harness.model.errors import UsageError
    from harness.report.files import render
    from harness.report.sentences.text import visible_lines

    if out is None and format_ == "html" and sys.stdout.isatty():
        raise UsageError(
            "report.html is a page for a browser, too much for a terminal",
            hint="name a file with --out, or pipe it",
        )
    text = render(run_dir, format_)
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
