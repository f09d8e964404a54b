"""`harness suite`: many experiments in one session, and what is accepted of them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from harness.cli.commands.many_runs.suite_run import run
from harness.cli.settings import RunGroup, debug_option

base_option = click.option(
    "--base",
    "base_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The accepted outcomes.  [default: resilience-base.json in the current directory]",
)


@click.group(cls=RunGroup)
def suite() -> None:
    """Run a suite of experiments, or accept what one has found."""


suite.add_command(run)


@suite.command()
@click.argument("suite_dir", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--owner", required=True, metavar="WHO", help="Who accepts, and owns what is newly broken.")
@click.option("--reason", default="", metavar="TEXT", help="Why what is newly broken is accepted.")
@click.option("--until", metavar="DATE", help="The last day on which it is: 2027-01-31, at most 180 days ahead.")
@click.option("--ticket", default="", metavar="TEXT", help="Where it is being worked on.")
@base_option
@debug_option
def accept(suite_dir: Path, owner: str, reason: str, until: str | None, ticket: str, base_file: Path | None) -> int:
    """Accept the outcomes of a suite, for later ones to be compared with.

    Writes resilience-base.json, and resilience-known.toml beside it: commit both. What is broken needs an owner, a
    reason and a last day; what is known already keeps its own. Nothing else writes these files.

    \b
    harness suite accept runs/20261123-160000-suite --owner team-checkout
    harness suite accept runs/20261123-160000-suite --owner me --reason "no fallback yet" --until 2027-01-31
    """
    from harness.analysis.suite.accept import accepted
    from harness.analysis.suite.age import by_reason, stale, stale_words
    from harness.analysis.suite.base_files import known_file, read_base, read_known, write_accepted
    from harness.analysis.suite.suite_file import read_suite
    from harness.model.clock import today
    from harness.model.errors import UsageError
    from harness.report.sentences.text import visible

    if not owner.strip():
        raise UsageError("--owner must not be empty", hint="a person or a team that can be asked")
    found = read_suite(suite_dir)
    path = base_path(base_file)
    day = today()
    base, known = accepted(
        found,
        owner=owner,
        today=day,
        reason=reason,
        until=_day(until),
        ticket=ticket,
        base=read_base(path),
        known=read_known(known_file(path), day),
    )
    for one in by_reason(stale(found, day)):
        click.echo(f"stale, and accepted all the same: {visible(stale_words(one), 500)}", err=True)
    for written in write_accepted(path, base, known):
        click.echo(f"written: {visible(str(written), 4000)}", err=True)
    unknown = sum(one.outcome in ("unknown", "not_run") for one in base.experiments.values())
    click.echo(
        f"accepted: {_many(len(base.experiments), 'experiment')}, "
        f"{_many(len(known), 'known weakness', 'known weaknesses')}"
        + (f"; of {unknown} nothing is known" if unknown else "")
    )
    return 0


def _many(n: int, one: str, more: str = "") -> str:
    return f"{n} {one if n == 1 else more or f'{one}s'}"


def base_path(given: Path | None) -> Path:
    from harness.analysis.suite.base_files import BASE

    return given if given is not None else Path(BASE)


def _day(text: str | None) -> date | None:
    from harness.model.errors import UsageError

    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--until {text!r} is no date", hint="for example --until 2027-01-31") from None
