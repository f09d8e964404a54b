"""`harness run`: the main job."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.options import experiment_options
from harness.cli.settings import Told

if TYPE_CHECKING:
    from harness.conductor.prepare import Planned


@click.command(cls=Told)
@click.argument("experiment", required=False, metavar="[EXPERIMENT.yaml]")
@experiment_options
@click.option(
    "--out", envvar="HARNESS_OUT", default="runs", show_default=True, metavar="DIR", help="Where run directories go."
)
@click.option(
    "--repeat", type=int, metavar="N", help="N times in one session, from 2 to 30: a group for `harness compare`."
)
@click.option("--keep", is_flag=True, help="Leave the stack up after the run, as `harness stack up` does.")
@click.option("--json", "as_json", is_flag=True, help="Print result.json on stdout, and nothing else there.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@click.option("--no-live", is_flag=True, help="Plain lines instead of the live view.")
@click.option("--debug", is_flag=True, help="Tracebacks and debug logs.")
def run(**values: Any) -> int:
    """Run an experiment and leave a report.

    Starts load, proves that every fault is on, undoes and verifies it whatever happens, and judges from the
    recorded requests. Executes the locustfile. EXPERIMENT.yaml holds what the experiment is (scenario,
    phases, targets, seed) and a timeline of faults; what is typed beside it counts more.

    \b
    harness run --fault redis-down --scenario target
    harness run chaos.yaml --seed 7
    harness run --fault none --scenario baseline --host http://127.0.0.1:8000 --locustfile shop.py
    harness run --fault db-connection-limit:limit=2 --target 'fault: error_rate < 5%'
    """
    import msgspec

    from harness.cli.commands.experiment import with_file
    from harness.cli.options import plan_from
    from harness.cli.streams import print_result, view_of
    from harness.conductor.run import run_planned
    from harness.conductor.signals import Signals
    from harness.report.terminal import summary as terminal

    values = with_file(values)
    planned = plan_from(values)
    planned.check()
    if values["keep"] and planned.running is None and planned.plan.stack != "external":
        from harness.cli.commands.stack import ensure_up

        ensure_up(planned.plan.stack, lambda line: click.echo(line, err=True) if not values["quiet"] else None)
        planned = plan_from(values)  # once more, for the stack that is up now
    if values["repeat"] is not None:
        return _repeat(planned, values)
    with Signals() as signals:
        ended = run_planned(
            planned,
            out=Path(values["out"]),
            view=view_of(values),
            command=shlex.join(["harness", *sys.argv[1:]]),
            signals=signals,
        )
        if values["as_json"]:
            text = msgspec.json.format(msgspec.json.encode(ended.result), indent=2).decode()
        else:
            colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
            width = min(os.get_terminal_size().columns, 120) if sys.stdout.isatty() else 100
            text = terminal.summary(ended.plan, ended.result, ended.run_dir, width=width, colour=colour)
        print_result(text, f"{ended.run_dir}/result.json")
        signals.ignore_from_now()
    return ended.result.exit_code


def _repeat(planned: Planned, values: dict[str, Any]) -> int:
    from harness.analysis.suite.suite_file import SUITE
    from harness.cli.streams import print_result, view_of
    from harness.conductor.signals import Signals
    from harness.report.terminal.suite_summary import summary
    from harness.suite.repeat import repeated, write_group
    from harness.suite.run import run_suite

    suite = repeated(planned, values["repeat"])
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
