"""A container's ends of its networks: read, taken off, put back as they were.

Facts these functions rely on, seen on engine 20.10 (API 1.41) and on one with API 1.56:
- A second connect is answered 403, a second disconnect 500, so what was done is always read back.
- A connect that fails (address taken) leaves the network in the container's list with neither endpoint nor address,
  and the container cannot be started with that. Connected is only who has an endpoint, or does not run.
- An address may be asked for only on a network whose subnet its user configured; inspect shows a subnet either way. So
  it is asked for where somebody asked for it before. An address that the engine chose by itself it may choose anew.
- A MAC address that nobody asked for is made from the IPv4 address, and by newer engines drawn anew at every start and
  reconnect. One that the container was created with is kept before API 1.44. From there on it belongs to the end and is
  lost with it: a reconnect may ask for it, which is ignored without a word until API 1.54.
- Which MAC address was asked for is told only in `Config.MacAddress`, only of the network that the container was
  created on, and in no API above 1.51.
- The container's short ID is added to the aliases (until API 1.45); the default bridge takes no aliases at all.
- Ports are published by the end that holds the default route: with it the published ports go, or move to the next
  network. A fixed port comes back as it was, a port that the engine chose is chosen anew.
"""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from harness.adapters.docker.engine import Engine, full_id
from harness.adapters.docker.records import Container, Endpoint, IpamConfig
from harness.model.errors import Gone
from harness.model.records.faults import Applied

ENDS_HAVE_MAC_API = (1, 44)
MAC_API = (1, 54)
"""From where on a reconnect gives back a MAC address; its request is made in that version."""
PRIORITY_API = (1, 48)
UNCONNECTABLE = ("host", "none")
"""Nobody can be taken off these while running, or be put back."""


class NetworkEnd(msgspec.Struct, frozen=True, kw_only=True):
    """One container's end of one network: all that is needed to make it again.

    ipv4, ipv6: the addresses it had; asked_ipv4, asked_ipv6: those that its user asked for, "" = chosen by the engine.
    mac: the address it had; asked_mac: its user is known to have asked for it; give_mac: a reconnect asks for it, also
    where nobody can tell who chose it. aliases: without the container's short ID. endpoint: the engine's ID of this
    very end, "" while the container does not run.
    """

    network: str
    network_id: str
    endpoint: str = ""
    ipv4: str = ""
    ipv6: str = ""
    asked_ipv4: str = ""
    asked_ipv6: str = ""
    link_local: tuple[str, ...] = ()
    mac: str = ""
    asked_mac: bool = False
    give_mac: bool = False
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_opts: dict[str, str] = {}
    priority: int = 0


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A container as its network lists it. Addresses without their prefix length."""

    id: str
    name: str = ""
    ipv4: str = ""
    ipv6: str = ""


class _Listed(msgspec.Struct, frozen=True, rename="pascal"):
    name: str = ""
    ipv4_address: str = msgspec.field(name="IPv4Address", default="")
    ipv6_address: str = msgspec.field(name="IPv6Address", default="")


class _Priority(msgspec.Struct, frozen=True, rename="pascal"):
    gw_priority: int = 0


class _Settings(msgspec.Struct, frozen=True, rename="pascal"):
    networks: dict[str, _Priority] | None = None


class _Extra(msgspec.Struct, frozen=True, rename="pascal"):
    """What only this module needs of an inspection. mac_address: as the container was created, in older APIs."""

    network_settings: _Settings = _Settings()
    config: dict[str, Any] = {}


class _Off(msgspec.Struct, frozen=True, rename="pascal"):
    container: str
    force: bool = False


class _EndpointConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    driver_opts: dict[str, str] = {}
    mac_address: str = ""
    gw_priority: int = 0
    ipam_config: IpamConfig | None = msgspec.field(name="IPAMConfig", default=None)


class _On(msgspec.Struct, frozen=True, rename="pascal"):
    container: str
    endpoint_config: _EndpointConfig


def ends(engine: Engine, container: Container) -> tuple[NetworkEnd, ...]:
    """Every network end that a container really has, by the networks' names. Raises Gone, AdapterError."""
    extra = engine.get(f"/containers/{full_id(container.id)}/json", _Extra)
    created_with = str(extra.config.get("MacAddress") or "").lower()
    mode = container.host_config.network_mode
    created_on = "bridge" if mode == "default" else mode
    found = []
    for name, end in sorted(container.networks.items()):
        if not end.endpoint_id and container.state.running:
            continue  # what a failed connect left behind
        priority = (extra.network_settings.networks or {}).get(name, _Priority()).gw_priority
        asked_mac = bool(created_with) and end.mac_address.lower() == created_with
        # Drawn by the engine, it is not asked for: it would be fixed for good. Where that cannot be told it is, because
        # a fixed one too many is less harm than one that its user asked for and lost.
        unknown = name != created_on
        give_mac = spoken(engine) >= MAC_API and (asked_mac or unknown)
        found.append(_end(container, name, end, priority, asked_mac=asked_mac, give_mac=give_mac))
    return tuple(found)


def _end(
    container: Container, name: str, end: Endpoint, priority: int, *, asked_mac: bool, give_mac: bool
) -> NetworkEnd:
    asked = end.ipam_config or IpamConfig()
    return NetworkEnd(
        network=name,
        network_id=end.network_id,
        endpoint=end.endpoint_id,
        ipv4=end.ip_address,
        ipv6=end.global_ipv6_address,
        asked_ipv4=asked.ipv4_address,
        asked_ipv6=asked.ipv6_address,
        link_local=tuple(asked.link_local_ips or ()),
        mac=end.mac_address,
        asked_mac=asked_mac,
        give_mac=give_mac,
        aliases=tuple(alias for alias in end.aliases or () if alias != container.id[:12]),
        links=tuple(end.links or ()),
        driver_opts=dict(end.driver_opts or {}),
        priority=priority,
    )


def members(engine: Engine, network_id: str) -> dict[str, Member]:
    """Who is on a network, by full container ID. Raises Gone when there is no such network."""
    found = {}
    for container_id, listed in (engine.network(network_id).containers or {}).items():
        one = msgspec.convert(listed, _Listed)
        found[container_id] = Member(
            id=container_id,
            name=one.name,
            ipv4=one.ipv4_address.partition("/")[0],
            ipv6=one.ipv6_address.partition("/")[0],
        )
    return found


def network_called(engine: Engine, name: str) -> str | None:
    """The ID of the network with exactly this name; None when there is none, the first where there are more."""
    rows = engine.get(
        "/networks", list[dict[str, Any]], params={"filters": msgspec.json.encode({"name": [name]}).decode()}
    )
    return next((str(row["Id"]) for row in rows if row.get("Name") == name), None)


def disconnect(engine: Engine, network_id: str, container_id: str) -> Applied:
    """Take a container off a network. Raises Rejected where it is not on it (500), Gone, OutcomeUnknown."""
    engine.container(container_id)
    return engine.post(f"/networks/{full_id(network_id)}/disconnect", _Off(container_id))


def connect(engine: Engine, container_id: str, end: NetworkEnd) -> Applied:
    """Put a container on a network as it was. Raises Rejected (403: it is on it already, or the address is taken),
    Gone when container or network does not exist, OutcomeUnknown."""
    engine.container(container_id)
    asked = IpamConfig(ipv4_address=end.asked_ipv4, ipv6_address=end.asked_ipv6, link_local_ips=end.link_local or None)
    config = _EndpointConfig(
        aliases=end.aliases,
        links=end.links,
        driver_opts=end.driver_opts,
        mac_address=end.mac if end.give_mac else "",
        gw_priority=end.priority if spoken(engine) >= PRIORITY_API else 0,
        ipam_config=None if asked == IpamConfig() else asked,
    )
    api = MAC_API if end.give_mac else None
    return engine.post(f"/networks/{full_id(end.network_id)}/connect", _On(container_id, config), api=api)


def loses_mac(engine: Engine, end: NetworkEnd) -> bool:
    """Whether the MAC address that its user asked for is lost when the container is taken off this network."""
    return end.asked_mac and not end.give_mac and spoken(engine) >= ENDS_HAVE_MAC_API


def spoken(engine: Engine) -> tuple[int, int]:
    """The highest version of the API that the engine has."""
    major, _, minor = engine.version.api_version.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def on_network(engine: Engine, network_id: str, container_id: str) -> bool:
    """As the network itself sees it. A network that is gone has nobody."""
    try:
        return container_id in members(engine, network_id)
    except Gone:
        return False


def docker_command(engine: str, *words: str) -> str:
    """A docker command for people, for this very engine: quoted, so that it can be pasted."""
    usual = () if engine == "unix:///var/run/docker.sock" else ("-H", engine.replace("https://", "tcp://"))
    return shlex.join(("docker", *usual, *words))


def connect_command(engine: str, container: str, end: NetworkEnd) -> str:
    """What a person types to put a container back on a network."""
    words = ["network", "connect"]
    mac = end.mac if end.asked_mac and end.give_mac else ""
    for flag, value in (("--ip", end.asked_ipv4), ("--ip6", end.asked_ipv6), ("--mac-address", mac)):
        words += [flag, value] if value else []
    for flag, values in (("--link-local-ip", end.link_local), ("--alias", end.aliases), ("--link", end.links)):
        words += [word for value in values for word in (flag, value)]
    words += [word for key, value in sorted(end.driver_opts.items()) for word in ("--driver-opt", f"{key}={value}")]
    if end.priority:
        words += ["--gw-priority", str(end.priority)]
    return docker_command(engine, *words, end.network, container)
