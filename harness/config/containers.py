"""What harness.toml says about containers: [compose], and `service`, `replica`, `container`, `port` of the tables."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path

import msgspec

from harness.config.file import ComposeTable, Configuration, Contained, DependencyTable, Runnable
from harness.model.errors import UsageError

DEFAULT_FILES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""What Compose looks for, in its order."""

_PROJECT = re.compile(r"[a-z0-9_-][a-z0-9_-]*")
_SERVICE = re.compile(r"[a-zA-Z0-9._-]+")
_CONTAINER = re.compile(r"/?[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def compose_table(found: ComposeTable, folder: Path, where: str) -> ComposeTable:
    """[compose] with absolute paths; without a file and a project the file that Compose would find beside it."""
    if found.project is not None and not _PROJECT.fullmatch(found.project):
        raise UsageError(
            f"{where}compose.project: {found.project!r} cannot be the name of a compose project",
            hint="small letters, digits, - and _, as `docker compose ls` shows it",
        )
    files = found.file
    if not files and found.project is None:
        files = tuple(name for name in DEFAULT_FILES if (folder / name).is_file())[:1]
        if not files:
            raise UsageError(
                f"{where}compose: no compose file in {folder} and no project named",
                hint='file = "path/to/compose.yaml", or project = "name"',
            )
    if any(not name.strip() for name in files):
        raise UsageError(f"{where}compose.file: an empty name is no file", hint='file = "compose.yaml"')
    return msgspec.structs.replace(found, file=tuple(str(folder / Path(name).expanduser()) for name in files))


def check_service(name: str, where: str) -> None:
    """Raises UsageError."""
    if not _SERVICE.fullmatch(name):
        raise UsageError(f"{where}: {name!r} cannot be the name of a compose service")


def check_container(found: Contained, where: str) -> None:
    """The keys of one table. Raises UsageError."""
    if found.service is not None and found.container is not None:
        raise UsageError(
            f"{where}: service and container are two ways to name one container", hint="leave one of them out"
        )
    if found.service is not None:
        check_service(found.service, f"{where}.service")
    if found.container is not None and not _CONTAINER.fullmatch(found.container):
        raise UsageError(
            f"{where}.container: {found.container!r} cannot be the name of a container",
            hint="its exact name, as `docker ps` shows it",
        )
    if found.replica is not None:
        if found.service is None:
            raise UsageError(f"{where}.replica counts the containers of a service, and there is no service")
        if found.replica < 1:
            raise UsageError(f"{where}.replica: replicas are counted from 1, as Compose does")
    if found.port is not None:
        if not found.contained:
            raise UsageError(f"{where}.port is one inside a container, and there is no service and no container")
        if not 0 < found.port < 65536:
            raise UsageError(f"{where}.port: {found.port} is no port")
    if isinstance(found, Runnable) and found.contained:
        for key in ("pid_file", "start", "cwd"):
            if getattr(found, key) is not None:
                raise UsageError(
                    f"{where}.{key} is for a process, and this is a container", hint="the Docker engine starts it"
                )


def check_compose(found: Configuration, where: str) -> None:
    """A service needs its project, and one container has one name. Raises UsageError."""
    tables: dict[str, Contained] = {f"dependencies.{name}": table for name, table in found.dependencies.items()}
    if found.target is not None:
        tables["target"] = found.target
    if found.toxiproxy is not None:
        tables["toxiproxy"] = found.toxiproxy
    fronts = {f"dependencies.{name}.front_": table.front_container for name, table in found.dependencies.items()}
    for key, one in ({f"{name}.": table for name, table in tables.items()} | fronts).items():
        if one is not None and one.service is not None and found.compose is None:
            raise UsageError(
                f"{where}{key}service: of which compose project?", hint='[compose] and file = "compose.yaml"'
            )
    taken: dict[tuple[str | None, int, str | None], str] = {}
    for name, table in tables.items():
        identity = (table.service, table.replica or 1, table.container)
        if table.contained and identity in taken:
            raise UsageError(f"{where}{name}: {table.service or table.container} is {taken[identity]} already")
        taken[identity] = name


def check_clients(found: DependencyTable, where: str) -> None:
    """Raises UsageError for names that nobody could match."""
    if found.ignore_clients and found.clients_named is None:
        raise UsageError(
            f"{where}: a dependency of kind {found.kind} does not tell who is connected, so nobody is counted"
        )
    for index, text in enumerate(found.ignore_clients):
        at = f"{where}[{index}]"
        if not text.strip() or text != text.strip():
            raise UsageError(f"{at}: a client's name, an address or a network is wanted, not {text!r}")
        if "*" in text:
            raise UsageError(f"{at}: no patterns: {text!r}", hint="write the whole name, or a network as 10.0.0.0/24")
        if "/" in text and text[0].isdigit():
            try:
                network = ipaddress.ip_network(text, strict=False)
            except ValueError as error:
                raise UsageError(f"{at}: {error}", hint="for example 10.0.0.0/24") from error
            if network.prefixlen == 0:
                raise UsageError(f"{at}: {text} is everybody, and then nothing would be proven")
        elif found.clients_named == "by address" and not _is_address(text):
            raise UsageError(f"{at}: clients of {found.kind} are known by their addresses only, not as {text!r}")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
