"""W3C Trace Context: by `traceparent` and `baggage` the target's own traces find the requests of a load.

A traceparent is random, and so tells nothing; the baggage names the load. Neither goes to any host but the target's,
and a line that the locustfile sends itself stays as it is.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import quote

from harness.load.allowed_hosts.rule import is_target

PARENT, BAGGAGE = "traceparent", "baggage"
_PARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class Traced(Protocol):
    """A request: the traceparent under which it is sent, "" for none."""

    parent: str


class Tracer:
    """run: what the baggage calls this load."""

    def __init__(self, run: str) -> None:
        # Of its own: a locustfile that seeds the common one would give every worker the same ids.
        self._draw = random.Random().getrandbits
        self._of_target = lru_cache(maxsize=1024)(is_target)
        self._baggage = f"harness.run={quote(run, safe='')}"
        self._line = f"{BAGGAGE}: {self._baggage}\r\n"

    def lines(self, call: Traced, host: str, own: Iterable[tuple[Any, Any]]) -> bytes:
        """Header lines for LeanHttpUser's request to that host. own: those of the locustfile, one of None included."""
        if not self._of_target(host):
            return b""
        line = self._line
        if own:
            said = {_text(name).lower(): value for name, value in own}
            if BAGGAGE in said:
                line = ""
            if PARENT in said:
                call.parent = _theirs(said[PARENT])
                return line.encode("ascii")
        if not call.parent:
            call.parent = self._parent()
        return f"{PARENT}: {call.parent}\r\n{line}".encode("ascii")

    def stamp(self, call: Traced, host: str, headers: MutableMapping[str, Any]) -> None:
        """The same for the other clients, whose header lines a redirect takes along."""
        parent, baggage = headers.get(PARENT), headers.get(BAGGAGE)
        if not self._of_target(host):
            if parent is not None and parent == call.parent:
                del headers[PARENT]
            if baggage == self._baggage:
                del headers[BAGGAGE]
            return
        if parent is None:
            headers[PARENT] = call.parent = call.parent or self._parent()
        elif parent != call.parent:
            call.parent = _theirs(parent)
        if baggage is None:
            headers[BAGGAGE] = self._baggage

    def _parent(self) -> str:
        drawn = self._draw(192).to_bytes(24, "big").hex()
        return f"00-{drawn[:32]}-{drawn[32:]}-01"


def _theirs(value: Any) -> str:
    """A traceparent of the locustfile's own, if it is one: its request is found by that."""
    text = _text(value)
    return text if _PARENT.fullmatch(text) else ""


def _text(part: Any) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else str(part)
