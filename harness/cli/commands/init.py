"""`harness init`: prints a harness.toml to begin with, and the override that puts Toxiproxy in front."""

from __future__ import annotations

import shlex

import click

from harness.cli.settings import debug_option


@click.command()
@click.option(
    "--compose", "files", multiple=True, metavar="FILE", help="Your compose file. Repeatable, in Compose's order."
)
@click.option(
    "--front",
    metavar="SERVICES",
    help="Services that are to get Toxiproxy in front of them: redis,db or NAME:PORT.",
)
@click.option(
    "--app", "apps", metavar="SERVICES", help="Whose traffic goes through it.  [default: whoever names them or depends]"
)
@click.option(
    "--print",
    "what",
    type=click.Choice(["toml", "override", "proxies"]),
    default="toml",
    show_default=True,
    help="harness.toml; the compose override; Toxiproxy's list of proxies, which the override mounts.",
)
@debug_option
def init(files: tuple[str, ...], front: str | None, apps: str | None, what: str) -> int:
    """Print a commented harness.toml, for you to read, correct and save. Nothing is written, started or changed.

    With --compose it is made from your compose file. With --front it goes with an override file that puts Toxiproxy
    in front of your dependencies, which --print override prints.

    \b
    harness init > harness.toml
    harness init --compose compose.yaml --front redis,db
    harness init --compose compose.yaml --front redis,db --print override
    """
    from harness.model.errors import UsageError

    if not files:
        if front is not None or apps is not None or what != "toml":
            raise UsageError("--front, --app and --print speak of a compose project", hint="--compose compose.yaml")
        from harness.scaffold.configuration_file import EMPTY

        click.echo(EMPTY, nl=False)
        return 0
    from harness.scaffold import proxy_override as fronting
    from harness.scaffold.compose_services import read_project
    from harness.scaffold.configuration_file import for_project

    project = read_project(files)
    if front is None:
        if what != "toml" or apps is not None:
            raise UsageError("in front of which services?", hint="--front redis,db")
        click.echo(for_project(project, None, None), nl=False)
        return 0
    planned = fronting.plan_front(project, _names(front), _names(apps or ""))
    match what:
        case "override":
            click.echo(fronting.override(planned, _command(files, front, apps)), nl=False)
        case "proxies":
            click.echo(fronting.proxies(planned), nl=False)
        case _:
            click.echo(for_project(project, planned, None), nl=False)
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _command(files: tuple[str, ...], front: str, apps: str | None) -> str:
    words = ["harness", "init"]
    for name in files:
        words += ["--compose", name]
    words += ["--front", front, *(["--app", apps] if apps else [])]
    return shlex.join(words)
