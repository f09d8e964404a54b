"""`harness stack status` and `harness stack logs` for the system that harness.toml declares."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.config.file import Configuration, Contained


def status(config: Configuration, url: str, *, allow_hosts: Collection[str], as_json: bool) -> int:
    """Every part, whether it answers, and how to mend what does not. 0 when all is well, 4 otherwise."""
    from harness.model.jsonl import encode_line
    from harness.model.records.stack import StackUp
    from harness.stack.external.check import look

    found = look(config, url, allow_hosts=allow_hosts)
    well = all(part.trouble is None for part in found.parts)
    if as_json:
        if found.target is not None:
            up = StackUp(name="external", target=found.target, dependencies=found.dependencies, versions=found.versions)
            click.echo(encode_line(up).decode(), nl=False)
        for part in found.parts:
            if part.trouble is not None:
                click.echo(f"{part.name}: {part.trouble}", err=True)
        return 0 if well else 4
    click.echo(f"external, declared in {config.shown}")
    table(
        [
            ("PART", "PID" if not config.contained else "PID OR CONTAINER", "ADDRESS", "THROUGH ITS PROXY", "STATE"),
            *(
                (
                    part.name,
                    f"{part.container} ({part.condition})" if part.container is not None else str(part.pid or "-"),
                    part.address,
                    f"{part.path or '-'} (Envoy {part.front})" if part.front is not None else part.path or "-",
                    "ok" if part.trouble is None else "trouble, see below",
                )
                for part in found.parts
            ),
        ]
    )
    for part in found.parts:
        if part.trouble is not None:
            click.echo(f"\n{part.trouble}" + (f"\n  {part.trouble.hint}" if part.trouble.hint else ""))
    for note in found.notes:
        click.echo(f"\nnote: {note}")
    if well and any(one.proxied for one in found.dependencies):
        click.echo(
            "\nthat they answer does not say whether the application uses the proxies; to see that: harness doctor"
        )
    return 0 if well else 4


def logs(
    config: Configuration, part: str | None, lines: int, *, follow: bool, allow_hosts: Collection[str] = ()
) -> int:
    """The logs that the file names, and those of its containers. Raises UsageError where it names none."""
    from harness.cli import log_tail as following
    from harness.model.errors import UsageError, unknown
    from harness.stack.external.containers import Containers

    tables: dict[str, tuple[str, Contained, str | None]] = {
        name: (f"dependencies.{name}", table, table.log) for name, table in config.dependencies.items()
    }
    if config.target is not None:
        tables[config.target.name] = ("target", config.target, config.target.log)
    if config.toxiproxy is not None:
        tables["toxiproxy"] = ("toxiproxy", config.toxiproxy, config.toxiproxy.log)
    if part is not None and part not in tables:
        raise unknown("part", part, tables)
    wanted = {name: found for name, found in tables.items() if part in (None, name)}
    known = {name: found for name, found in wanted.items() if found[1].contained or found[2] is not None}
    if not known:
        key = f"{tables[part][0]}.log" if part is not None else "log"
        raise UsageError(
            f"{config.shown} names no log" + (f" of {part}" if part is not None else ""),
            hint=f'write where it is: {key} = "path/to/file.log"',
        )
    containers = Containers(config, allow_hosts=allow_hosts)
    try:
        found: list[tuple[str, Path] | following.Log] = []
        for name, (key, table, log) in known.items():
            if log is not None:
                found.append((name, Path(log)))
            else:
                container = containers.find(table, f"{config.shown}: {key}", running=False)
                found.append(following.ContainerLog(name, containers.engine, container.id))
        return following.show(found, lines, follow=follow)
    finally:
        containers.close()


def table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
