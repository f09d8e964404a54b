"""`harness run --repeat N [--versus NAME]`: the same again in one session, or pairs of two versions."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.model.errors import UsageError

if TYPE_CHECKING:
    from harness.conductor.prepare import Planned

F = TypeVar("F", bound=Callable[..., Any])


def repeat_options(command: F) -> F:
    """What `run` and `plan` share of many runs, and where those before lie."""
    for option in (
        click.option(
            "--versus",
            metavar="NAME",
            help="N pairs: the target, and this version of it, which [versions.NAME] of harness.toml declares.",
        ),
        click.option(
            "--repeat",
            type=int,
            metavar="N",
            help="N times in one session, from 2 to 30: a group for `harness compare`.",
        ),
        click.option(
            "--out",
            envvar="HARNESS_OUT",
            default="runs",
            show_default=True,
            metavar="DIR",
            help="Where run directories go.",
        ),
    ):
        command = option(command)
    return command


def refuse(values: dict[str, Any]) -> None:
    """What cannot be whatever the plan is. Raises UsageError."""
    from harness.suite.repeat import check_times

    if values["repeat"] is not None:
        check_times(values["repeat"])
    if values["versus"] is None:
        return
    if values["repeat"] is None:
        raise UsageError("--versus: how many pairs?", hint=f"--repeat 10 --versus {values['versus']}")
    if values.get("keep"):
        raise UsageError("--keep leaves one stack up, and --versus starts one for each run")


def other_of(planned: Planned, values: dict[str, Any]) -> Planned | None:
    """The version to compare with; None without --versus. Raises UsageError."""
    from harness.suite.versions import other_version

    return None if values["versus"] is None else other_version(planned, values["versus"], values["config"])


def beforehand(planned: Planned, values: dict[str, Any]) -> list[str]:
    """What so many runs are and can show; empty for one."""
    from harness.suite.spread import beforehand as can_show
    from harness.suite.versions import shown
    from harness.suite.versus import told

    times, name = values["repeat"], values["versus"]
    if times is None:
        return []
    said = can_show(planned.plan, times, Path(values["out"]), paired=name is not None)
    return [said] if name is None else [*told(planned, times, name, shown(values["config"].versions[name])), said]


def run_repeat(planned: Planned, values: dict[str, Any]) -> int:
    from harness.analysis.suite.suite_file import SUITE
    from harness.cli.streams import print_result, view_of
    from harness.conductor.signals import Signals
    from harness.report.terminal.suite_summary import summary
    from harness.suite.repeat import repeated, write_group
    from harness.suite.run import run_suite

    suite = repeated(planned, values["repeat"])
    _say(planned, values)
    with Signals() as signals:
        ended = run_suite(
            suite,
            out=Path(values["out"]),
            view=view_of(values),
            command=shlex.join(["harness", *sys.argv[1:]]),
            signals=signals,
        )
        write_group(ended.run_dir, ended.result)
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        as_json = values["as_json"]
        text = (
            (ended.run_dir / SUITE).read_text()
            if as_json
            else summary(ended.result, ended.run_dir, None, colour=colour)
        )
        print_result(text, f"{ended.run_dir}/{SUITE}")
        signals.ignore_from_now()
    return ended.result.exit_code


def run_versus(planned: Planned, other: Planned, values: dict[str, Any]) -> int:
    from harness.cli.streams import print_result, view_of
    from harness.conductor.signals import Signals
    from harness.model.jsonl import encode
    from harness.report.sentences.text import visible
    from harness.report.terminal.comparison import lines
    from harness.suite.versions import shown
    from harness.suite.versus import COMPARISON, run_pairs

    _say(planned, values)
    name = values["versus"]
    with Signals() as signals:
        ended = run_pairs(
            planned,
            other,
            values["repeat"],
            name=name,
            declared=shown(values["config"].versions[name]),
            out=Path(values["out"]),
            view=view_of(values),
            command=shlex.join(["harness", *sys.argv[1:]]),
            signals=signals,
            say=_quiet(values),
        )
        if ended.comparison is None:
            click.echo(f"not compared: {ended.problem}", err=True)
        elif values["as_json"]:
            print_result(encode(ended.comparison).decode(), f"{ended.folder}/{COMPARISON}")
        else:
            print_result("\n".join(lines(ended.comparison)), f"{ended.folder}/{COMPARISON}")
        if not values["as_json"] or ended.comparison is None:
            again = visible(shlex.join(["harness", "compare", str(ended.folder)]), 300)
            click.echo(f"The pairs are in a group of their own; to compare them again: {again}", err=True)
        signals.ignore_from_now()
    return ended.exit_code


def _say(planned: Planned, values: dict[str, Any]) -> None:
    for line in beforehand(planned, values):
        _quiet(values)(line)


def _quiet(values: dict[str, Any]) -> Callable[[str], None]:
    """Progress, on stderr."""
    return (lambda line: None) if values["quiet"] else (lambda line: click.echo(line, err=True))
