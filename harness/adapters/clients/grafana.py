"""Annotations in a Grafana: a mark for an instant, or for a stretch once its end is known."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.adapters.wire.http import Client, Response
from harness.model.errors import AdapterError, Rejected

TIMEOUT_S = 3.0


class _Made(msgspec.Struct, frozen=True):
    id: int


class Grafana:
    """url: without a slash at its end. Times are milliseconds since the epoch. Not for use by two threads at once."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = Client()

    def answers(self) -> bool:
        """Whether it is up, its database included."""
        try:
            return self._client.get(f"{self._url}/api/health", TIMEOUT_S).status == 200
        except AdapterError:
            return False

    def annotate(self, at_ms: int, text: str, tags: Sequence[str]) -> int:
        """Mark an instant on every dashboard that asks for these tags; the mark's id.

        Raises Rejected when Grafana refuses it, Unreachable or OutcomeUnknown when it gives no whole answer.
        """
        body = msgspec.json.encode({"time": at_ms, "text": text, "tags": list(tags)})
        reply = _accepted(self._client.send("POST", f"{self._url}/api/annotations", body, TIMEOUT_S))
        try:
            return msgspec.json.decode(reply.body, type=_Made).id
        except msgspec.MsgspecError as error:
            raise Rejected(f"{self._url} answers an annotation with {reply.text[:100]!r}") from error

    def extend(self, mark: int, until_ms: int) -> None:
        """Make a mark a stretch that ends there. Raises as `annotate` does."""
        body = msgspec.json.encode({"timeEnd": until_ms})
        _accepted(self._client.send("PATCH", f"{self._url}/api/annotations/{mark}", body, TIMEOUT_S))

    def close(self) -> None:
        self._client.close()


def _accepted(reply: Response) -> Response:
    if reply.status != 200:
        raise Rejected(f"Grafana refused an annotation: HTTP {reply.status} {reply.text[:100]}")
    return reply
