"""The target's name keeps the addresses that were checked before the run: no later answer of a name server moves the
load to a machine that nobody allowed.

All of gevent's look-ups (of requests, of Locust's fast client, of anything a locustfile opens) go through the hub's
resolver, so that is the one place to hold on to.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from gevent import get_hub


class Pinned:
    """A resolver that knows one name by heart and asks `others` about the rest."""

    def __init__(self, name: str, addresses: Sequence[str], others: Any) -> None:
        self._name = name
        self._addresses = tuple(addresses)
        self._others = others

    def __getattr__(self, what: str) -> Any:
        return getattr(self._others, what)

    def getaddrinfo(self, host: Any, port: Any, *more: Any, **options: Any) -> Any:
        """As socket.getaddrinfo. Raises socket.gaierror when no address is of the family that was asked for."""
        if not self._is_it(host):
            return self._others.getaddrinfo(host, port, *more, **options)
        found: list[Any] = []
        problem: socket.gaierror | None = None
        for address in self._addresses:
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
        plain = (address for address in self._addresses if ":" not in address)
        return next(plain, host) if self._is_it(host) else host

    def _is_it(self, host: Any) -> bool:
        text = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        return isinstance(text, str) and text.rstrip(".").lower() == self._name


def pin(url: str, addresses: Sequence[str]) -> None:
    """From now on the host of `url` is at `addresses` for this process. Nothing to do without any."""
    name = (urlsplit(url).hostname or "").rstrip(".").lower()
    if name and addresses:
        hub = get_hub()
        hub.resolver = Pinned(name, addresses, hub.resolver)
