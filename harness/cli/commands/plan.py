"""`harness plan`: what `run` would do."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

from harness.cli.options import experiment_options
from harness.cli.settings import Told, debug_option


@click.command(cls=Told)
@click.argument("experiment", required=False, metavar="[EXPERIMENT.yaml]")
@experiment_options
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON, as plan.json would be.")
@debug_option
def plan(**values: Any) -> int:
    """Show the timeline, the exact changes and their undo, and the expected request mix.

    Takes the arguments of `run`. Executes the locustfile (in a child process, to read its classes) and touches
    nothing else.
    """
    import msgspec

    from harness.cli.commands.experiment import with_file
    from harness.cli.options import plan_from

    shown = plan_from(with_file(values)).told
    if values["as_json"]:
        click.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return 0
    from harness.report.terminal.plan import plan_text

    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    click.echo(plan_text(shown, width=width, ascii_only=not _shows("\u2588\u258c\u25b2\u2502")))
    return 0


def _shows(text: str) -> bool:
    """Whether what reads the output can be expected to show these characters."""
    if os.environ.get("TERM") in ("dumb", "linux"):
        return False
    try:
        text.encode(getattr(sys.stdout, "declared", sys.stdout.encoding) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
