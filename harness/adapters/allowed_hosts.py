"""Which addresses the harness may speak to, and pinning: a name is resolved once, then only its address is used.

The rule, the same for load, control and undo: loopback always; a private address when the configuration names it; any
other only with --allow-host. A name may resolve to several addresses: each of them must pass, the first one is used.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Address, Dependency

_IP = ipaddress.IPv4Address | ipaddress.IPv6Address

TOXIPROXY_PORT = 8474
ENVOY_PORT = 9901
DOCKER_PORT = 2375
_PORTS = {"http": 80, "https": 443}


def check_address(host: str, port: int, allowed: Collection[str], *, allow_hosts: Collection[str] = ()) -> list[str]:
    """Resolve a host once, and return its addresses to be used from then on (pinned).

    Every address must be loopback, or private and its host, address or network named in `allowed` (from the
    configuration), or be named in `allow_hosts` (from --allow-host), which may be public. Unspecified, multicast,
    reserved and link-local addresses (a cloud's metadata service is one) need --allow-host. Raises Refused, and
    UsageError when the name does not resolve.
    """
    if not host or not 0 < port < 65536:
        raise UsageError(f"{host or 'an empty host'}:{port} is not an address")
    return check_resolved(host, port, _resolve(host, port), allowed, allow_hosts=allow_hosts)


def check_resolved(
    host: str, port: int, addresses: Collection[str], allowed: Collection[str], *, allow_hosts: Collection[str] = ()
) -> list[str]:
    """The same for a host that somebody has resolved already. Raises as check_address does."""
    for address in addresses:
        try:
            plain = _plain(address)
        except ValueError:
            raise UsageError(f"{host}:{port}: {address!r} is not an address") from None
        if plain.is_loopback or _named(host, plain, allow_hosts):
            continue
        said = f"{host}:{port} is" + ("" if host.strip("[]") == address else f" {address},")
        hint = f"if it is meant to be under test: --allow-host {host}"
        if not _is_private(plain):
            raise Refused(f"{said} neither loopback nor a private address", hint=hint)
        if not _named(host, plain, allowed):
            raise Refused(f"{said} a private address that the configuration does not name", hint=hint)
    return list(addresses)


def is_named(host: str, address: str, names: Collection[str]) -> bool:
    """Whether one of the names, addresses and networks is this host or contains this address of it."""
    return _named(host, _plain(address), names)


def check_url(url: str, allowed: Collection[str], *, allow_hosts: Collection[str] = ()) -> list[str]:
    """The same for a URL's host; without a port it is the scheme's. Raises as check_address does."""
    host, port = url_address(url)
    return check_address(host, port, allowed, allow_hosts=allow_hosts)


def url_address(url: str, default_port: int | None = None) -> tuple[str, int]:
    """Host and port of a URL. Raises UsageError for what is none."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url} is not a URL: {error}") from error
    if port is None:
        port = default_port or _PORTS.get(parts.scheme)
    if not parts.hostname or port is None:
        raise UsageError(f"{url} is not a URL with a host", hint="for example: http://127.0.0.1:8000")
    return parts.hostname, port


def pinned(dependency: Dependency, allowed: Collection[str], *, allow_hosts: Collection[str] = ()) -> Dependency:
    """The dependency with every name in it replaced by an address that may be spoken to.

    path, direct, the URLs of Toxiproxy and Envoy (plain HTTP only, so the address can stand in them) and the admin
    login get the address itself; an https `url` keeps its name, which its certificate is for. Raises Refused and
    UsageError, naming the dependency and which of its addresses it is.
    """

    def first(host: str, port: int, what: str) -> str:
        try:
            return check_address(host, port, allowed, allow_hosts=allow_hosts)[0]
        except UsageError as error:
            raise type(error)(f"{dependency.name}: {what}: {error}", hint=error.hint) from error

    changed: dict[str, Any] = {}
    for name, address in (("path", dependency.path), ("direct", dependency.direct)):
        if address is not None:
            changed[name] = Address(first(address.host, address.port, name), address.port)
    if dependency.proxy.url is not None:
        host, port = url_address(dependency.proxy.url, TOXIPROXY_PORT)
        changed["proxy"] = {"url": f"http://{Address(first(host, port, 'toxiproxy'), port)}"}
    if dependency.front is not None and dependency.front.url is not None:
        host, port = url_address(dependency.front.url, ENVOY_PORT)
        changed["front"] = {"url": f"http://{Address(first(host, port, 'front'), port)}"}
    if dependency.url is not None:
        host, port = url_address(dependency.url)
        found = first(host, port, "url")
        if urlsplit(dependency.url).scheme == "http":
            changed["url"] = urlunsplit(urlsplit(dependency.url)._replace(netloc=str(Address(found, port))))
    if dependency.broker.management is not None:
        host, port = url_address(dependency.broker.management)
        found = first(host, port, "management")
        if urlsplit(dependency.broker.management).scheme == "http":
            changed["broker"] = {"management": f"http://{Address(found, port)}"}
    if dependency.credentials.admin is not None:
        changed["credentials"] = {"admin": _pinned_login(dependency, first)}
    return dependency.but(**changed)


def reached(dependency: Dependency) -> list[tuple[str, int]]:
    """Host and port of everything that a fault on this dependency speaks to. Raises UsageError."""
    found = [(a.host, a.port) for a in (dependency.path, dependency.direct) if a is not None]
    if dependency.proxy.url is not None:
        found.append(url_address(dependency.proxy.url, TOXIPROXY_PORT))
    if dependency.front is not None and dependency.front.url is not None:
        found.append(url_address(dependency.front.url, ENVOY_PORT))
    if dependency.url is not None:
        found.append(url_address(dependency.url))
    if dependency.broker.management is not None:
        found.append(url_address(dependency.broker.management))
    if dependency.credentials.admin is not None:
        server = server_address(dependency.credentials.admin, default=dependency.direct)
        if server is not None:
            found.append(server)
    if dependency.container.engine is not None and not dependency.container.engine.startswith("unix://"):
        found.append(url_address(dependency.container.engine, DOCKER_PORT))
    runtime = dependency.proxy.runtime
    if runtime is not None and runtime.engine is not None and not runtime.engine.startswith("unix://"):
        found.append(url_address(runtime.engine, DOCKER_PORT))
    return list(dict.fromkeys(found))


def server_address(options: str, *, default: Address | None = None) -> tuple[str, int] | None:
    """Host (or address) and port that PostgreSQL connection options lead to; None for a unix socket.

    default: the server where the options name none (libpq would take it from the environment). Raises UsageError for
    options that do not parse, that name several servers (which one would be changed?) or a service file.
    """
    from harness.adapters.clients.postgres_admin import options_of

    values = options_of(options)
    host, port = values.get("hostaddr") or values.get("host", ""), values.get("port", "")
    if "service" in values:
        raise UsageError("a service file hides which PostgreSQL server is meant", hint="name host and port")
    if "," in host + port:
        raise UsageError(f"the PostgreSQL connection options name several servers ({host})", hint="name one")
    if host.startswith(("/", "@")):
        return None
    if not host and default is not None:
        host, port = default.host, port or str(default.port)
    if not host:
        raise UsageError("the PostgreSQL connection options name no host", hint="write host=NAME port=NUMBER")
    if port and not port.isdigit():
        raise UsageError(f"the PostgreSQL port {port!r} is not a number")
    return host, int(port or 5432)


def with_admin_host(dependency: Dependency) -> Dependency:
    """An admin login that names no host is for the direct address."""
    if dependency.credentials.admin is None or dependency.direct is None:
        return dependency
    from harness.adapters.clients.postgres_admin import conninfo

    server = server_address(dependency.credentials.admin, default=dependency.direct)
    if server is None or names_host(dependency.credentials.admin):
        return dependency  # a name beside an address is what a certificate is for
    return dependency.but(
        credentials={"admin": conninfo(dependency.credentials.admin, host=server[0], port=str(server[1]))}
    )


def names_host(options: str | None) -> bool:
    """Whether a login's connection options say where it is for."""
    from harness.adapters.clients.postgres_admin import options_of

    return options is not None and bool({"host", "hostaddr"} & options_of(options).keys())


def _pinned_login(dependency: Dependency, first: Callable[[str, int, str], str]) -> str:
    """The admin login with hostaddr and port spelled out: libpq takes what is missing from its environment."""
    from harness.adapters.clients.postgres_admin import conninfo

    assert dependency.credentials.admin is not None
    try:
        server = server_address(dependency.credentials.admin, default=dependency.direct)
    except UsageError as error:
        raise type(error)(f"{dependency.name}: admin: {error}", hint=error.hint) from error
    if server is None:  # a unix socket: nothing to resolve, and no address of the environment may win over it
        return conninfo(dependency.credentials.admin, hostaddr="")
    host, port = server
    return conninfo(dependency.credentials.admin, port=str(port), hostaddr=first(host, port, "admin"))


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


def own_addresses() -> frozenset[str]:
    """This machine's, of all of its interfaces."""
    import psutil

    try:
        interfaces = psutil.net_if_addrs()
    except OSError:
        return frozenset()
    return frozenset(item.address.partition("%")[0] for each in interfaces.values() for item in each)
