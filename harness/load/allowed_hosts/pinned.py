"""The names of the run's hosts keep the addresses that were checked: no later answer of a name server moves the load to
a machine that nobody allowed.

All of gevent's look-ups (of requests, of Locust's fast client, of anything a locustfile opens) go through the hub's
resolver, so that is the one place to hold on to.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from gevent import get_hub


class Pinned:
    """A resolver that knows some names by heart and asks `others` about the rest. The names may become more."""

    def __init__(self, names: Mapping[str, tuple[str, ...]], others: Any) -> None:
        self._names = names
        self._others = others

    def __getattr__(self, what: str) -> Any:
        return getattr(self._others, what)

    def getaddrinfo(self, host: Any, port: Any, *more: Any, **options: Any) -> Any:
        """As socket.getaddrinfo. Raises socket.gaierror when no address is of the family that was asked for."""
        addresses = self._known(host)
        if not addresses:
            return self._others.getaddrinfo(host, port, *more, **options)
        found: list[Any] = []
        problem: socket.gaierror | None = None
        for address in addresses:
            try:
                found += self._others.getaddrinfo(address, port, *more, **options)
            except socket.gaierror as error:
                problem = error
        if not found:
            raise problem or socket.gaierror(socket.EAI_NONAME, "no address of that family was checked")
        return found

    def gethostbyname(self, hostname: Any, *more: Any) -> Any:
        return self._others.gethostbyname(self._one(hostname), *more)

    def gethostbyname_ex(self, hostname: Any, *more: Any) -> Any:
        return self._others.gethostbyname_ex(self._one(hostname), *more)

    def _one(self, host: Any) -> Any:
        return next((address for address in self._known(host) if ":" not in address), host)

    def _known(self, host: Any) -> tuple[str, ...]:
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        return self._names.get(text.rstrip(".").lower(), ()) if isinstance(text, str) else ()


def pin(names: Mapping[str, tuple[str, ...]]) -> None:
    """From now on these names (in lower case) are at these addresses for this process."""
    hub = get_hub()
    hub.resolver = Pinned(names, hub.resolver)
