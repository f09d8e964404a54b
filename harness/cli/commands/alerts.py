"""`harness alerts`: what an Alertmanager tells, outside of a run."""

from __future__ import annotations

import signal
import threading
import time
from typing import TYPE_CHECKING

import click

from harness.cli.settings import debug_option

if TYPE_CHECKING:
    from harness.adapters.alerts.told import Active

HOST = "127.0.0.1"


@click.group()
def alerts() -> None:
    """Alerts, outside of a run."""


@alerts.command()
@click.option(
    "--port", type=click.IntRange(1, 65535), default=9099, show_default=True, help="Of loopback, where to listen."
)
@debug_option
def listen(port: int) -> int:
    """Be an Alertmanager's webhook receiver, and print what it tells, until stopped (Ctrl-C).

    Name it in the Alertmanager's `webhook_configs`: `url: http://127.0.0.1:9099/`. It can stay there: a run whose
    `[alerts] webhook` has this port asks the listener what it was told instead of taking the port itself.
    """
    from harness.adapters.alerts.listener import listen as receiver_on
    from harness.model.errors import AdapterError, UsageError
    from harness.report.sentences.text import visible

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())

    def told(found: tuple[Active, ...]) -> None:
        for one in found:
            click.echo(f"{time.strftime('%H:%M:%S')} {one.state:<8}  {visible(one.alert)}  {visible(one.labels, 400)}")

    def trouble(line: str) -> None:
        click.echo(visible(line, 400), err=True)

    try:
        receiver = receiver_on(HOST, port, told, trouble)
    except AdapterError as error:
        raise UsageError(str(error), hint="choose another with --port, or end what listens there") from error
    click.echo(f'listening on http://{HOST}:{port}/; in harness.toml: [alerts] webhook = "{HOST}:{port}"', err=True)
    try:
        ended.wait()
    finally:
        receiver.close()
    return 0
