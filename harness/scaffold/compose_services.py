"""The services of a compose project, and who uses whom: what an override that puts a proxy between them must know.

Files are merged as far as that needs: later files win, lists and mappings are added up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from harness.config.compose_file import filled, read, variables
from harness.dependencies.kind import DependencyKind
from harness.dependencies.registry import kinds
from harness.model.errors import UsageError


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One service. networks: names, ("default",) where the file says none. aliases: other names of it on them.

    links: (service, alias). mentions: every text in its environment and command. ports: container ports, published or
    exposed; published: container port -> host port, where the file fixes that.
    """

    name: str
    image: str = ""
    networks: tuple[str, ...] = ("default",)
    network_mode: str | None = None
    aliases: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    depends_on: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    ports: tuple[int, ...] = ()
    published: dict[int, int] = {}

    def guess(self) -> tuple[DependencyKind, int | None]:
        """Its kind and port, by its image's and its own name; tcp where they say nothing."""
        image = self.image.rpartition("/")[2].partition(":")[0].partition("@")[0]
        for text in (image, self.name):
            for kind in kinds().values():
                if kind.images is None or re.search("exporter|ui|admin|commander", text):
                    continue
                if re.search(kind.images, text, re.IGNORECASE):
                    return kind, kind.default_port
        return kinds()["tcp"], self.ports[0] if self.ports else None

    def uses(self, other: Service) -> str | None:
        """Why this service seems to use another one: the words for people; None when nothing says so."""
        names = "|".join(re.escape(name) for name in (other.name, *other.aliases))
        for text in self.mentions:
            if re.search(rf"(?<![\w.-])({names})(?![\w-])", text):
                return "its settings name it"
        return "it depends on it" if other.name in self.depends_on else None


_PORT = re.compile(r"[0-9]{1,5}")


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """files: as they were given. version: what the first file says, which every other file must say as well."""

    files: tuple[str, ...]
    services: dict[str, Service]
    version: str | None = None


def read_project(files: Sequence[str]) -> Project:
    """The project of these compose files. Raises UsageError naming the file."""
    merged: dict[str, dict[str, Any]] = {}
    version = None
    known = variables(Path(files[0]).absolute().parent)
    for number, name in enumerate(files):
        found = read(Path(name))
        if number == 0 and found.get("version") is not None:
            version = str(found["version"])
        services = found.get("services")
        if not isinstance(services, dict) or not services:
            raise UsageError(f"compose file {name}: it has no services")
        for service, table in services.items():
            if not isinstance(table, dict):
                raise UsageError(f"compose file {name}: services.{service} is no mapping")
            merged[str(service)] = _merged(merged.get(str(service), {}), table)
    return Project(
        files=tuple(files),
        services={name: _service(name, table, known) for name, table in merged.items()},
        version=version,
    )


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        if key in ("environment", "networks", "depends_on") and old is not None and value is not None:
            found[key] = {**_mapping(old), **_mapping(value)}
        elif isinstance(old, list) and isinstance(value, list) and key != "command":
            found[key] = [*old, *value]
        else:
            found[key] = value
    return found


def _service(name: str, table: dict[str, Any], known: Mapping[str, str]) -> Service:
    def text(value: Any) -> str:
        return filled(str(value), known)

    networks = _mapping(table.get("networks"))
    environment = {key: text(value) for key, value in _mapping(table.get("environment")).items() if value is not None}
    aliases = [str(one) for end in networks.values() if isinstance(end, dict) for one in _list(end.get("aliases"))]
    if table.get("container_name"):
        aliases.append(text(table["container_name"]))
    ports, published = _ports(table, text)
    return Service(
        name=name,
        image=text(table.get("image") or ""),
        networks=tuple(networks) or ("default",),
        network_mode=text(table["network_mode"]) if table.get("network_mode") else None,
        aliases=tuple(dict.fromkeys(one for one in aliases if one != name)),
        links=tuple(_link(str(one)) for one in _list(table.get("links"))),
        depends_on=tuple(_mapping(table.get("depends_on"))),
        mentions=(*environment.values(), *_texts(table.get("command"), text), *_texts(table.get("entrypoint"), text)),
        environment=environment,
        ports=ports,
        published=published,
    )


def _mapping(value: Any) -> dict[str, Any]:
    """Compose's mappings, which may be written as lists: `A=b` of an environment, names of networks."""
    if isinstance(value, dict):
        return {str(key): inner for key, inner in value.items()}
    if not isinstance(value, list):
        return {}
    found: dict[str, Any] = {}
    for item in value:
        key, equals, inner = str(item).partition("=")
        found[key] = inner if equals else None
    return found


def _list(value: Any) -> list[Any]:
    """What should be a list; Compose tells its user where it is none."""
    return value if isinstance(value, list) else []


def _texts(value: Any, text: Any) -> list[str]:
    if value is None:
        return []
    return [text(item) for item in value] if isinstance(value, list) else [text(value)]


def _link(written: str) -> tuple[str, str]:
    service, _, alias = written.partition(":")
    return service, alias or service


def _ports(table: dict[str, Any], text: Any) -> tuple[tuple[int, ...], dict[int, int]]:
    """Container ports in the order of the file, and host ports by container port."""
    found: list[int] = []
    published: dict[int, int] = {}
    for item in _list(table.get("ports")):
        if isinstance(item, dict):
            inside, outside = str(item.get("target", "")), text(item.get("published") or "")
        else:
            written = text(item).removesuffix("/tcp")
            outside, _, inside = written.rpartition(":")
            outside = outside.rpartition(":")[2]
        if _PORT.fullmatch(inside):
            found.append(int(inside))
            if _PORT.fullmatch(outside):
                published[int(inside)] = int(outside)
    found += [
        int(port)
        for port in (text(item).partition("/")[0] for item in _list(table.get("expose")))
        if _PORT.fullmatch(port)
    ]
    return tuple(dict.fromkeys(found)), published
