"""`harness init`: a harness.toml to begin with, the override that puts Toxiproxy in front, a Locust file; written at a
terminal, else printed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.settings import allow_host_option, debug_option

if TYPE_CHECKING:
    from harness.scaffold.proposal import Proposal


@click.command()
@click.option(
    "--compose",
    "files",
    multiple=True,
    metavar="FILE",
    help="Your compose file. Repeatable, in Compose's order.  [default: those that Compose finds in this folder]",
)
@click.option(
    "--front",
    metavar="SERVICES",
    help="Stores that are to get Toxiproxy in front of them: redis,db or NAME:PORT.  [default: all that are used]",
)
@click.option("--profile", "profiles", multiple=True, metavar="NAME", help="A profile of the project that is on.")
@click.option("--app", "apps", metavar="SERVICES", help="Whose traffic goes through it.  [default: the application's]")
@click.option("--openapi", metavar="URL|FILE", help="Your service's OpenAPI document: a Locust file is made of it.")
@click.option(
    "--locustfile",
    is_flag=False,
    flag_value="locustfile.py",
    metavar="[NAME]",
    help="Also a Locust file to begin with, called so.  [default: locustfile.py, with --openapi]",
)
@click.option(
    "--print",
    "what",
    is_flag=False,
    flag_value="toml",
    type=click.Choice(["toml", "override", "proxies", "envoy", "locustfile"]),
    help="Write nothing, print one: harness.toml (if none is named), the compose override, Toxiproxy's list of"
    " proxies or Envoy's configuration, which the override mounts, or the Locust file.",
)
@click.option(
    "--http",
    "http",
    multiple=True,
    metavar="NAME=HOST:PORT",
    help="Print the configuration of an Envoy in front of this HTTP upstream (https://HOST where it speaks TLS), and"
    " what else is to be done. Goes alone. Repeatable.",
)
@click.option("--diff", is_flag=True, help="Write nothing, show how what is there differs from what would be written.")
@click.option("--remove", is_flag=True, help="Remove the files that init wrote here, but for those that were changed.")
@allow_host_option("Fetch the document of --openapi from this host, which is not loopback. Repeatable.")
@debug_option
def init(
    files: tuple[str, ...],
    front: str | None,
    profiles: tuple[str, ...],
    apps: str | None,
    openapi: str | None,
    locustfile: str | None,
    what: str | None,
    http: tuple[str, ...],
    diff: bool,
    remove: bool,
    allow_hosts: tuple[str, ...],
) -> int:
    """Write a commented harness.toml, and for a compose project an override that puts Toxiproxy in front of its
    dependencies. Nothing is started, and no file is ever overwritten. Where the output is no terminal, or with --print,
    it is printed instead.

    \b
    harness init
    harness init --openapi http://127.0.0.1:8000/openapi.json
    harness init --compose compose.yaml --front redis,db --print override
    harness init > harness.toml
    harness init --http payments=127.0.0.1:9000 > envoy.yaml
    """
    from harness.model.errors import UsageError
    from harness.scaffold.compose_config import files_here
    from harness.scaffold.configuration_file import LOCUSTFILE
    from harness.scaffold.proposal import Asked, proposal

    if http:
        from harness.scaffold.http_front import front_file

        if files or front or apps or openapi or locustfile or what or diff or remove:
            raise UsageError(
                "--http goes alone: it prints one file for Envoy", hint="harness init --http NAME=HOST:PORT"
            )
        click.echo(front_file(http), nl=False)
        return 0
    if sum((what is not None, diff, remove)) > 1:
        raise UsageError("--print, --diff and --remove are three different things", hint="one of them")
    if remove:
        if files or front or profiles or apps or openapi or locustfile:
            raise UsageError(
                "--remove goes alone: the files say by themselves who wrote them", hint="harness init --remove"
            )
        return _remove()
    printed = what is not None or (not diff and not _terminal())
    # `harness init > harness.toml` is in people's fingers: without any word of what to print it looks for nothing.
    files = files or (() if printed and what is None else files_here())
    if not files and (front is not None or apps is not None or profiles or what in ("override", "proxies", "envoy")):
        raise UsageError(
            "--front, --app, --profile and --print speak of a compose project", hint="--compose compose.yaml"
        )
    wanted = openapi is not None or what == "locustfile" or not (printed or files or Path(LOCUSTFILE).exists())
    asked = Asked(
        files=files,
        profiles=profiles,
        front=_names(front or ""),
        apps=_names(apps or ""),
        openapi=openapi,
        locustfile=locustfile or (LOCUSTFILE if wanted else None),
        named=_named() if openapi is not None else (),
        allow_hosts=allow_hosts,
    )
    found = proposal(asked)
    if printed:
        # Whoever names a document and no file wants what is made of it.
        return _print(found, what or ("locustfile" if asked.locustfile is not None else "toml"))
    return _diff(found) if diff else _write(found)


def _print(found: Proposal, what: str) -> int:
    from harness.model.errors import UsageError
    from harness.report.sentences.text import visible

    if what == "envoy" and "proxies" in found.names and what not in found.names:
        raise UsageError(
            "there is no Envoy: nothing that --front names is asked in URLs of plain HTTP alone", hint="--front NAME"
        )
    if what not in found.names:
        raise UsageError(f"no store gets a proxy: {found.told[0]}", hint="--front NAME")
    if what == "toml" and found.told:
        click.echo("\n".join(f"{visible(line, 400)}." for line in found.told), err=True)
    click.echo(found.texts[found.names[what]], nl=False)
    return 0


def _write(found: Proposal) -> int:
    from harness.report.sentences.text import visible
    from harness.scaffold.proposal import next_steps
    from harness.scaffold.written_files import write

    write(Path(), found.texts)
    if found.read:
        click.echo(f"read {visible(', '.join(found.read))}")
    for name in found.texts:
        click.echo(f"wrote {visible(name)}")
    for line in found.told:
        click.echo(visible(line, 400))
    click.echo("Next: read them, then")
    for line in next_steps(found):
        click.echo(f"  {visible(line, 1000)}")
    return 0


def _diff(found: Proposal) -> int:
    from harness.report.sentences.text import visible_lines
    from harness.scaffold.written_files import differences

    shown = visible_lines(differences(Path(), found.texts))
    click.echo(shown or "what is here is what would be written\n", nl=False)
    return 0


def _remove() -> int:
    from harness.report.sentences.text import visible
    from harness.scaffold.compose_config import OVERRIDE, find_compose
    from harness.scaffold.proposal import USUAL
    from harness.scaffold.written_files import remove

    done = remove(Path(), USUAL)
    for name in done.removed:
        click.echo(f"removed {visible(name)}")
    for name, why in done.kept.items():
        click.echo(f"kept {visible(name)}: {visible(why, 400)}")
    if not done.removed and not done.kept:
        click.echo("nothing here was written by harness init")
    if any(Path(name).name == OVERRIDE for name in done.removed):
        click.echo(
            "Containers are not touched. If some were started with it, this takes Toxiproxy out again, with your files:"
        )
        compose = find_compose()
        click.echo(f"  {' '.join(compose.argv) if compose is not None else 'docker compose'} up -d --remove-orphans")
    return 0


def _terminal() -> bool:
    return sys.stdout.isatty()


def _named() -> tuple[str, ...]:
    """The target's host, where a harness.toml of this folder names it."""
    from harness.adapters.allowed_hosts import url_address
    from harness.config.load import find
    from harness.dependencies.configuration import load

    path = find(Path())
    target = load(path).target if path is not None else None
    return (url_address(target.url)[0],) if target is not None and target.url else ()


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
