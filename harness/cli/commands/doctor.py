"""`harness doctor`: would a run on this system mean something?"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

from harness.cli.options import decode, experiment_options
from harness.cli.settings import Told, debug_option, told


@click.command(cls=Told)
@experiment_options
@click.option(
    "--all-requests", "every", is_flag=True, help="Send also requests that may change something (POST, PUT, DELETE)."
)
@click.option(
    "--fix",
    is_flag=True,
    help="In a Locust file that init wrote, make comments of the requests that are refused (400 and above).",
)
@click.option("--json", "as_json", is_flag=True, help="The lines as JSON, for programs.")
@debug_option
def doctor(every: bool, fix: bool, as_json: bool, **values: Any) -> int:
    """Look at the system that harness.toml declares: would a run on it mean something?

    Each line is a fact, its evidence and its remedy. Takes the arguments of `run`. Executes the locustfile and sends
    each of its requests once or a few times, only those that change nothing (GET) unless it has no others; looks who is
    connected to the dependencies meanwhile; changes nothing else, but for what --fix says.

    \b
    Exit code 0: a run would mean something; 2: it is refused or cannot begin;
    3: it would begin and not mean anything.
    """
    import msgspec

    from harness.doctor.examine import examine
    from harness.doctor.terminal import text

    def say(line: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"{line} ...", err=True)

    context = click.get_current_context()
    found = examine(
        decode(values), values.get("config"), every=every, fix=fix, told=lambda error: told(error, context), say=say
    )
    if as_json:
        plain = {"exit_code": found.exit_code, **msgspec.to_builtins(found)}
        click.echo(msgspec.json.format(msgspec.json.encode(plain), indent=2).decode())
    else:
        from harness.report.terminal.plain import styled

        terminal = sys.stdout.isatty()
        width = min(shutil.get_terminal_size((80, 24)).columns, 100) if terminal else 80
        shown = text(found, width=width, colour=terminal and "NO_COLOR" not in os.environ)
        print(shown, file=styled(sys.stdout))
    return found.exit_code
