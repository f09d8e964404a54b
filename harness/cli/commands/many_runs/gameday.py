"""`harness gameday`: drills with people, on one session; a plan to begin with, and the record made anew."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import experiment_options
from harness.cli.settings import RunGroup, Told, debug_option, laid_under
from harness.model.errors import UsageError
from harness.model.files import read_limited

if TYPE_CHECKING:
    from harness.gameday.desk import Desk
    from harness.gameday.prepare import PlannedGameDay
    from harness.gameday.run import Opens
    from harness.model.records.many_runs.gameday import Role
    from harness.plan.gameday.plan_file import GameDayFile


@click.group(cls=RunGroup)
def gameday() -> None:
    """Drill with people: break things on purpose, on one running load, and leave a record."""


@gameday.command(cls=Told)
@click.argument("plan_file", metavar="PLAN.yaml")
@click.option("--rehearse", is_flag=True, help="Nobody is there: every drill once with short phases; would it work?")
@click.option("--no-web", is_flag=True, help="Commands are typed into this terminal.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Of the console on loopback.  [default: any]"
)
@click.option("--guests", metavar="ADDRESS:PORT", help="A second listener, over TLS, for people in other rooms.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Of the guests' listener, PEM.  [default: one made for the day]",
)
@click.option(
    "--certificate-key", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Its key, PEM."
)
@experiment_options
@click.option(
    "--out", envvar="HARNESS_OUT", default="runs", show_default=True, metavar="DIR", help="Where its folder goes."
)
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--debug", is_flag=True, help="Tracebacks and debug logs.")
def run(**values: Any) -> int:
    """Carry a game day out: the load runs all the time, drills begin when people say so.

    \b
    harness gameday init > gameday.yaml
    harness gameday gameday.yaml --rehearse
    harness gameday gameday.yaml --no-web
    """
    from harness.conductor.signals import Signals
    from harness.gameday.run import planned_length, run_game_day
    from harness.gameday.terminal import typed
    from harness.report.gameday import sentences

    planned = planned_from(values)
    planned.check()
    if values["rehearse"]:
        return _rehearse(planned, values)
    click.echo(planned_length(planned), err=True)
    with Signals() as signals:
        ended = run_game_day(
            planned,
            out=Path(values["out"]),
            view="none" if values["quiet"] else "lines",
            command=shlex.join(["harness", *sys.argv[1:]]),
            signals=signals,
            opens=typed if values["no_web"] else _console(planned, values),
        )
        if ended.problem:
            click.echo(f"{ended.problem}{f' ({ended.hint})' if ended.hint else ''}", err=True)
        if ended.record is not None:
            click.echo(sentences.headline(ended.record))
            click.echo(f"{ended.run_dir}/record.html")
        signals.ignore_from_now()
    return int(ended.exit_code)


@gameday.command(cls=Told)
@experiment_options
@debug_option
def init(**values: Any) -> int:
    """Print a commented plan, made from what is declared, for you to read, correct and save. Nothing is started."""
    from harness.cli.options import decode
    from harness.conductor.prepare import ground
    from harness.fault import registered
    from harness.plan.gameday.template import template

    on = ground(decode(values), values.get("config"))
    click.echo(template(on.dependencies, registered(), ours=on.stack.name != "external"), nl=False)
    return 0


@gameday.command()
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(("observer", "responder", "operator")),
    default="observer",
    show_default=True,
    help="As what; operator: instead of the one before, whose browser was lost.",
)
@click.option("--revoke", is_flag=True, help="Take their seat away instead.")
@debug_option
def invite(name: str, role: Role, revoke: bool) -> int:
    """Make a link for a guest, or the operator, of the game day that is going on here; it lets one browser in, once."""
    from harness.console.invitations import Wanted, ask

    given = ask(Wanted(name=name, role=role, revoke=revoke))
    if given.why_not:
        raise UsageError(f"{name}: {given.why_not}")
    click.echo(given.url or f"{name} has no seat any more")
    return 0


@gameday.command(name="report")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "format_",
    type=click.Choice(("html", "md", "csv", "checklist", "json")),
    help="Print this form, and write nothing.  [default: write all]",
)
@debug_option
def report(folder: Path, format_: str | None) -> int:
    """Make the record of a game day anew, from what people did and what its drills found."""
    from harness.cli.streams import print_result
    from harness.report.gameday.files import render, write

    if format_ is not None:
        print_result(render(folder, format_).rstrip("\n"), str(folder))
        return 0
    write(folder)
    click.echo(f"{folder}/record.html")
    return 0


def planned_from(values: dict[str, Any]) -> PlannedGameDay:
    """Raises UsageError; nothing was touched but that the locustfile was described."""
    file = game_day_in(values["plan_file"])
    if file is None:
        raise UsageError(f"{values['plan_file']}: no such file", hint="harness gameday init prints one to begin with")
    return planned_of(values, file)


def game_day_in(path: str, *, only: bool = True) -> GameDayFile | None:
    """What a file plans; None where it is not there, or, unless only game days are asked for, holds something else.
    Raises UsageError."""
    from harness.plan.files.strict_yaml import MAX_BYTES
    from harness.plan.gameday.plan_file import decode, is_game_day

    try:
        content = read_limited(Path(path), MAX_BYTES)
    except FileNotFoundError:
        return None
    return decode(content, path) if only or is_game_day(content, path) else None


def planned_of(values: dict[str, Any], file: GameDayFile) -> PlannedGameDay:
    """What `harness gameday` and `harness plan GAMEDAY.yaml` do alike. values: the options of `run`."""
    from harness.cli.options import decode
    from harness.gameday.prepare import plan_game_day

    if values["faults"]:
        raise UsageError("--fault belongs to a single run", hint="list drills in the plan")
    values = laid_under(values, file.suite.settings, file.suite.name, file.suite.where)
    return plan_game_day(file, decode(values), values.get("config"))


def _console(planned: PlannedGameDay, values: dict[str, Any]) -> Opens:
    """Raises UsageError for a listener that cannot be."""
    from harness.console.guests import guests_of
    from harness.console.link import Place, forms, opened
    from harness.fault import registered

    base = planned.suite.base
    dependencies = base.running.dependencies if base.running is not None else base.stack.describe()
    place = Place(port=values["port"], faults=forms(dependencies, registered()))
    guests = guests_of(values["guests"], values["certificate"], values["certificate_key"])

    def opens(desk: Desk, say: Callable[[str], None], private: Path) -> Callable[[], None]:
        return opened(guests.at(place, private), desk, say, private)

    return opens


def _rehearse(planned: PlannedGameDay, values: dict[str, Any]) -> int:
    from harness.conductor.signals import Signals
    from harness.gameday.rehearse import rehearse

    with Signals() as signals:
        found = rehearse(
            planned,
            out=Path(values["out"]),
            view="none" if values["quiet"] else "lines",
            command=shlex.join(["harness", *sys.argv[1:]]),
            signals=signals,
        )
        for line in found.lines:
            click.echo(line)
        signals.ignore_from_now()
    return int(found.exit_code)
