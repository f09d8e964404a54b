"""`harness stack up|down|status|logs`: servers or containers kept up between runs by a keeper of their own."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from harness.cli.settings import Told, allow_host_option, config_option, debug_option

if TYPE_CHECKING:
    from harness.config.file import Configuration
    from harness.model.records.stack import Progress, Stack, StackName, StackUp
    from harness.stack.registry import Kept

NAMES = ("toxiproxy", "valkey", "postgres", "kafka", "api", "prometheus", "alertmanager")
STACK = click.option(
    "--stack",
    "chosen",
    type=click.Choice(["embedded", "compose", "external"]),
    envvar="HARNESS_STACK",
    help="Which one.  [default: external with a [target] in harness.toml, else embedded]",
)
OURS = click.option(
    "--stack",
    "chosen",
    type=click.Choice(["embedded", "compose"]),
    default="embedded",
    show_default=True,
    help="Which one: servers of this machine, or containers by Docker Compose.",
)
ALIASES = {"redis": "valkey", "db": "postgres", "postgresql": "postgres"}


@click.group()
def stack() -> None:
    """Keep the embedded servers, or the containers of the compose stack, up between runs.

    `harness run` uses the stack that is up; without one it brings up its own and takes it down again. Runs on a
    stack that is up share its data.
    """


@stack.command()
@OURS
@click.option(
    "--with-alerts", is_flag=True, help="Embedded: with a Prometheus and an Alertmanager of PATH that look at the API."
)
@click.option("--quiet", "-q", is_flag=True, help="Print the target's URL only.")
@debug_option
def up(chosen: StackName, with_alerts: bool, quiet: bool) -> int:
    """Bring the stack up; it stays until `harness stack down`.

    Prints the target's URL. Settings of the sample API (API_WORKERS, DB_POOL_SIZE, ...) are taken from the
    environment now, not from that of later runs.
    """

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    ready = ensure_up(chosen, say, with_alerts=with_alerts)
    if ready.alerts is not None:
        say(f"Prometheus: {ready.alerts.prometheus}, Alertmanager: {ready.alerts.alertmanager}")
    click.echo(ready.target.url)
    return 0


def ensure_up(name: StackName, say: Progress, *, with_alerts: bool = False) -> StackUp:
    """The stack of this name, brought up to stay if it is not up yet. Raises SetupError, UsageError."""
    from harness.model.errors import UsageError
    from harness.safety.journal.private import private_folder
    from harness.stack import registry
    from harness.stack.starting.fetch import locked

    private_folder(registry.folder())
    with locked(registry.file(name), title="Stack", progress=say):
        kept = registry.read(name)
        if kept is not None and registry.keeper_alive(kept) and kept.up is not None:
            running = registry.running(name)
            assert running is not None
            if with_alerts and running.alerts is None:
                raise UsageError(
                    "--with-alerts: the stack that is up was brought up without",
                    hint="harness stack down; then: harness stack up --with-alerts",
                )
            say(f"it is up already, since {kept.since}")
            return running
        if kept is not None:
            _take_down(kept, name, say_left_only=True)
        ready = _bring_up(name, say, with_alerts=with_alerts)
    say(f"The stack is ready after {ready.ready_s:.1f} s. It stays until: harness stack down{_option(name)}")
    return ready


@stack.command()
@OURS
@click.option("--force", is_flag=True, help="Also while a run uses it, or a dead run has left changes on it.")
@click.option("--quiet", "-q", is_flag=True, help="Only what is left, if anything.")
@debug_option
def down(chosen: StackName, force: bool, quiet: bool) -> int:
    """Stop the stack and remove its data. Safe to repeat."""
    from harness.safety.locks.local import acquire
    from harness.safety.locks.names import target_names
    from harness.stack import registry

    kept = registry.read(chosen)
    if kept is None:
        if not quiet:
            click.echo("no stack is up")
        return 0
    if force or kept.up is None or not registry.keeper_alive(kept):
        return _take_down(kept, chosen, say_left_only=quiet)
    # The lock that a run holds on its target: refused while one uses the stack. A dead run's changes are healed
    # first, while the servers can still show that they are undone.
    with acquire(target_names(kept.up.target.url), owner="harness stack down"):
        return _take_down(kept, chosen, say_left_only=quiet)


@stack.command(cls=Told)
@config_option
@STACK
@allow_host_option("External: also look at this host, which is not loopback. Repeatable.", "HARNESS_ALLOW_HOST")
@click.option("--json", "as_json", is_flag=True, help="Addresses and processes as JSON, for scripts.")
@debug_option
def status(
    config: Configuration | None,
    chosen: str | None,
    allow_hosts: tuple[str, ...],
    as_json: bool,
) -> int:
    """Parts, processes, addresses and whether they answer. Exit code 0 when all do, 4 otherwise.

    Of the embedded stack, or of the system that harness.toml declares: whatever a run would refuse is told, part by
    part, with how to mend it. Changes nothing.
    """
    if chosen == "compose":
        return _compose_status(as_json)
    if (own := _external(config, chosen)) is not None:
        from harness.cli.commands import stack_external

        return stack_external.status(own[0], own[1], allow_hosts=allow_hosts, as_json=as_json)
    return _embedded_status(as_json)


def _external(config: Configuration | None, chosen: str | None) -> tuple[Configuration, str] | None:
    """The configuration and its target's URL where the external stack is meant. Raises UsageError."""
    from harness.cli.options import choose_stack

    name, url = choose_stack({"stack": chosen, "host": None, "config": config})
    if name == "embedded":
        return None
    assert config is not None and url is not None
    return config, url


def _compose_status(as_json: bool) -> int:
    from harness.cli.commands import stack_compose
    from harness.stack import registry

    kept = registry.read("compose")
    if kept is None or kept.up is None or not registry.keeper_alive(kept):
        return _not_up(kept, "compose")
    since = f"up for {_age(kept.since)} (since {kept.since})"
    return stack_compose.status(kept.up, since=since, as_json=as_json)


def _not_up(kept: Kept | None, name: StackName) -> int:
    """Says why there is nothing to show; exit code 4."""
    from harness.stack import registry

    if kept is None:
        click.echo("no stack is up")
    elif not registry.keeper_alive(kept):
        click.echo(f"the stack that was started {kept.since} is dead; tidy up with: harness stack down{_option(name)}")
    else:
        click.echo(f"starting since {kept.since} (keeper {kept.keeper})")
    return 4


def _option(name: StackName) -> str:
    return "" if name == "embedded" else f" --stack {name}"


def _embedded_status(as_json: bool) -> int:
    from harness.cli.commands.stack_external import table
    from harness.model.jsonl import encode_line
    from harness.stack import registry
    from harness.stack.health import parts

    kept = registry.read()
    if kept is None or kept.up is None or not registry.keeper_alive(kept):
        return _not_up(kept, "embedded")
    if as_json:
        click.echo(encode_line(kept.up).decode(), nl=False)
        return 0
    click.echo(f"embedded, up for {_age(kept.since)} (since {kept.since}), keeper {kept.keeper}, {kept.up.folder}")
    found = parts(kept.up)
    rows: list[tuple[str, ...]] = [("PART", "PID", "ADDRESS", "THROUGH ITS PROXY", "STATE")]
    for part in found:
        state = "ok" if part.trouble is None else part.trouble
        rows.append((part.name, str(part.pid or "-"), part.address, part.path or "-", state))
    table(rows)
    return 0 if all(part.trouble is None for part in found) else 4


@stack.command(cls=Told)
@click.argument("part", required=False)
@config_option
@STACK
@click.option("--lines", "-n", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes then, until Ctrl-C.")
@debug_option
def logs(
    part: str | None,
    config: Configuration | None,
    chosen: str | None,
    lines: int,
    follow: bool,
) -> int:
    """The last lines of the servers' logs.

    PART: toxiproxy, valkey, postgres, kafka, api, prometheus or alertmanager (compose: its services), or a name of
    harness.toml whose `log` it names; all of them without.
    """
    from harness.cli import log_tail as following
    from harness.model.errors import UsageError, unknown
    from harness.stack import registry

    if chosen == "compose":
        from harness.cli.commands import stack_compose

        on = registry.read("compose")
        if on is None or on.up is None:
            raise UsageError("no stack is up", hint="a run's own logs are in its run directory, below logs/")
        return stack_compose.logs(on.up, part, lines, follow=follow)
    if (own := _external(config, chosen)) is not None:
        from harness.cli.commands import stack_external

        return stack_external.logs(own[0], part, lines, follow=follow)
    name = None if part is None else ALIASES.get(part, part)
    if name is not None and name not in NAMES:
        raise unknown("part", name, NAMES)
    kept = registry.read()
    if kept is None or kept.up is None or kept.up.folder is None:
        raise UsageError("no stack is up", hint="a run's own logs are in its run directory, below logs/")
    folder = Path(kept.up.folder) / "logs"
    every = NAMES if kept.up.alerts is not None else NAMES[:-2]
    files = [(each, folder / f"{each}.log") for each in (every if name is None else (name,))]
    return following.show(files, lines, follow=follow, ended=lambda: not folder.exists())


def _bring_up(name: StackName, say: Progress, *, with_alerts: bool) -> StackUp:
    """Keeper, registry, servers: in this order, so that whatever is started can be found and stopped."""
    import tempfile

    import msgspec
    import psutil

    from harness.adapters.processes.identity import boot_id
    from harness.model.clock import wall
    from harness.safety.keeper.client import Keeper
    from harness.stack import registry

    brought = _stack(name, with_alerts=with_alerts)
    brought.check()
    with _signals_interrupt():
        state = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=registry.folder()))
        keeper = Keeper.start(state, detached=True)
        try:
            kept = registry.Kept(
                since=wall(),
                keeper=keeper.pid,
                keeper_start=psutil.Process(keeper.pid).create_time(),
                boot=boot_id(),
                state=str(state),
            )
            registry.write(kept, name)
            ready = brought.up(keeper, say)
            registry.write(msgspec.structs.replace(kept, up=ready), name)
        except BaseException:
            say("stopping what was started")
            keeper.finish()
            registry.forget(name)
            shutil.rmtree(state, ignore_errors=True)
            raise
    return ready


def _stack(name: StackName, *, with_alerts: bool) -> Stack:
    import os

    from harness.model.errors import UsageError

    if name == "compose":
        from harness.stack.compose import ComposeStack

        if with_alerts:
            raise UsageError(
                "--with-alerts belongs to the embedded stack, and the target is on the compose one",
                hint="name the Prometheus that looks at it in [alerts] of harness.toml",
            )
        return ComposeStack(os.environ.get("COMPOSE_PROJECT_NAME") or "harness")
    from harness.stack.embedded import EmbeddedStack

    return EmbeddedStack(with_alerts=with_alerts)


def _take_down(kept: Kept, name: StackName, *, say_left_only: bool) -> int:
    """Through its keeper; where that is dead, as `harness heal` would."""
    from harness.model.errors import SetupError
    from harness.safety.healing.dead_run import heal_run
    from harness.safety.keeper.client import Keeper
    from harness.stack import registry

    state = Path(kept.state)

    def say(line: str) -> None:
        if not say_left_only:
            click.echo(line, err=True)

    try:
        keeper = Keeper.connect(state)
    except SetupError:
        report = heal_run(state, say)
    else:
        report = keeper.finish()
    if report.left:
        for line in report.left:
            click.echo(f"left: {line}")
        return 5
    registry.forget(name)
    shutil.rmtree(state, ignore_errors=True)
    if not say_left_only:
        click.echo(f"stopped: {', '.join(report.stopped) or 'nothing was running'}")
    return 0


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """TERM and HUP end a start as Ctrl-C does: by default they would leave the keeper and half a stack."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _age(since: str) -> str:
    from datetime import UTC, datetime

    seconds = int((datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds())
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"
