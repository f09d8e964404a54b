"""A compose override that puts Toxiproxy in front of chosen services, Toxiproxy's list of proxies, and harness.toml.

How traffic is led through the proxy: the application gets a *link*, a name that only its own containers see. `links:
["toxiproxy:redis"]` makes `redis` mean Toxiproxy for the application alone; for everybody else, Toxiproxy too, it goes
on meaning Redis. So nothing of the dependency is changed, none of the application's settings either, and both
generations of Compose know it. (A network alias cannot do that: Compose gives every service its own name as an alias,
an override cannot take it away, and two containers with one alias are used in turn.)
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import msgspec

from harness.dependencies.kind import DependencyKind
from harness.model.errors import UsageError
from harness.model.suggest import unknown
from harness.scaffold.compose_services import Project, Service
from harness.scaffold.one_line import joined

OVERRIDE = "harness.override.yaml"
PROXIES = "harness.toxiproxy.json"
SERVICE = "harness-toxiproxy"
IMAGE = "ghcr.io/shopify/toxiproxy:2.12.0"
API_PORT = 8474


class Fronted(msgspec.Struct, frozen=True, kw_only=True):
    """A service that gets a proxy. port: inside its container, and of the proxy's listener. users: name -> why."""

    service: Service
    kind: DependencyKind
    port: int
    users: dict[str, str]


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the three outputs are made from."""

    project: Project
    fronted: tuple[Fronted, ...]

    @property
    def users(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(user for one in self.fronted for user in one.users))

    @property
    def networks(self) -> tuple[str, ...]:
        """Where Toxiproxy must be: on the networks of what is in front of and behind it."""
        services = [*(one.service for one in self.fronted), *(self.project.services[user] for user in self.users)]
        return tuple(dict.fromkeys(network for one in services for network in one.networks))


def plan_front(project: Project, chosen: Sequence[str], apps: Sequence[str]) -> Front:
    """Which services get a proxy, for whom. chosen: `NAME` or `NAME:PORT`. apps: whose traffic is led through it; () =
    every service whose settings name it, or that depends on it. Raises UsageError."""
    for app in apps:
        if app not in project.services:
            raise unknown("service", app, project.services, where="--app: ")
    names = [text.partition(":")[0] for text in chosen]
    fronted = [_fronted(project, text, names, apps) for text in dict.fromkeys(chosen)]
    ports: dict[int, str] = {}
    for one in fronted:
        if one.port == API_PORT:
            raise UsageError(f"--front {one.service.name}: port {API_PORT} is that of Toxiproxy's API")
        if one.port in ports:
            raise UsageError(
                f"--front: {ports[one.port]} and {one.service.name} both listen on port {one.port}, and one Toxiproxy"
                " can stand on it once only",
                hint="put one of them in front; for the other, give Toxiproxy a port of its own in your compose file",
            )
        ports[one.port] = one.service.name
    return Front(project=project, fronted=tuple(fronted))


def _fronted(project: Project, text: str, names: Sequence[str], apps: Sequence[str]) -> Fronted:
    name, colon, written = text.partition(":")
    if name not in project.services:
        raise unknown("service", name, project.services, where="--front: ")
    if colon and not (written.isdigit() and 0 < int(written) < 65536):
        raise UsageError(f"--front {text}: {written!r} is no port", hint=f"for example {name}:6379")
    service = project.services[name]
    kind, port = service.guess()
    port = int(written) if colon else port
    if port is None:
        raise UsageError(f"--front {name}: on which port does it listen?", hint=f"--front {name}:7000")
    users: dict[str, str] = {}
    for other in project.services.values():
        if other.name in names or (apps and other.name not in apps):
            continue
        why = "you named it" if apps else other.uses(service)
        if why is not None:
            users[other.name] = why
    if not users:
        raise UsageError(f"--front {name}: no service names it in its settings or depends on it", hint="--app NAME")
    for user in users:
        _check_user(project.services[user], service)
    return Fronted(service=service, kind=kind, port=port, users=users)


def _check_user(user: Service, service: Service) -> None:
    if user.network_mode is not None or service.network_mode is not None:
        one = user if user.network_mode is not None else service
        raise UsageError(
            f"--front {service.name}: {one.name} has network_mode {one.network_mode}, where names lead nowhere else",
            hint="give it the project's network, or name Toxiproxy's address in the application's own settings",
        )
    if not set(user.networks) & set(service.networks):
        raise UsageError(f"--front {service.name}: {user.name} shares no network with it, so it cannot be using it")
    for linked, alias in user.links:
        if alias == service.name or alias in service.aliases:
            raise UsageError(
                f"--front {service.name}: {user.name} has a link {linked}:{alias} already, which an override cannot"
                " take away",
                hint="remove that link from your compose file: on a network of the project it is not needed",
            )


def override(front: Front, command: str) -> str:
    """The override file. command: of the harness that printed it, for its comments."""
    compose = " ".join(f"-f {shlex.quote(name)}" for name in front.project.files)
    folder = Path(front.project.files[0]).parent
    beside = "" if str(folder) == "." else f"{folder}/"
    lines = [
        "# Toxiproxy in front of "
        + ", ".join(one.service.name for one in front.fronted)
        + ", for: "
        + ", ".join(front.users)
        + ".",
        "#",
        "# How it works: the application's containers get a link, a name that only they see. To them",
        *(
            f"# {one.service.name!r} means Toxiproxy, which forwards port {one.port} to the real {one.service.name}."
            for one in front.fronted
        ),
        "# For everybody else the names mean what they meant. The dependencies are not touched, nor is any setting.",
        "# What changes: "
        + ", ".join(front.users)
        + f" is made anew by Compose with the link, and {SERVICE} is added.",
        "#",
        "# Apply it (read it first; nothing was written or started by printing it):",
        f"#   {command} --print proxies > {shlex.quote(beside + PROXIES)}",
        f"#   {command} --print override > {shlex.quote(beside + OVERRIDE)}",
        f"#   docker compose {compose} -f {shlex.quote(beside + OVERRIDE)} up -d",
        "# Undo it:",
        f"#   docker compose {compose} up -d --remove-orphans",
        "# (docker-compose 1.29 takes the same arguments.)",
        "# The matching harness.toml:",
        f"#   {command} > harness.toml",
    ]
    for one in front.fronted:
        lines += [f"# {user} uses {one.service.name}: {why}." for user, why in one.users.items()]
        lines += one.kind.override_notes(one.service.name, one.port, one.service.environment)
    if front.project.version is not None:
        lines.append(f"version: {json.dumps(front.project.version)}")
    lines.append("services:")
    for user in front.users:
        names = [
            name for one in front.fronted if user in one.users for name in (one.service.name, *one.service.aliases)
        ]
        lines += [f"  {_key(user)}:", "    links:"]
        lines += [f"      - {json.dumps(f'{SERVICE}:{name}')}" for name in names]
    lines += [
        f"  {SERVICE}:",
        f"    image: ${{TOXIPROXY_IMAGE:-{IMAGE}}}",
        f'    command: ["-host=0.0.0.0", "-config=/{PROXIES}"]',
        "    volumes:",
        "      - type: bind                # so that a missing file is an error, and not made as a folder",
        f"        source: ./{PROXIES}",
        f"        target: /{PROXIES}",
        "        read_only: true",
        "    ports:                        # on this machine only, on any free port: for the harness",
        f'      - "127.0.0.1::{API_PORT}"',
        *(f'      - "127.0.0.1::{one.port}"' for one in front.fronted),
    ]
    if front.networks != ("default",):
        lines += ["    networks:", *(f"      - {json.dumps(network)}" for network in front.networks)]
    return joined(lines) + "\n"


def proxies(front: Front) -> str:
    """Toxiproxy's -config file: one proxy a service, on the port of that service."""
    rows = [
        {
            "name": one.service.name,
            "listen": f"0.0.0.0:{one.port}",
            "upstream": f"{one.service.name}:{one.port}",
            "enabled": True,
        }
        for one in front.fronted
    ]
    return json.dumps(rows, indent=2) + "\n"


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and not name.isdigit() else json.dumps(name)
