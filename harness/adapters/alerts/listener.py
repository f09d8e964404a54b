"""`harness alerts listen` from both ends: it owns the webhook's port, and a run asks it what it was told (GET /).

What it was told is in its memory only. A run believes it as little as any other source.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Literal

import msgspec
from msgspec.structs import replace

from harness.adapters.alerts.told import Active, Told, ask, limited
from harness.adapters.alerts.webhook import Receiver, Standing
from harness.adapters.wire.http import Client
from harness.model.errors import AdapterError
from harness.model.jsonl import encode
from harness.model.records.alerts import MAX_LABELS, MAX_NAME


class _Page(msgspec.Struct):
    listener: Literal["harness alerts listen"]
    active: tuple[Active, ...]


def listen(
    host: str, port: int, told: Callable[[tuple[Active, ...]], None], trouble: Callable[[str], None]
) -> Receiver:
    """A receiver that can be asked. told, trouble: see Receiver. Raises Unreachable where the port cannot be had."""
    standing = Standing()

    def both(found: tuple[Active, ...]) -> None:
        standing.told(found)
        told(found)

    def page() -> bytes:
        return encode(_Page(listener="harness alerts listen", active=standing.active))

    return Receiver(host, port, both, trouble, page)


def read(client: Client, url: str) -> Told:
    """What the listener at this URL was told and is not over. Raises AdapterError."""
    page = ask(client, f"{url}/", _Page)
    notified = (one for one in page.active if one.state == "notified")
    return Told(active=limited((_cut(one) for one in notified), url))


def answers(webhook: str) -> bool:
    """Whether it is such a listener that has this HOST:PORT."""
    with closing(Client()) as client:
        try:
            read(client, f"http://{webhook}")
        except AdapterError:
            return False
    return True


def _cut(one: Active) -> Active:
    return replace(one, alert=one.alert[:MAX_NAME], series=one.series[:12], labels=one.labels[:MAX_LABELS], since=None)
