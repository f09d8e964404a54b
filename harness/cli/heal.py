"""`harness heal`: the keeper's healing, in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.safety.heal import Healed


@click.command()
@click.argument("run_dir", required=False, type=click.Path(path_type=Path))
@click.option("--all", "all_", is_flag=True, help="Every run that died on this machine.")
@click.option("--quiet", "-q", is_flag=True, help="Only what is left, if anything.")
@click.option("--debug", is_flag=True, help="Tracebacks.")
def heal(run_dir: Path | None, all_: bool, quiet: bool, debug: bool) -> int:
    """Undo what an interrupted run left behind: faults, processes, temporary folders.

    RUN_DIR is the run's directory, its name, or its state folder. Without one, list the runs that left something.
    Safe to repeat: what is undone already, or was repaired by somebody, is left as it is. It reads the journal that
    the run wrote before each change and verifies every undo on the running system. Exit code 5 says that something
    is left and how to mend it.
    """
    from harness.model.errors import UsageError
    from harness.safety.heal import find_active, heal_all
    from harness.safety.heal import heal as heal_one

    def say(text: str) -> None:
        if not quiet:
            click.echo(text, err=True)

    if run_dir is not None and all_:
        raise UsageError("name one run, or --all", hint="harness heal --all heals every run that died")
    if all_:
        healed = heal_all(say)
    elif run_dir is not None:
        healed = [heal_one(_folder_of(run_dir), say)]
    else:
        left = find_active()
        for item in left:
            what = ", ".join((*item.pending, *item.servers, *item.locks)) or item.trouble or "a temporary folder"
            click.echo(f"{item.folder.name} ({item.host}, since {item.since}): {what}")
        if not left:
            click.echo("nothing is left of any run")
            return 0
        raise UsageError("name one of these runs, or --all")
    for one in healed:
        _print(one, quiet)
    if not healed and not quiet:
        click.echo("nothing is left of any run")
    return 5 if any(one.left for one in healed) else 0


def _folder_of(run_dir: Path) -> Path:
    """The state folder of a run, or its run directory once the state folder is gone."""
    from harness.model.errors import UsageError
    from harness.safety.heal import active_dir
    from harness.safety.journal import JOURNAL, KEEPER

    state = active_dir() / run_dir.resolve().name
    if state.is_dir():
        return state
    if run_dir.is_dir() and any((run_dir / name).exists() for name in (JOURNAL, KEEPER, "plan.json")):
        return run_dir
    raise UsageError(
        f"{run_dir} is no run's directory", hint="`harness heal` lists the runs that left something; --all heals them"
    )


def _print(healed: Healed, quiet: bool) -> None:
    name = Path(healed.folder).name
    if not quiet:
        for outcome in healed.outcomes:
            if outcome.state != "unverified":
                word = "undone and verified" if outcome.state == "verified" else "gone with what it was on"
                click.echo(f"{name}: {outcome.record_id}: {word}")
        if healed.killed:
            click.echo(f"{name}: ended {', '.join(healed.killed)}")
        for folder in healed.removed:
            click.echo(f"{name}: removed {folder}")
        if not (healed.outcomes or healed.killed or healed.removed or healed.left):
            click.echo(f"{name}: nothing is left")
    for line in healed.left:
        click.echo(f"{name}: LEFT: {line}")
