"""`harness stack status` and `harness stack logs` for the compose stack."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from harness.adapters.docker.engine import Engine
    from harness.adapters.docker.records import Container
    from harness.model.records.stack import StackUp

POLL_S = 0.5


def status(up: StackUp, *, since: str, as_json: bool) -> int:
    """Every part, its container, whether it answers. 0 when all do, 4 otherwise."""
    from harness.cli.commands.stack_external import table
    from harness.model.jsonl import encode_line
    from harness.stack.compose.status import parts, where

    if as_json:
        click.echo(encode_line(up).decode(), nl=False)
        return 0
    engine, project = where(up)
    click.echo(f"compose, {since}, project {project} on {engine}")
    found = parts(up)
    rows: list[tuple[str, ...]] = [("PART", "CONTAINER", "ID", "ADDRESS", "THROUGH ITS PROXY", "HEALTH", "STATE")]
    for part in found:
        state = part.state if part.trouble is None or part.trouble == part.state else f"{part.state}: {part.trouble}"
        rows.append((part.name, part.container, part.id[:12], part.address, part.path or "-", part.health, state))
    table(rows)
    return 0 if all(part.trouble is None for part in found) else 4


def logs(up: StackUp, part: str | None, lines: int, *, follow: bool) -> int:
    """The last lines of the containers' output. Following ends with Ctrl-C, or when the last container has ended."""
    from harness.adapters.docker.engine import connect
    from harness.model.errors import unknown
    from harness.stack.compose.status import containers, where

    found = containers(up)
    name = {"valkey": "redis", "postgres": "db", "postgresql": "db"}.get(part or "", part)
    if name is not None and name not in found:
        raise unknown("part", name, found)
    shown = {name: found[name]} if name is not None else dict(sorted(found.items()))
    with connect(where(up)[0]) as engine:
        tails = [_Tail(engine, service, container) for service, container in shown.items()]
        for tail in tails:
            if len(tails) > 1:
                click.echo(f"== {tail.name}")
            for line in tail.new_lines(lines):
                click.echo(line)
        width = max(len(tail.name) for tail in tails)
        try:
            while follow:
                time.sleep(POLL_S)
                for tail in tails:
                    for line in tail.new_lines(None):
                        click.echo(f"{tail.name.ljust(width)} | {line}" if len(tails) > 1 else line)
                follow = any(not tail.ended for tail in tails)
        except KeyboardInterrupt:
            pass
    return 0


class _Tail:
    """A container's output from the last line that was shown on: the engine stamps every line."""

    def __init__(self, engine: Engine, name: str, container: Container) -> None:
        self.name = name
        self.ended = False
        self._engine = engine
        self._id = container.id
        self._last = ""

    def new_lines(self, lines: int | None) -> list[str]:
        from harness.adapters.docker.logs import last_lines, lines_after
        from harness.model.errors import Gone

        try:
            found = (
                lines_after(self._engine, self._id, self._last)
                if lines is None
                else last_lines(self._engine, self._id, lines)
            )
        except Gone:
            self.ended = True
            return []
        if found:
            self._last = max(self._last, found[-1].at)
        texts = (line.text.decode("utf-8", "replace") for line in found)
        return ["".join(c if c.isprintable() or c == "\t" else "?" for c in text) for text in texts]
