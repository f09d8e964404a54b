"""`harness analyze`: judge a run again from its recorded files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from harness.cli.settings import debug_option


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, metavar="EXPR", help="Judge this target as well. Repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print result.json on stdout.")
@click.option("--dry-run", is_flag=True, help="Print the result, write nothing.")
@debug_option
def analyze(run_dir: Path, targets: tuple[str, ...], as_json: bool, dry_run: bool) -> int:
    """Recompute result.json from the recorded history: pure, no network, no locustfile."""
    from harness import api
    from harness.analysis import run_directory
    from harness.cli.streams import print_styled
    from harness.conductor.finish import write_reports
    from harness.model.errors import UsageError
    from harness.model.jsonl import encode_line
    from harness.report.terminal import summary as terminal

    result = api.analyze(run_dir, targets=targets)
    if not dry_run:
        try:
            run_directory.write_result(run_dir, result)
        except OSError as error:
            raise UsageError(
                f"{run_dir / run_directory.RESULT} cannot be written: {error.strerror}", hint="--dry-run writes nothing"
            ) from error
        write_reports(run_dir, lambda text: click.echo(text, err=True))
    if as_json:
        click.echo(encode_line(result).decode(), nl=False)
    else:
        plan = run_directory.read_plan(run_dir)
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        summary = run_directory.made_of(
            run_dir, lambda: terminal.summary(plan, result, run_dir, width=100, colour=colour)
        )
        print_styled(summary)
    return result.exit_code
