"""`harness run`: the main job."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from harness.cli.options import experiment_options
from harness.cli.settings import Told


@click.command(cls=Told)
@click.argument("experiment", required=False, metavar="[EXPERIMENT.yaml]")
@experiment_options
@click.option(
    "--out", envvar="HARNESS_OUT", default="runs", show_default=True, metavar="DIR", help="Where run directories go."
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
    from harness.cli.planning import plan_from, refuse_sample_requests
    from harness.cli.streams import print_result
    from harness.conductor.recording.log import RunLog
    from harness.conductor.run import run_experiment
    from harness.conductor.session import (
        Session,
        lock_names,
        make_run_dir,
        refuse_beside_living_run,
        run_state_dir,
    )
    from harness.conductor.signals import Signals
    from harness.fault import registered
    from harness.report.terminal import summary as terminal
    from harness.safety.active import find_active
    from harness.safety.locks.local import acquire
    from harness.stack.embedded import EmbeddedStack

    values = with_file(values)
    planned = plan_from(values)
    if planned.running is None:
        refuse_beside_living_run(planned.plan)
        planned.stack.check()
    refuse_sample_requests(planned)
    if values["keep"] and planned.running is None and planned.plan.stack != "external":
        from harness.cli.commands.stack import ensure_up

        ensure_up(planned.plan.stack, lambda line: click.echo(line, err=True) if not values["quiet"] else None)
        planned = plan_from(values)  # once more, for the stack that is up now
    state_dir = run_state_dir(planned.plan.experiment)
    locks = acquire(lock_names(planned.plan, planned.running), owner=planned.plan.experiment, folder=state_dir)
    try:
        run_dir = make_run_dir(Path(values["out"]), planned.plan.experiment)
    except BaseException:
        locks.release()
        raise
    stack = EmbeddedStack(logs=run_dir / "logs") if planned.plan.stack == "embedded" else planned.stack
    with Signals() as signals:
        with RunLog(run_dir, view_of(values)) as log:
            for left in find_active():
                log.say(f"run {left.owner} ended without undoing everything; mend it with: harness heal {left.folder}")
            for warning in planned.plan.warnings:
                log.say(f"note: {warning}")
            if planned.plan.control_run:
                log.say("control run: no fault will be injected (--fault NAME injects one; harness faults lists them)")
            session = Session(
                run_dir=run_dir,
                state_dir=state_dir,
                stack=stack,
                running=planned.running,
                allowed=planned.allowed,
                say=log.say,
                locks=locks,
            )
            ended = run_experiment(
                planned.plan,
                session,
                faults=registered(),
                command=shlex.join(["harness", *sys.argv[1:]]),
                say=log.say,
                show=log.show,
                signals=signals,
            )
        if values["as_json"]:
            text = msgspec.json.format(msgspec.json.encode(ended.result), indent=2).decode()
        else:
            colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
            width = min(os.get_terminal_size().columns, 120) if sys.stdout.isatty() else 100
            text = terminal.summary(ended.plan, ended.result, run_dir, width=width, colour=colour)
        print_result(text, f"{run_dir}/result.json")
        signals.ignore_from_now()
    return ended.result.exit_code


def view_of(values: dict[str, Any]) -> str:
    """Which view people get on stderr: live on a terminal, lines elsewhere, none when quiet."""
    if values["quiet"]:
        return "none"
    if values["no_live"] or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or os.environ.get("CI"):
        return "lines"
    return "live"
