"""A container's log, as the engine keeps it: its last lines, and what comes after a moment."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from harness.adapters.docker.engine import Engine


class LogLine(msgspec.Struct, frozen=True):
    """at: the engine's time of the line, RFC 3339 with nanoseconds, by which `after` is counted. text: as written."""

    at: str
    text: bytes


_HEADER = 8


def last_lines(engine: Engine, container_id: str, count: int) -> list[LogLine]:
    """Its last lines, oldest first. Raises Gone, Unreachable, and Rejected where its log driver cannot be read."""
    return _lines(engine, container_id, {"tail": str(count)})


def lines_after(engine: Engine, container_id: str, at: str) -> list[LogLine]:
    """Lines after a moment (`LogLine.at`, or "" for all). Raises as last_lines does."""
    found = _lines(engine, container_id, {"since": _seconds(at)} if at else {})
    return [line for line in found if line.at > at]  # `since` takes whole lines of that very moment along


def _lines(engine: Engine, container_id: str, params: dict[str, str]) -> list[LogLine]:
    engine.container(container_id)
    asked = {"stdout": "true", "stderr": "true", "timestamps": "true", **params}
    data = engine.raw(f"/containers/{container_id}/logs", params=asked)
    found = []
    for line in demultiplexed(data).split(b"\n"):
        at, _, rest = line.rstrip(b"\r").partition(b" ")
        if at:
            found.append(LogLine(at.decode("ascii", "replace"), rest))
    return found


def _seconds(at: str) -> str:
    """The engine's text of a time as the seconds since 1970 that `since` takes, with all its digits."""
    whole, _, fraction = at.rstrip("Z").partition(".")
    return f"{int(datetime.fromisoformat(whole + '+00:00').timestamp())}.{fraction or '0'}"


def demultiplexed(content: bytes, only: int | None = None) -> bytes:
    """The payload of an engine's stream: frames of one byte for the stream, three zeros and a length (big-endian).

    only: what was written to that descriptor (1, 2).
    What is not framed, as a container with a terminal writes it, is returned as it is. Source: Docker Engine API,
    "Stream format" of attach.
    """
    found: list[bytes] = []
    at = 0
    while at < len(content):
        head = content[at : at + _HEADER]
        if len(head) < _HEADER or head[0] > 2 or head[1:4] != b"\0\0\0":
            return content if at == 0 else b"".join([*found, content[at:]])
        size = int.from_bytes(head[4:], "big")
        if only in (None, head[0]):
            found.append(content[at + _HEADER : at + _HEADER + size])
        at += _HEADER + size
    return b"".join(found)
