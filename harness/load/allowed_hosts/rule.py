"""Which hosts this process sends load to: the target's, and those that --allow-host names. Nobody else gets a packet.

Asked where a request is sent, by HttpUser, FastHttpUser and LeanHttpUser alike: whole URLs in a locustfile, a user's
own host, redirects, and what a load master on another machine says. A name is looked up once. What else a locustfile
opens (a database, a client of its own) is its own affair.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

import msgspec

from harness.adapters.allowed_hosts import check_address, check_resolved, is_named, url_address
from harness.model.records.load import LoadPlan

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class NotAllowed(OSError):
    """A request was not sent: its host is none of this run's."""


class Hosts:
    """url, addresses: the target and where it is, as checked. allowed: what --allow-host says."""

    def __init__(self, url: str, addresses: Sequence[str] = (), allowed: Iterable[str] = ()) -> None:
        self.target = host_of(url)
        self._allowed = tuple(allowed)
        self._good = {self.target, *map(_plain, addresses)}
        if self._good & _LOOPBACK:
            self._good |= _LOOPBACK
        self._of_target = frozenset(self._good)
        # Only then may a name that is not listed lead to an address that is.
        self._by_address = any(_is_address(name.partition("/")[0]) for name in self._allowed)
        self.pinned: dict[str, tuple[str, ...]] = {}
        if addresses and self.target and not _is_address(self.target):
            self.pinned[self.target] = tuple(addresses)

    def refuses(self, host: str) -> str | None:
        """Why nothing is sent there; None: go on. May look the name up, once."""
        name = _plain(host)
        if name in self._good or (name and self._is_allowed(name)):
            self._good.add(name)
            return None
        return (
            f"{name or 'an empty host'} is no host of this run, so nothing was sent: the load is for {self.target}; "
            f"if it is meant to be under test: --allow-host {name or 'HOST'}"
        )

    def is_target(self, host: str) -> bool:
        return _plain(host) in self._of_target

    def _is_allowed(self, name: str) -> bool:
        if _is_address(name):
            return is_named(name, name, self._allowed)
        listed = any(_plain(each) == name for each in self._allowed)
        if not listed and not self._by_address:
            return False
        try:
            found = list(
                dict.fromkeys(str(item[4][0]) for item in socket.getaddrinfo(name, 0, type=socket.SOCK_STREAM))
            )
        except (OSError, UnicodeError):
            # A listed name that does not resolve fails as any other: the client says so.
            return listed
        if not all(is_named(name, address, self._allowed) for address in found):
            return False
        self.pinned[name] = tuple(found)
        return True


_hosts: Hosts | None = None


def set_hosts(hosts: Hosts) -> None:
    """The rule of this process: enforce.py."""
    global _hosts
    _hosts = hosts


def refuses(host: str) -> str | None:
    """Why nothing is sent to that host; None: go on. Under plain Locust every host is allowed."""
    return _hosts.refuses(host) if _hosts is not None else None


def is_target(host: str) -> bool:
    """Whether that host is the target's own, by one of its names or addresses; nobody's under plain Locust."""
    return _hosts is not None and _hosts.is_target(host)


def held() -> bool:
    """Whether this process has a rule."""
    return _hosts is not None


def check(host: str) -> None:
    """Before a connection is made. Raises NotAllowed."""
    why = refuses(host)
    if why is not None:
        raise NotAllowed(why)


def host_of(url: str) -> str:
    """The host of a URL, "" for what has none."""
    try:
        return _plain(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def checked_here(plan: LoadPlan, allow_hosts: tuple[str, ...]) -> LoadPlan:
    """The plan of a master on another machine, as far as this machine's rule goes: the target must be loopback or have
    private addresses, or be named in allow_hosts, and nothing is allowed here because the master allows it.

    Raises UsageError.
    """
    host, port = url_address(plan.host)
    if plan.addresses and not _is_address(_plain(host)):
        addresses = check_resolved(host, port, plan.addresses, (host,), allow_hosts=allow_hosts)
    else:
        addresses = check_address(host, port, (host,), allow_hosts=allow_hosts)
    return msgspec.structs.replace(plan, addresses=tuple(addresses), allow_hosts=allow_hosts)


def _plain(host: str) -> str:
    return host.strip().strip("[]").rstrip(".").lower()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
