"""`harness plan`: what `run` would do."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from harness.cli.commands.many_runs.repeat import repeat_options
from harness.cli.options import experiment_options
from harness.cli.settings import Told, debug_option
from harness.model.errors import UsageError

if TYPE_CHECKING:
    from harness.plan.gameday.plan_file import GameDayFile
    from harness.plan.suite.suite_file import SuiteFile


@click.command(cls=Told)
@click.argument("experiment", required=False, metavar="[EXPERIMENT.yaml|SUITE.yaml|GAMEDAY.yaml]")
@experiment_options
@repeat_options
@click.option("--json", "as_json", is_flag=True, help="The plan as JSON, as plan.json would be.")
@debug_option
def plan(**values: Any) -> int:
    """Show the timeline, the exact changes and their undo, and the expected request mix.

    Takes the arguments of `run`; of a suite file it shows every experiment, how long all take, and what cannot be
    decided at this rate; of a game day's plan every drill. Executes the locustfile (in a child process, to read its
    classes), reads the rules of the Prometheus in [alerts], and touches nothing else.
    """
    from harness.cli.commands.experiment import with_file
    from harness.cli.commands.many_runs.gameday import game_day_in
    from harness.cli.commands.many_runs.repeat import beforehand, other_of, refuse
    from harness.cli.commands.many_runs.suite_run import suite_in
    from harness.cli.options import plan_from
    from harness.conductor.prepare import with_rules

    width = shutil.get_terminal_size((100, 24)).columns if sys.stdout.isatty() else 100
    day = game_day_in(values["experiment"], only=False) if values["experiment"] is not None else None
    if day is not None:
        if values["repeat"] is not None or values["versus"] is not None:
            raise UsageError("--repeat is for a single experiment, and this file plans a game day")
        click.echo(_of_game_day(values, day, width))
        return 0
    file = suite_in(values["experiment"]) if values["experiment"] is not None else None
    if file is not None:
        if values["repeat"] is not None or values["versus"] is not None:
            raise UsageError("--repeat is for a single experiment, and this file holds a suite")
        click.echo(_of_suite(values, file, width))
        return 0
    refuse(values)
    values = with_file(values)
    planned = plan_from(values)
    other = other_of(planned, values)
    shown = with_rules(planned.told)
    more = beforehand(planned, values)
    if other is not None:
        more += [f"note: of B: {line}" for line in other.told.warnings if line not in shown.warnings]
    if values["as_json"]:
        click.echo(_json(shown))
        for line in more:
            click.echo(line, err=True)
        return 0
    from harness.report.terminal.plan import plan_text

    click.echo(plan_text(shown, width=width, ascii_only=not _shows("\u2588\u258c\u25b2\u2502")))
    for line in ("", *more) if more else ():
        click.echo(line)
    return 0


def _of_suite(values: dict[str, Any], file: SuiteFile, width: int) -> str:
    import msgspec

    from harness.cli.commands.many_runs.suite_run import planned_of
    from harness.conductor.prepare import with_rules
    from harness.report.terminal.suite_plan import suite_plan_text

    shown = planned_of(values, file).told
    base = with_rules(shown.base)
    notes = [text for text in base.warnings if text not in shown.base.warnings]
    shown = msgspec.structs.replace(shown, base=base, warnings=(*shown.warnings, *notes))
    return _json(shown) if values["as_json"] else suite_plan_text(shown, width=width)


def _of_game_day(values: dict[str, Any], file: GameDayFile, width: int) -> str:
    from harness.cli.commands.many_runs.gameday import planned_of
    from harness.report.terminal.gameday_plan import gameday_plan_text

    shown = planned_of(values, file).told
    return _json(shown) if values["as_json"] else gameday_plan_text(shown, width=width)


def _json(shown: Any) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(shown), indent=2).decode()


def _shows(text: str) -> bool:
    """Whether what reads the output can be expected to show these characters."""
    if os.environ.get("TERM") in ("dumb", "linux"):
        return False
    try:
        text.encode(getattr(sys.stdout, "declared", sys.stdout.encoding) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
