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
    help="Stores that are to get Toxiproxy in front of them: redis,db or NAME:PORT.  [default: all that are used]",
)
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="A profile of the project that is on.")
@click.option("--app", "apps", metavar="SERVICES", help="Whose traffic goes through it.  [default: the application's]")
@click.option(
    "--print",
    "what",
    type=click.Choice(["toml", "override", "proxies", "locustfile"]),
    default="toml",
    show_default=True,
    help="harness.toml; the compose override; Toxiproxy's proxies, which the override mounts; a first locustfile.",
)
@debug_option
def init(files: tuple[str, ...], front: str | None, profiles: tuple[str, ...], apps: str | None, what: str) -> int:
    """Print a commented harness.toml, for you to read, correct and save. Nothing is written, started or changed.

    With --compose it is made of what Compose makes of your project, and goes with an override that puts Toxiproxy in
    front of the stores that your application uses, which --print override prints. Who goes through it, who does not
    and why is told on stderr.

    \b
    harness init > harness.toml
    harness init --compose compose.yaml
    harness init --compose compose.yaml --front redis,db --print override
    """
    from harness.model.errors import UsageError

    if not files:
        if front is not None or apps is not None or profiles or what != "toml":
            raise UsageError(
                "--front, --app, --profile and --print speak of a compose project", hint="--compose compose.yaml"
            )
        from harness.scaffold.configuration_file import EMPTY

        click.echo(EMPTY, nl=False)
        return 0
    from harness.scaffold.proposal import proposal

    command = _command(files, front, profiles, apps)
    found = proposal(
        files, profiles=profiles, chosen=tuple(_names(front or "")), apps=tuple(_names(apps or "")), command=command
    )
    text = {"toml": found.toml, "override": found.override, "proxies": found.proxies}.get(what, found.locustfile)
    if text is None:
        raise UsageError(f"no store gets a proxy: {found.told[0]}", hint="--front NAME")
    if what == "toml":
        click.echo("\n".join(f"{line}." for line in found.told), err=True)
    click.echo(text, nl=False)
    return 0


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _command(files: tuple[str, ...], front: str | None, profiles: tuple[str, ...], apps: str | None) -> str:
    words = ["harness", "init"]
    for name in files:
        words += ["--compose", name]
    for name in profiles:
        words += ["--profile", name]
    words += [*(["--front", front] if front else []), *(["--app", apps] if apps else [])]
    return shlex.join(words)
