"""One protocol probe on one fresh connection: does this dependency answer here, and how fast?

What is asked and what counts as an answer each kind says. A probe never raises for what the network does; it says what
happened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import msgspec

from harness.adapters.docker.address import at_present, wanders
from harness.dependencies.kind import Direction, Received, attempted, attempts
from harness.dependencies.registry import kind_of
from harness.dependencies.result import ProbeResult
from harness.model.errors import UsageError
from harness.model.records.faults import Address, Dependency

MOST_BYTES = 2_000_000
"""More than this is never moved for a proof."""


def path_probe(dependency: Dependency) -> Callable[[float], ProbeResult]:
    """The probe of a dependency through the application's path, as a function of its time-out in seconds.

    A login that the application does not use is preferred. Raises UsageError when the dependency has no address
    yet, or when the variable that should hold its password is not set.
    """
    address = dependency.path or dependency.direct or _address_in(dependency.url)
    kind, make = kind_of(dependency), attempts(dependency, address)

    def probe(timeout_s: float) -> ProbeResult:
        result = attempted(kind.probe, make, timeout_s)
        if result.error_kind == "timeout" and kind.may_be_full(dependency):
            full = attempted(kind.full, make, timeout_s)
            return full if full.full else result
        return result

    return probe


def following_probe(dependency: Dependency) -> Callable[[float], ProbeResult] | None:
    """A probe of a path that may change while it is probed; None where it cannot."""
    return (lambda timeout_s: path_probe(at_present(dependency))(timeout_s)) if wanders(dependency) else None


def handshake(dependency: Dependency, timeout_s: float) -> ProbeResult:
    """Like the path probe, but as little as shows how a connection ended, which some client libraries hide.

    Raises UsageError as path_probe does.
    """
    if dependency.path is None:
        return path_probe(dependency)(timeout_s)
    return attempted(kind_of(dependency).handshake, attempts(dependency, dependency.path), timeout_s)


def closing(dependency: Dependency, timeout_s: float) -> ProbeResult:
    """How long until a connection that we close is closed by the other side, for any protocol. `reset`: it was not
    closed but reset.

    Raises UsageError as path_probe does.
    """
    address = dependency.path or dependency.direct
    if address is None:
        raise UsageError(f"{dependency.name} has no address to probe")

    return attempted(kind_of(dependency).close, attempts(dependency, address), timeout_s)


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """How it went. received: bytes that came back before it ended; None where the client library hides that."""

    result: ProbeResult
    received: int | None


class Mover:
    """Moves bytes through the application's path, each time on a fresh connection: what shows a limit of bandwidth,
    slices, or a limit of data.

    direction: which way they must go; the other way they may. Raises UsageError when the dependency has no address
    or its password is missing, or when its kind has no harmless exchange of a size that we choose.
    """

    def __init__(self, dependency: Dependency, direction: Direction) -> None:
        address = dependency.path or dependency.direct
        kind = kind_of(dependency)
        if address is None or not kind.moves_bytes:
            raise UsageError(f"{dependency.name} cannot be asked to move data")
        self._move, self._attempts, self._direction = kind.move, attempts(dependency, address), direction

    def __call__(self, size: int, timeout_s: float) -> Moved:
        """Move at least `size` bytes; timeout_s bounds all of it. Never raises for what the network does."""
        if not 0 < size <= MOST_BYTES:
            raise ValueError(f"{size} bytes are not moved for a proof")
        received = Received()
        move = partial(self._move, direction=self._direction, size=size, received=received)
        result = attempted(move, self._attempts, timeout_s)
        return Moved(result=result, received=received.bytes)


def _address_in(url: str | None) -> Address | None:
    """Where a plain http URL leads; None for no URL and for https, which no probe speaks."""
    parts = urlsplit(url or "")
    return Address(parts.hostname, parts.port or 80) if parts.scheme == "http" and parts.hostname else None
