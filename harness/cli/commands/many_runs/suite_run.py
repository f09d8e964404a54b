"""`harness suite [SUITE.yaml]`: many experiments in one session."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import experiment_options
from harness.cli.settings import Told, Written, laid_under
from harness.model.errors import UsageError
from harness.model.files import read_limited
from harness.model.options import DURATION

if TYPE_CHECKING:
    from harness.model.records.many_runs.suite import SuiteResult
    from harness.plan.suite.suite_file import SuiteFile
    from harness.suite.prepare import PlannedSuite
    from harness.suite.run import Accepted


@click.command(name="run", cls=Told)
@click.argument("suite_file", required=False, metavar="[SUITE.yaml]")
@click.option("--profile", metavar="NAME", help="quick or standard, made from what is declared.  [default: standard]")
@click.option(
    "--only", multiple=True, metavar="PATTERN", help="Only experiments of such a name, e.g. 'redis-*'. Repeatable."
)
@click.option(
    "--time-limit",
    "time_limit_s",
    type=Written(DURATION),
    metavar="DURATION",
    help="What does not fit in is not run; what was broken last time comes first.",
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Go on with a suite that ended early; give its arguments again.",
)
@click.option(
    "--base",
    "base_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The accepted outcomes to compare with.  [default: resilience-base.json, if it is there]",
)
@experiment_options
@click.option(
    "--out",
    envvar="HARNESS_OUT",
    default="runs",
    show_default=True,
    metavar="DIR",
    help="Where its folder goes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print suite.json on stdout, and nothing else there.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--no-live", is_flag=True, help="Plain lines instead of the live view.")
@click.option("--debug", is_flag=True, help="Tracebacks and debug logs.")
def run(**values: Any) -> int:
    """Run a suite: one stack, one load, an experiment for each thing that can break, and a resilience report.

    Without a file its experiments are made from the declared dependencies. The options are those of `run`, and hold
    for every experiment. `harness suite accept DIR` accepts the outcomes, for later ones to be compared with.

    \b
    harness suite --profile quick
    harness suite checkout.yaml --only 'db-*'
    """
    from harness.analysis.suite.suite_file import SUITE
    from harness.cli.streams import print_commands, print_result, view_of
    from harness.conductor.signals import Signals
    from harness.model.one_call import one_call
    from harness.report.annotations import annotations_of
    from harness.report.terminal.suite_summary import summary
    from harness.suite.prepare import broken_first
    from harness.suite.resume import check_same, read_earlier
    from harness.suite.run import run_suite

    earlier = read_earlier(values["resume"]) if values["resume"] is not None else None
    if earlier is not None and values["seed"] is None:
        values["seed"] = earlier.result.seed
    planned = planned_from(values)
    command = shlex.join(["harness", *sys.argv[1:]])
    if earlier is not None:
        check_same(earlier, planned)
        # What carries the whole suite out again, and not what went on with it; its record may be anybody's.
        command = earlier.result.command if one_call(earlier.result.command) else command
    if values["time_limit_s"] is not None and (last := _last(Path(values["out"]))) is not None:
        planned = broken_first(planned, last)
    accepted = _accepted(values["base_file"])
    planned.check()
    with Signals() as signals:
        ended = run_suite(
            planned,
            out=Path(values["out"]),
            view=view_of(values),
            command=command,
            signals=signals,
            time_limit_s=values["time_limit_s"],
            accepted=accepted,
            earlier=earlier,
        )
        if values["as_json"]:
            text = (ended.run_dir / SUITE).read_text()
        else:
            colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
            text = summary(ended.result, ended.run_dir, ended.gate, colour=colour)
        print_result(text, f"{ended.run_dir}/{SUITE}")
        if os.environ.get("GITHUB_ACTIONS") == "true":
            print_commands(annotations_of(ended.result, ended.gate))
        signals.ignore_from_now()
    return ended.result.exit_code


def _accepted(given: Path | None) -> Accepted | None:
    """What was accepted, and is owned. Raises UsageError for a file that is named and is not there."""
    from harness.analysis.suite.base_files import BASE, known_file, read_base, read_known
    from harness.model.clock import today
    from harness.suite.run import Accepted

    path, day = given or Path(BASE), today()
    base = read_base(path)
    if base is None:
        if given is not None:
            raise UsageError(f"--base {given}: no such file", hint="harness suite accept DIR writes one")
        return None
    return Accepted(base=base, known=read_known(known_file(path), day), today=day)


def _last(out: Path) -> SuiteResult | None:
    """The newest suite there that can be read."""
    from harness.analysis.suite.suite_file import read_suite

    for folder in sorted(out.glob("*-suite"), reverse=True)[:20]:
        try:
            return read_suite(folder)
        except UsageError:
            continue
    return None


def planned_from(values: dict[str, Any]) -> PlannedSuite:
    """Raises UsageError; nothing was touched but that the locustfile was described."""
    file = read(values["suite_file"]) if values["suite_file"] is not None else None
    if file is not None and values["profile"] is not None:
        raise UsageError("--profile makes a suite of its own", hint=f"write `profile: NAME` in {file.name}")
    return planned_of(values, file, values["profile"] or "standard", values["only"])


def planned_of(
    values: dict[str, Any], file: SuiteFile | None, profile_name: str = "standard", only: tuple[str, ...] = ()
) -> PlannedSuite:
    """What `harness suite` and `harness plan SUITE.yaml` do alike. values: the options of `run`. Raises UsageError."""
    from harness.cli.options import decode
    from harness.suite.prepare import plan_suite

    if values["faults"]:
        raise UsageError("--fault belongs to a single run", hint="choose experiments of the suite with --only")
    if file is not None:
        values = laid_under(values, file.settings, file.name, file.where)
    return plan_suite(decode(values), values.get("config"), file=file, profile_name=profile_name, only=only)


def read(path: str) -> SuiteFile:
    """Raises UsageError for a file that cannot be read, and for anything in it that is not right."""
    from harness.plan.files.strict_yaml import MAX_BYTES
    from harness.plan.suite.suite_file import decode

    try:
        content = read_limited(Path(path), MAX_BYTES)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file", hint="without a file: harness suite --profile quick") from None
    return decode(content, path)


def suite_in(path: str) -> SuiteFile | None:
    """The suite of a file, None where it holds a single experiment or is not there. Raises UsageError."""
    from harness.plan.files.strict_yaml import MAX_BYTES
    from harness.plan.suite.suite_file import decode, is_suite

    try:
        content = read_limited(Path(path), MAX_BYTES)
    except FileNotFoundError:
        return None
    return decode(content, path) if is_suite(content, path) else None
