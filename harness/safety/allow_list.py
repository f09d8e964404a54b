"""Which addresses the harness may speak to: loopback, and what the configuration names."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection

from harness.model.errors import Refused, UsageError

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address


def check_address(host: str, port: int, allowed: Collection[str], *, allow_hosts: Collection[str] = ()) -> list[str]:
    """Resolve a host once, and return its addresses to be used from then on (pinned).

    Every address must be loopback, or private and its host, address or network named in `allowed` (from the
    configuration), or be named in `allow_hosts` (from --allow-host), which may be public. Unspecified, multicast,
    reserved and link-local addresses (a cloud's metadata service is one) need --allow-host. Raises Refused, and
    UsageError when the name does not resolve.
    """
    if not host or not 0 < port < 65536:
        raise UsageError(f"{host or 'an empty host'}:{port} is not an address")
    addresses = _resolve(host, port)
    for address in addresses:
        plain = _plain(address)
        if plain.is_loopback or _named(host, plain, allow_hosts):
            continue
        if not _is_private(plain):
            raise Refused(
                f"{host}:{port} is {address}, which is neither loopback nor a private address",
                hint=f"if it is meant to be under test: --allow-host {host}",
            )
        if not _named(host, plain, allowed):
            raise Refused(
                f"{host}:{port} is {address}, a private address that the configuration does not name",
                hint=f"if it is meant to be under test: --allow-host {host}",
            )
    return addresses


def _resolve(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(f"the host {host} does not resolve: {error}") from error
    return list(dict.fromkeys(str(item[4][0]) for item in found))


def _plain(address: str) -> _IP:
    """The address itself: no zone, and IPv4 where it is an IPv4-mapped one (which Python calls private)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(ip, "ipv4_mapped", None)
    return mapped if isinstance(mapped, ipaddress.IPv4Address) else ip


def _is_private(ip: _IP) -> bool:
    # is_private also covers documentation, benchmark and broadcast ranges, where nobody's own server is.
    own = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
    return any(ip in network for network in map(ipaddress.ip_network, own) if network.version == ip.version)


def _named(host: str, ip: _IP, names: Collection[str]) -> bool:
    for name in names:
        bare = name.strip().strip("[]").lower()
        if bare == host.strip("[]").lower().rstrip("."):
            return True
        try:
            if ip in ipaddress.ip_network(bare, strict=False):
                return True
        except (ValueError, TypeError):
            continue
    return False
