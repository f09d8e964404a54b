"""`harness stack status` and `harness stack logs` for the system that harness.toml declares."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.config.file import Configuration


def status(config: Configuration, url: str, *, allow_hosts: Collection[str], as_json: bool) -> int:
    """Every part, whether it answers, and how to mend what does not. 0 when all is well, 4 otherwise."""
    from harness.model.jsonl import encode_line
    from harness.model.stack import StackUp
    from harness.stack.external_look import look

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
            ("PART", "PID", "ADDRESS", "THROUGH ITS PROXY", "STATE"),
            *(
                (
                    part.name,
                    str(part.pid or "-"),
                    part.address,
                    part.path or "-",
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
    return 0 if well else 4


def logs(config: Configuration, part: str | None, lines: int, *, follow: bool) -> int:
    """The logs that the file names. Raises UsageError where it names none."""
    from harness.cli import follow as following
    from harness.model.errors import UsageError
    from harness.model.suggest import unknown

    tables = dict(config.dependencies)
    found = {name: table.log for name, table in tables.items()}
    keys = {name: f"dependencies.{name}" for name in tables}
    if config.target is not None:
        found[config.target.name] = config.target.log
        keys[config.target.name] = "target"
    if config.toxiproxy is not None:
        found["toxiproxy"] = config.toxiproxy.log
        keys["toxiproxy"] = "toxiproxy"
    if part is not None and part not in found:
        raise unknown("part", part, found)
    wanted = {name: log for name, log in found.items() if log is not None and part in (None, name)}
    if not wanted:
        key = f"{keys[part]}.log" if part is not None else "log"
        raise UsageError(
            f"{config.shown} names no log" + (f" of {part}" if part is not None else ""),
            hint=f'write where it is: {key} = "path/to/file.log"',
        )
    return following.show([(name, Path(log)) for name, log in wanted.items()], lines, follow=follow)


def table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
