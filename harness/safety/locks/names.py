"""Names of what a run locks on this machine: the same name for the same server, however it is written.

A host name and its address, loopback and this machine's own addresses, are one; a server that tells who it is (Redis,
PostgreSQL) is also known by that, so that no second address leads past the lock.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from harness.adapters.allowed_hosts import ENVOY_PORT, TOXIPROXY_PORT, own_addresses, url_address
from harness.dependencies.registry import kind_of
from harness.model.errors import HarnessError
from harness.model.records.faults import Dependency


def target_names(url: str) -> list[str]:
    """The target's: by address and port, whatever path or name the URL has."""
    return _names("target", *url_address(url))


def resource_names(url: str, changed: Iterable[Dependency]) -> list[str]:
    """The target at this URL and every dependency that faults change, sorted.

    Asks each server who it is; one that does not say is known by its address alone. Raises UsageError
    for a URL that is none.
    """
    changed = list(changed)
    said = ((dependency.kind, _identity(dependency)) for dependency in changed)
    return sorted({*declared_names(url, changed), *(f"{kind} {name}" for kind, name in said if name is not None)})


def declared_names(url: str, changed: Iterable[Dependency]) -> list[str]:
    """The same by what is declared alone: nobody is asked, so it may be had before any host was checked."""
    found = set(target_names(url)) if url else set()
    for dependency in changed:
        if dependency.target and dependency.url is not None:
            found |= set(target_names(dependency.url))
        for address in (dependency.direct, dependency.path):
            if address is not None:
                found |= set(_names(dependency.kind, address.host, address.port))
        if dependency.proxy.url is not None and dependency.proxied:
            host, port = url_address(dependency.proxy.url, TOXIPROXY_PORT)
            found |= {f"{name} proxy {dependency.proxy.name}" for name in _names("toxiproxy", host, port)}
        if dependency.front is not None and dependency.front.url is not None:
            host, port = url_address(dependency.front.url, ENVOY_PORT)
            found |= {f"{name} front {dependency.front.name}" for name in _names("envoy", host, port)}
        if dependency.process.pid_file is not None or dependency.process.pid is not None:
            found.add(f"process {dependency.process.pid_file or dependency.process.pid}")
        if dependency.container.id is not None:
            found.add(f"container {dependency.container.id}")
    return sorted(found)


def _names(what: str, host: str, port: int) -> list[str]:
    return [f"{what} {place}:{port}" for place in _places(host, port)]


def _places(host: str, port: int) -> list[str]:
    """Where a name leads, each address once; all of this machine's own are "this machine"."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return [host]  # it cannot be reached, so nobody can run on it
    own = own_addresses()
    places = set()
    for item in found:
        address = ipaddress.ip_address(str(item[4][0]).partition("%")[0])
        plain = getattr(address, "ipv4_mapped", None) or address
        here = plain.is_loopback or plain.is_unspecified or str(plain) in own
        places.add("this machine" if here else str(plain))
    return sorted(places)


def _identity(dependency: Dependency) -> str | None:
    """What the server says about itself; None when it is another kind, does not say or does not answer."""
    try:
        return kind_of(dependency).identity(dependency)
    except HarnessError:
        return None
