"""The services of a compose project as a proxy between them needs them: read of what Compose made of its files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from harness.model.errors import UsageError
from harness.model.files import read_limited
from harness.scaffold.compose_config import Composed, mapping

OURS = "harness-toxiproxy"
"""The Toxiproxies that an override of ours adds are called so, or have a number behind it."""
ENVOY = "harness-envoy"
"""So is the Envoy, where there is one."""
_PORT = re.compile(r"[0-9]{1,5}")
_MOST_OF_A_FILE = 100_000
Text = tuple[str, str]
"""Where a text stands ("REDIS_URL", "its command", a file's name), and the text."""


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One service. networks: name -> its aliases there. names: all that others on its networks may call it;
    made: those that Compose makes up for its container.

    links: (service, alias). depends_on: service -> condition. ports: container ports, published or
    exposed; published: container port -> host port, where the project fixes that. pinned: name -> address of
    extra_hosts. health: the command of its health check. files: texts of small files that are mounted into it.
    """

    name: str
    image: str = ""
    build: str | None = None
    networks: dict[str, tuple[str, ...]] = {}
    network_mode: str | None = None
    names: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    external_links: tuple[str, ...] = ()
    depends_on: dict[str, str] = {}
    environment: dict[str, str] = {}
    command: str = ""
    health: str = ""
    files: tuple[Text, ...] = ()
    ports: tuple[int, ...] = ()
    published: dict[int, int] = {}
    pinned: dict[str, str] = {}
    mounts: dict[str, str] = {}
    replicas: int = 1
    restart: str = ""

    @property
    def base(self) -> str:
        """Its image's own name: without registry, owner, tag and digest."""
        return self.image.partition("@")[0].rpartition("/")[2].partition(":")[0].lower()

    @property
    def texts(self) -> Iterator[Text]:
        # COMPOSE_PROFILES=redis is for Compose, and so are all that are called so.
        yield from (one for one in self.environment.items() if not one[0].startswith("COMPOSE_"))
        if self.command:
            yield "its command", self.command
        yield from self.files


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """composed: of which all this was read. internal: networks without a way out."""

    composed: Composed
    name: str
    services: dict[str, Service]
    internal: frozenset[str] = frozenset()

    def owner(self, service: Service) -> Service | None:
        """The service in whose network namespace it is: itself, or the one that it joined; None: a foreign one, the
        host's, or none at all."""
        seen = set()
        while service.network_mode is not None:
            joined = service.network_mode.removeprefix("service:")
            if joined == service.network_mode or joined in seen or joined not in self.services:
                return None
            seen.add(joined)
            service = self.services[joined]
        return service

    def shared(self, one: Service, other: Service) -> bool:
        return bool(set(one.networks) & set(other.networks))


def project_of(composed: Composed, *, all_of_it: bool = False) -> Project:
    """Raises UsageError. An override of ours that is applied already is left out again, unless all of it is wanted."""
    model = composed.model
    tables = {name: t for name, t in mapping(model.get("services")).items() if all_of_it or not ours(name)}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"compose file {composed.files[0]}: services.{name} is no mapping")
    name = str(model.get("name") or Path(composed.files[0]).absolute().parent.name)
    configs = mapping(model.get("configs"))
    services = {key: _service(key, table, name, configs, composed, all_of_it) for key, table in tables.items()}
    networks = mapping(model.get("networks"))
    internal = {key for key, table in networks.items() if isinstance(table, dict) and table.get("internal") is True}
    return Project(composed=composed, name=name, services=services, internal=frozenset(internal))


def name_of(service: str) -> str:
    """A service's name as faults may call it: they take small letters, digits, and single - and _ between them."""
    return re.sub(r"[^a-z0-9]+", "-", service.lower()).strip("-") or "service"


def ours(service: str) -> bool:
    return re.fullmatch(rf"{OURS}(-\d+)?|{ENVOY}", service) is not None


def _service(
    name: str, table: dict[str, Any], project: str, configs: dict[str, Any], composed: Composed, all_of_it: bool
) -> Service:
    ends = mapping(table.get("networks"))
    mode = str(table["network_mode"]) if table.get("network_mode") else None
    networks = {
        key: tuple(map(str, _list(end.get("aliases")))) if isinstance(end, dict) else () for key, end in ends.items()
    }
    if mode is None and not networks:
        networks = {"default": ()}
    others = [str(table[key]) for key in ("container_name", "hostname") if table.get(key)]
    others += [alias for aliases in networks.values() for alias in aliases]
    made = () if table.get("container_name") else (f"{project}-{name}-1", f"{project}_{name}_1")
    ports, published = _ports(table)
    links = [_link(str(one)) for one in _list(table.get("links"))]
    health = table.get("healthcheck")
    build = table.get("build")
    return Service(
        name=name,
        image=str(table.get("image") or ""),
        build=str(build.get("context") or ".") if isinstance(build, dict) else None if build is None else str(build),
        networks=networks,
        network_mode=mode,
        names=tuple(dict.fromkeys((name, *others))),
        made=made,
        addresses=tuple(
            str(end[key])
            for end in ends.values()
            if isinstance(end, dict)
            for key in ("ipv4_address", "ipv6_address")
            if end.get(key)
        ),
        links=tuple(one for one in links if all_of_it or not ours(one[0])),
        external_links=tuple(map(str, _list(table.get("external_links")))),
        depends_on={
            key: str(how.get("condition") or "") if isinstance(how, dict) else ""
            for key, how in mapping(table.get("depends_on")).items()
            if all_of_it or not ours(key)
        },
        environment={key: str(value) for key, value in mapping(table.get("environment")).items() if value is not None},
        command=" ".join([*_words(table.get("entrypoint")), *_words(table.get("command"))]),
        health=" ".join(_words(health.get("test"))) if isinstance(health, dict) and not health.get("disable") else "",
        files=tuple(_files(table, configs, composed)),
        ports=ports,
        published=published,
        pinned=_pinned(table.get("extra_hosts")),
        mounts=_mounts(table),
        replicas=_replicas(table),
        restart=str(table.get("restart") or ""),
    )


def _list(value: Any) -> list[Any]:
    """What should be a list; Compose tells its user where it is none."""
    return value if isinstance(value, list) else []


def _words(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _link(written: str) -> tuple[str, str]:
    service, _, alias = written.partition(":")
    return service, alias or service


def _replicas(table: dict[str, Any]) -> int:
    deploy = table.get("deploy")
    found = table.get("scale") or (deploy.get("replicas") if isinstance(deploy, dict) else None) or 1
    return int(found) if str(found).isdigit() else 1


def _pinned(value: Any) -> dict[str, str]:
    """extra_hosts: `name:address`, `name=address`, or a mapping."""
    if isinstance(value, dict):
        return {str(key): str(inner) for key, inner in value.items()}
    found = {}
    for item in map(str, _list(value)):
        name, _, address = item.partition("=") if "=" in item else item.partition(":")
        found[name] = address
    return found


def _mounts(table: dict[str, Any]) -> dict[str, str]:
    """Path in the container -> what is mounted there: a volume's name, or a path of the host."""
    found = {}
    for item in _list(table.get("volumes")):
        if isinstance(item, dict):
            source, target = str(item.get("source") or ""), str(item.get("target") or "")
        else:
            source, _, target = str(item).partition(":")
            target = target.partition(":")[0]
        if source and target:
            found[target] = source
    return found


def _files(table: dict[str, Any], configs: dict[str, Any], composed: Composed) -> Iterator[Text]:
    """Texts of configs, and of small files of the project's own folder that are mounted: they may name a store."""
    folder = Path(composed.files[0]).absolute().parent
    paths = [Path(source) for source in _mounts(table).values() if source.startswith((".", "/"))]
    for item in _list(table.get("configs")):
        known = configs.get(str(item.get("source") if isinstance(item, dict) else item))
        if isinstance(known, dict) and known.get("content"):
            yield "a config of it", str(known["content"])
        elif isinstance(known, dict) and known.get("file"):
            paths.append(Path(str(known["file"])))
    for path in paths:
        whole = (folder / path).resolve()
        if not whole.is_relative_to(folder.resolve()) or not whole.is_file():
            continue
        try:
            text = read_limited(whole, _MOST_OF_A_FILE).decode("utf-8")
        except (OSError, UsageError, UnicodeDecodeError):
            continue
        yield f"its file {whole.name}", text


def _ports(table: dict[str, Any]) -> tuple[tuple[int, ...], dict[int, int]]:
    """Container ports in the project's order, and host ports by container port. TCP only."""
    found: list[int] = []
    published: dict[int, int] = {}
    for item in _list(table.get("ports")):
        if isinstance(item, dict):
            if str(item.get("protocol") or "tcp") != "tcp":
                continue
            inside, outside = str(item.get("target", "")), str(item.get("published") or "")
        else:
            written = str(item).removesuffix("/tcp")
            outside, _, inside = written.rpartition(":")
            outside = outside.rpartition(":")[2]
        if _PORT.fullmatch(inside):
            found.append(int(inside))
            first = outside.partition("-")[0]  # of a range, which several containers share
            if _PORT.fullmatch(first):
                published[int(inside)] = int(first)
    found += [
        int(port)
        for port, _, protocol in (str(item).partition("/") for item in _list(table.get("expose")))
        if _PORT.fullmatch(port) and protocol in ("", "tcp")
    ]
    return tuple(dict.fromkeys(found)), published


def meant(services: Mapping[str, Service], owner: Service, name: str) -> frozenset[str]:
    """The services, or the address, that a name leads to for a container, by the model that Compose makes: /etc/hosts,
    its own links, then its networks. Several are used in turn. owner: of the network namespace."""
    if name in owner.pinned:
        return frozenset({owner.pinned[name]})
    linked = frozenset(service for service, alias in owner.links if alias == name)
    if linked:
        return linked
    found = set()
    for other in services.values():
        for network, aliases in other.networks.items():
            everywhere = {*other.names, *other.made} - {alias for many in other.networks.values() for alias in many}
            if network in owner.networks and name in {*everywhere, *aliases}:
                found.add(other.name)
    return frozenset(found)
