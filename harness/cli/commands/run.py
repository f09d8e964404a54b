"""`harness run`: the main job."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.commands.many_runs.repeat import repeat_options
from harness.cli.options import experiment_options
from harness.cli.settings import Told


@click.command(cls=Told)
@click.argument("experiment", required=False, metavar="[EXPERIMENT.yaml]")
@experiment_options
@repeat_options
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
    harness run --fault redis-latency --repeat 10 --versus candidate
    """
    import msgspec

    from harness.cli.commands.experiment import with_file
    from harness.cli.commands.many_runs.repeat import other_of, refuse, run_repeat, run_versus
    from harness.cli.options import plan_from
    from harness.cli.streams import print_result, view_of
    from harness.conductor.run import run_planned
    from harness.conductor.signals import Signals
    from harness.report.terminal import summary as terminal
    from harness.suite.versions import check_version

    values = with_file(values)
    refuse(values)
    planned = plan_from(values)
    other = other_of(planned, values)
    planned.check()
    if other is not None:
        check_version(other, values["versus"])
        return run_versus(planned, other, values)
    if values["keep"] and planned.running is None and planned.plan.stack != "external":
        from harness.cli.commands.stack import ensure_up

        def tell(line: str) -> None:
            if not values["quiet"]:
                click.echo(line, err=True)

        ensure_up(planned.plan.stack, tell, with_alerts=values["with_alerts"])
        planned = plan_from(values)  # once more, for the stack that is up now
    if values["repeat"] is not None:
        return run_repeat(planned, values)
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
