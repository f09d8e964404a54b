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


def last_lines(engine: Engine, container_id: str, count: int) -> list[LogLine]:
    """Its last lines, oldest first. Raises Gone, Unreachable, and Rejected where its log driver cannot be read."""
    return _lines(engine, container_id, {"tail": str(count)})


def lines_after(engine: Engine, container_id: str, at: str) -> list[LogLine]:
    """Lines after a moment (`LogLine.at`, or "" for all). Raises as last_lines does."""
    found = _lines(engine, container_id, {"since": _seconds(at)} if at else {})
    return [line for line in found if line.at > at]  # `since` takes whole lines of that very moment along


def _lines(engine: Engine, container_id: str, params: dict[str, str]) -> list[LogLine]:
    terminal = engine.container(container_id).config.tty
    asked = {"stdout": "true", "stderr": "true", "timestamps": "true", **params}
    data = engine.raw(f"/containers/{container_id}/logs", params=asked)
    text = data if terminal else b"".join(_frames(data))
    found = []
    for line in text.splitlines():
        at, _, rest = line.partition(b" ")
        found.append(LogLine(at.decode("ascii", "replace"), rest))
    return found


def _seconds(at: str) -> str:
    """The engine's text of a time as the seconds since 1970 that `since` takes, with all its digits."""
    whole, _, fraction = at.rstrip("Z").partition(".")
    return f"{int(datetime.fromisoformat(whole + '+00:00').timestamp())}.{fraction or '0'}"


def _frames(data: bytes) -> list[bytes]:
    """The engine's frames: which stream, three zero bytes, the length in four bytes, the text."""
    found, at = [], 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "big")
        found.append(data[at + 8 : at + 8 + length])
        at += 8 + length
    return found
