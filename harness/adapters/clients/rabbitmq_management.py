"""RabbitMQ's management API, read only: who is connected, its counters, what a login may see.

A user without the tag `monitoring` (or `administrator`) sees its own connections only, which would make a client past
the proxy invisible: that is Forbidden here, and the message has the command that gives the tag.
"""

from __future__ import annotations

from typing import Any, Self, TypeVar
from urllib.parse import quote

import msgspec

from harness.adapters.wire.http import Client
from harness.model.errors import Forbidden, Rejected
from harness.model.records.faults import Tls

_SEES_ALL = {"monitoring", "administrator"}
NAME = "harness"
"""Our own connections' names begin with it."""

_T = TypeVar("_T")


class ClientProperties(msgspec.Struct, frozen=True):
    connection_name: Any = None


class Connection(msgspec.Struct, frozen=True):
    """One connection of any protocol. recv_oct, send_oct: bytes, told every five seconds. timeout: of its heartbeat, in
    seconds. connected_at: milliseconds since 1970."""

    name: str
    node: str = ""
    user: str = ""
    vhost: str = ""
    peer_host: str = ""
    peer_port: int = 0
    state: str = ""
    recv_oct: int | None = None
    send_oct: int | None = None
    timeout: float | None = None
    connected_at: int | None = None
    client_properties: ClientProperties | list[Any] = ClientProperties()  # an empty table is told as a list

    @property
    def label(self) -> str:
        properties = self.client_properties
        name = properties.connection_name if isinstance(properties, ClientProperties) else None
        return name if isinstance(name, str) else ""


class Messages(msgspec.Struct, frozen=True):
    publish: float = 0
    deliver_get: float = 0
    ack: float = 0


class Created(msgspec.Struct, frozen=True):
    connection_created: float = 0


class Objects(msgspec.Struct, frozen=True):
    connections: float = 0


class Waiting(msgspec.Struct, frozen=True):
    messages: float = 0


class Overview(msgspec.Struct, frozen=True):
    """Of the whole cluster. Where nothing was counted yet, that part is an empty list or missing."""

    cluster_name: str = ""
    node: str = ""
    rabbitmq_version: str = ""
    message_stats: Messages | list[Any] = Messages()
    churn_rates: Created | list[Any] = Created()
    object_totals: Objects | list[Any] = Objects()
    queue_totals: Waiting | list[Any] = Waiting()

    def counters(self) -> dict[str, float]:
        """published, delivered, acknowledged, connections: totals; clients, waiting: now."""
        of, made, now, lag = self.message_stats, self.churn_rates, self.object_totals, self.queue_totals
        return {
            "published": of.publish if isinstance(of, Messages) else 0,
            "delivered": of.deliver_get if isinstance(of, Messages) else 0,
            "acknowledged": of.ack if isinstance(of, Messages) else 0,
            "connections": made.connection_created if isinstance(made, Created) else 0,
            "clients": now.connections if isinstance(now, Objects) else 0,
            "lag": lag.messages if isinstance(lag, Waiting) else 0,
        }


class _Tags(msgspec.Struct, frozen=True):
    name: str
    tags: str | list[str] = ""


class _Error(msgspec.Struct, frozen=True):
    reason: Any = ""


class Management:
    """As a context manager. timeout_s: of each request. Methods raise AdapterError; Forbidden says what would allow
    it."""

    def __init__(self, url: str, user: str, password: str, *, timeout_s: float, tls: Tls | None = None) -> None:
        self._url, self._user, self._timeout_s = url, user, timeout_s
        self._client = Client(login=(user, password), tls=tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def check_rights(self) -> None:
        """Raises Forbidden for a user that does not see everybody's connections."""
        found = self._get("/api/whoami", _Tags)
        tags = found.tags.split(",") if isinstance(found.tags, str) else found.tags
        if not _SEES_ALL & set(tags):
            raise self._forbidden([tag for tag in tags if tag])

    def overview(self) -> Overview:
        return self._get("/api/overview", Overview)

    def connections(self) -> list[Connection]:
        return [one for one in self._get("/api/connections", list[Connection]) if one.peer_port]

    def _forbidden(self, tags: list[str]) -> Forbidden:
        give = f"rabbitmqctl set_user_tags {self._user} {' '.join([*tags, 'monitoring'])}"
        return Forbidden(f"its user {self._user} does not see the connections of others", hint=give)

    def _get(self, path: str, kind: type[_T]) -> _T:
        answer = self._client.get(self._url + quote(path), self._timeout_s)
        if answer.status in (401, 403):
            try:
                reason = str(msgspec.json.decode(answer.body, type=_Error).reason)
            except (msgspec.DecodeError, msgspec.ValidationError):
                reason = ""
            # A login that is right and has no tag at all is told from a wrong one by this text only.
            if answer.status == 403 or "management user" in reason:
                raise self._forbidden([])
            raise Rejected(f"{self._url} does not accept the login of {self._user}: {reason or answer.status}")
        if answer.status != 200:
            raise Rejected(f"{self._url}{path} answered {answer.status}")
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise Rejected(
                f"{self._url} does not answer as RabbitMQ's management API does ({path}: {error})"
            ) from error
