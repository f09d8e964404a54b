"""Alerts of an Alertmanager (GET /api/v2/alerts): what has arrived there and is not over, suppressed ones as well.

`startsAt` is as the sender says it (of Prometheus: the evaluation at which the alert began to fire); `endsAt` of what
fires lies ahead, and an alert that is resolved is not in the answer. It does not tell whether anybody was notified.
"""

from __future__ import annotations

import msgspec

from harness.adapters.alerts.told import Active, Told, active, ask, limited
from harness.adapters.wire.http import Client

PATH = "/api/v2/alerts"


class _Status(msgspec.Struct):
    state: str


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    status: _Status
    startsAt: str | None = None  # noqa: N815  # the API's own name


def read(client: Client, url: str) -> Told:
    """url: of the server, without a slash at its end. Raises AdapterError."""
    return Told(active=limited((_active(one) for one in ask(client, url + PATH, list[_Alert])), url + PATH))


def _active(one: _Alert) -> Active | None:
    if one.status.state == "suppressed":
        return active(one.labels, "suppressed", None)  # since when nobody says
    return active(one.labels, "firing", one.startsAt)
