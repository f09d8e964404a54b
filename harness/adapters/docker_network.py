"""A container's ends of its networks: read, taken off, put back as they were.

Facts these functions rely on, seen on engine 20.10 (API 1.41):
- A second connect is answered 403, a second disconnect 500, so what was done is always read back.
- A connect that fails (address taken) leaves the network in the container's list with neither endpoint nor address,
  and the container cannot be started with that. Connected is only who has an endpoint, or does not run.
- An address may be asked for only on a network whose subnet its user configured; inspect shows a subnet either way. So
  it is asked for where somebody asked for it before. An address that the engine chose by itself it may choose anew.
- The MAC address is made from the IPv4 address, unless the container was created with one, which is kept. Asking for
  another one is ignored without a word before API 1.44; from there on it is taken, and addresses are random.
- The container's short ID is added to the aliases (until engine 25); the default bridge takes no aliases at all.
- Ports are published by the end that holds the default route: with it the published ports go, or move to the next
  network. A fixed port comes back as it was, a port that the engine chose is chosen anew.
"""

from __future__ import annotations

import shlex
from typing import Any

import msgspec

from harness.adapters.docker import Engine, full_id
from harness.adapters.docker_records import Container, Endpoint, IpamConfig
from harness.model.errors import Gone
from harness.model.faults import Applied

MAC_API = (1, 44)
PRIORITY_API = (1, 48)
UNCONNECTABLE = ("host", "none")
"""Nobody can be taken off these while running, or be put back."""


class NetworkEnd(msgspec.Struct, frozen=True, kw_only=True):
    """One container's end of one network: all that is needed to make it again.

    ipv4, ipv6: the addresses it had; asked_ipv4, asked_ipv6: those that its user asked for, "" = chosen by the engine.
    mac: the address it had; asked_mac: the container was created with it. aliases: without the container's short ID.
    endpoint: the engine's ID of this very end, "" while the container does not run.
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
    found = []
    for name, end in sorted(container.networks.items()):
        if not end.endpoint_id and container.state.running:
            continue  # what a failed connect left behind
        priority = (extra.network_settings.networks or {}).get(name, _Priority()).gw_priority
        found.append(_end(container, name, end, created_with, priority))
    return tuple(found)


def _end(container: Container, name: str, end: Endpoint, created_with: str, priority: int) -> NetworkEnd:
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
        asked_mac=bool(created_with) and end.mac_address.lower() == created_with,
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
    api = spoken(engine)
    asked = IpamConfig(ipv4_address=end.asked_ipv4, ipv6_address=end.asked_ipv6, link_local_ips=end.link_local or None)
    config = _EndpointConfig(
        aliases=end.aliases,
        links=end.links,
        driver_opts=end.driver_opts,
        mac_address=end.mac if api >= MAC_API else "",
        gw_priority=end.priority if api >= PRIORITY_API else 0,
        ipam_config=None if asked == IpamConfig() else asked,
    )
    return engine.post(f"/networks/{full_id(end.network_id)}/connect", _On(container_id, config))


def keeps_mac(engine: Engine, end: NetworkEnd) -> bool:
    """Whether a reconnect must give back the MAC address (see above)."""
    return bool(end.mac) and (end.asked_mac or spoken(engine) >= MAC_API)


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
    for flag, value in (("--ip", end.asked_ipv4), ("--ip6", end.asked_ipv6)):
        words += [flag, value] if value else []
    for flag, values in (("--link-local-ip", end.link_local), ("--alias", end.aliases), ("--link", end.links)):
        words += [word for value in values for word in (flag, value)]
    words += [word for key, value in sorted(end.driver_opts.items()) for word in ("--driver-opt", f"{key}={value}")]
    if end.priority:
        words += ["--gw-priority", str(end.priority)]
    return docker_command(engine, *words, end.network, container)
