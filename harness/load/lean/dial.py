"""From a name and a port to a connected socket, waiting in the event loop."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from functools import lru_cache
from typing import Any

import gevent
import gevent.socket
from gevent.monkey import get_original

READ, WRITE = 1, 2

Address = tuple[int, tuple[Any, ...]]
"""(family, what connect() takes)."""


def dial(host: str, port: int) -> Any:
    """A connected, non-blocking socket of the standard library; the first address that answers.

    Raises OSError as connect() does (of the first address), socket.gaierror when the name has no address.
    """
    first: OSError | None = None
    for family, address in _literal(host, port) or _look_up(host, port):
        try:
            return _connect(family, address)
        except OSError as error:
            first = first or error
    raise first or socket.gaierror(socket.EAI_NONAME, f"{host} has no address")


def wait(fd: int, events: int) -> None:
    """Until the descriptor is ready. events: READ or WRITE."""
    hub = gevent.get_hub()
    watcher = hub.loop.io(fd, events)
    try:
        hub.wait(watcher)
    finally:
        watcher.close()


def _connect(family: int, address: tuple[Any, ...]) -> Any:
    # Not gevent's: that one would bring two watchers of its own, and try to read before anything can have come.
    made = get_original("socket", "socket")(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = made.connect_ex(address)
        if code in (errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR):
            wait(made.fileno(), WRITE)
            code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        made.close()
        raise
    return made


@lru_cache(maxsize=256)
def _literal(host: str, port: int) -> tuple[Address, ...]:
    """An address is its own answer: nothing to look up."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return ()
    if isinstance(ip, ipaddress.IPv4Address):
        return ((socket.AF_INET, (host, port)),)
    if ip.scope_id is not None:
        return ()
    return ((socket.AF_INET6, (host, port)),)


def _look_up(host: str, port: int) -> list[Address]:
    """By the event loop's resolver, which the harness has pinned to the addresses that were checked."""
    found = gevent.socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]
