"""How one exchange with a server went, and with whose login it was made."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from harness.adapters.wire.exchange import ErrorKind, ProbeError
from harness.model.clock import monotonic
from harness.model.errors import UsageError


class ProbeResult(msgspec.Struct, frozen=True, kw_only=True):
    """started, ended: CLOCK_MONOTONIC seconds. connected: the TCP connection was accepted, whatever came then.

    error_kind: None when ok; refused, reset, timeout, closed (without an answer), protocol (a wrong answer),
    auth (login not accepted), limit (too many connections), unreachable. detail: one clause for people.
    """

    ok: bool
    started: float
    ended: float
    error_kind: ErrorKind | None = None
    detail: str = ""
    connected: bool = True

    @property
    def seconds(self) -> float:
        return self.ended - self.started

    @property
    def listens(self) -> bool:
        """Somebody has the port and takes connections, however late or wrong the answers are. A queue that is full
        lets a connection wait; a port forwarder hangs up where nobody is behind it."""
        return self.ok or self.error_kind in ("timeout", "protocol", "auth", "limit")

    @property
    def full(self) -> bool:
        """The server itself answered that it has no room for one more connection: the way to it is open."""
        return self.error_kind == "limit"


def observed(exchange: Callable[[float], str], timeout_s: float) -> ProbeResult:
    """One exchange, given its deadline, as a result: what it says, or why it failed."""
    started = monotonic()
    try:
        detail = exchange(started + timeout_s)
    except ProbeError as error:
        return ProbeResult(
            ok=False,
            started=started,
            ended=monotonic(),
            error_kind=error.kind,
            detail=error.detail,
            connected=error.connected,
        )
    return ProbeResult(ok=True, started=started, ended=monotonic(), detail=detail)


def secret(variable: str | None) -> str | None:
    """The value of a variable that holds a secret; None for no variable. Raises UsageError when it is not set."""
    if variable is None:
        return None
    value = os.environ.get(variable)
    if value is None:
        raise UsageError(f"the environment variable {variable} is not set", hint="it is to hold a password")
    return value
