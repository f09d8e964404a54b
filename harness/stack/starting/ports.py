"""Ports for servers of ours: outside the kernel's ephemeral range, and reserved until the server has them.

A client that reconnects to a closed port inside the ephemeral range can be given that very port as its own
end and connect to itself (TCP simultaneous open); a disabled proxy would then look alive.
"""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from harness.model.errors import SetupError

_LOW, _HIGH = 10_000, 65_535
_RANGE_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 500


def ephemeral_range() -> tuple[int, int]:
    """First and last port the kernel hands out by itself."""
    try:
        low, high = _RANGE_FILE.read_text("ascii").split()
        return int(low), int(high)
    except (OSError, ValueError):
        return 49_152, 65_535  # what IANA reserves for it; macOS uses exactly these


def candidates(ephemeral: tuple[int, int]) -> list[int]:
    """Every port we may use: 10000 to 65535 without the ephemeral range, or below 10000 if nothing is left."""
    low, high = ephemeral
    outside = [port for port in range(_LOW, _HIGH + 1) if not low <= port <= high]
    return outside or [port for port in range(1024, _LOW) if not low <= port <= high] or list(range(_LOW, _HIGH + 1))


class Ports:
    """Free ports on 127.0.0.1, kept from others until `release` (or the end of the `with`).

    On Linux the reserving socket stays bound, without listening, while the server binds the same port: both have
    SO_REUSEADDR, which Linux allows as long as none of them listens, and every server we start sets it. So two
    stacks that start at once never choose the same port. Elsewhere the socket is closed at once.
    """

    def __init__(self, *, avoid: Iterable[int] = (), rng: random.Random | None = None) -> None:
        self._held: list[socket.socket] = []
        self._taken = set(avoid)
        self._rng = rng or random.Random()
        self._candidates = candidates(ephemeral_range())

    def take(self) -> int:
        """A free port. Raises SetupError when none of 500 tries was free."""
        for _ in range(_TRIES):
            port = self._rng.choice(self._candidates)
            if port in self._taken:
                continue
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                # Without SO_REUSEADDR here: this bind must fail when anybody else has the port in any state.
                holder.bind(("127.0.0.1", port))
            except OSError:
                holder.close()
                continue
            self._taken.add(port)
            if sys.platform == "linux":
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._held.append(holder)
            else:
                holder.close()
            return port
        raise SetupError(
            "no free port found on 127.0.0.1 outside the kernel's ephemeral range",
            hint="see what listens there: ss -ltn",
        )

    def release(self) -> None:
        for holder in self._held:
            holder.close()
        self._held.clear()

    def __enter__(self) -> Ports:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
