"""The containers that harness.toml declares, found on the Docker engine. Everything is read, nothing is changed.

A service is found by the labels that Compose gives its containers, a container by its exact name, and from then on
both by their full ID. Where a port is published the host uses that; where it is not, the container's own address, which
Linux reaches as long as the engine is on this machine.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from harness.adapters.docker.context import choose_engine, engine_address
from harness.adapters.docker.records import PROJECT_LABEL, SERVICE_LABEL, Container, Published
from harness.config.compose_file import project_name
from harness.config.file import Configuration, Contained
from harness.dependencies.kind import DependencyKind
from harness.model.errors import Refused, UsageError, unknown
from harness.model.records.faults import Address, Dependency

if TYPE_CHECKING:
    from harness.adapters.docker.engine import Engine


TOXIPROXY_PORT = 8474
_FOLDER_LABEL = "com.docker.compose.project.working_dir"
_NUMBER_LABEL = "com.docker.compose.container-number"
_ONEOFF_LABEL = "com.docker.compose.oneoff"


class Reached(msgspec.Struct, frozen=True):
    """Where a container's port is reached from here. note: what to know about that way, or None."""

    address: Address
    note: str | None = None


class Containers:
    """What the file declares on one engine, which is connected to when the first container is looked for."""

    def __init__(self, config: Configuration, *, allow_hosts: Collection[str]) -> None:
        self._config = config
        self._allow = allow_hosts
        self._engine: Engine | None = None
        self.notes: list[str] = []

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()

    @property
    def engine(self) -> Engine:
        """Raises AdapterError where no engine answers, Refused for one on another machine."""
        if self._engine is None:
            from harness.adapters.docker.engine import connect

            chosen = choose_engine()
            self._engine = connect(chosen.url, allow_hosts=self._allow, timeout_s=5.0)
            if chosen.note is not None:
                self.notes.append(chosen.note)
        return self._engine

    def find(self, table: Contained, where: str, *, running: bool = True, key: str = "service") -> Container:
        """The one container that a table declares. where: its key path, for messages. running: it must serve. key: in
        which it names a service.

        Raises UsageError where there is none or one too many, or it does not run; Refused where it is paused.
        """
        found = self._named(table.container, where) if table.container is not None else self._service(table, where, key)
        if not running:
            return found
        what = found.name if table.service is None else f"{found.name} (service {table.service})"
        if found.state.paused:
            raise Refused(
                f"{where}: container {what} is paused: that cannot be recorded as its original state",
                hint=f"docker unpause {found.name}",
            )
        if not found.serves:
            raise UsageError(f"{where}: container {what} is {found.condition}", hint=f"docker start {found.name}")
        return found

    def _named(self, name: str, where: str) -> Container:
        found = self.engine.find_by_name(name.removeprefix("/"))
        if found is None:
            raise UsageError(
                f"{where}.container: there is no container {name!r} on {self.engine.url}",
                hint="its exact name is wanted, as `docker ps -a` shows it; start your system first",
            )
        return found

    def _service(self, table: Contained, where: str, key: str) -> Container:
        assert table.service is not None and self._config.compose is not None
        project = project_name(self._config.compose)
        found = self._of_service(project, table.service)
        if not found:
            raise self._absent(project, table.service, f"{where}.{key}")
        if table.replica is not None:
            for one in found:
                if one.labels.get(_NUMBER_LABEL) == str(table.replica):
                    return one
            numbers = ", ".join(one.labels.get(_NUMBER_LABEL, "?") for one in found)
            raise UsageError(
                f"{where}.replica: service {table.service} of project {project} has no container {table.replica}",
                hint=f"it has: {numbers}",
            )
        if len(found) > 1:
            names = ", ".join(one.name for one in found)
            raise UsageError(
                f"{where}: service {table.service} of project {project} has {len(found)} containers ({names})",
                hint="say which one faults are for with replica = 1, or scale the service to one"
                if key == "service"
                else "scale it to one",
            )
        return found[0]

    def _of_service(self, project: str, service: str) -> list[Container]:
        every = self.engine.find({PROJECT_LABEL: project, SERVICE_LABEL: service})
        own = [one for one in every if one.labels.get(_ONEOFF_LABEL, "False") != "True"]
        return sorted(own, key=lambda one: (len(one.labels.get(_NUMBER_LABEL, "")), one.labels.get(_NUMBER_LABEL, "")))

    def _absent(self, project: str, service: str, where: str) -> UsageError:
        """Why there is no container of a service: the service, the project, or nothing was started."""
        compose = self._config.compose
        assert compose is not None
        services = {one.service for one in self.engine.find({PROJECT_LABEL: project}) if one.service is not None}
        if services:
            error = unknown("service", service, services)
            return UsageError(f"{where}: project {project} has no container of a service {service!r}", hint=error.hint)
        if compose.file:
            folder = str(Path(compose.file[0]).parent.resolve())
            others = {one.project for one in self.engine.find({_FOLDER_LABEL: folder})} - {None}
            if others:
                name = sorted(str(other) for other in others)[0]
                return UsageError(
                    f"{where}: there are no containers of compose project {project!r} on {self.engine.url}",
                    hint=f'those of {folder} belong to project {name!r}: write project = "{name}" in [compose]',
                )
        files = " ".join(f"-f {Path(name).name}" for name in compose.file)
        return UsageError(
            f"{where}: there are no containers of compose project {project!r} on {self.engine.url}",
            hint=f"start it: docker compose {files + ' ' if files else ''}-p {project} up -d; `docker compose ls` shows"
            " the names of projects",
        )

    def declared(self, dependency: Dependency, container: Container) -> Dependency:
        """The dependency with its container's identity."""
        return dependency.but(
            container={
                "engine": self.engine.url,
                "id": container.id,
                "name": container.name,
                "project": container.project,
                "service": container.service,
                "network_mode": container.host_config.network_mode,
            }
        )

    def reached(self, container: Container, port: int, where: str) -> Reached:
        """Where a port of a container is reached from here. Raises UsageError where nothing leads to it."""
        remote = engine_address(self.engine.url)
        host = remote[0] if remote is not None else "127.0.0.1"
        published = container.host_ports(port)
        if published:
            best = min(published, key=_preference)
            return Reached(Address(host if best.host in ("", "0.0.0.0", "::") else best.host, best.port))
        if container.host_config.network_mode == "host":
            return Reached(Address(host, port))
        own = addresses(container)
        if remote is not None or not own or sys.platform != "linux":
            raise UsageError(
                f"{where}: port {port} of container {container.name} is not published",
                hint=f'publish it in your compose file: ports: ["127.0.0.1:{port}:{port}"]',
            )
        return Reached(
            Address(own[0], port),
            f"port {port} of {container.name} is not published, so it is reached at the container's own address"
            f' {own[0]}, which may change when it is made anew; to publish it: ports: ["127.0.0.1:{port}:{port}"]',
        )


def port_of(container: Container, kind: DependencyKind, declared: int | None, upstream: str | None, where: str) -> int:
    """On which port of its container a server listens: as declared, as its proxy forwards, as its kind does, or the
    only one that there is. Raises UsageError where it cannot be told."""
    if declared is not None:
        return declared
    number = (upstream or "").rpartition(":")[2]
    if number.isdigit():
        return int(number)
    if kind.default_port is not None:
        return kind.default_port
    exposed = {int(name.partition("/")[0]) for name in container.network_settings.ports or {} if name.endswith("/tcp")}
    if len(exposed) == 1:
        return exposed.pop()
    raise UsageError(
        f"{where}: on which port does container {container.name} listen?",
        hint=f"port = {min(exposed)}" if exposed else "port = 7000",
    )


def addresses(container: Container) -> tuple[str, ...]:
    """The container's own addresses, one of each network, by the networks' names."""
    return tuple(end.ip_address for _, end in sorted(container.networks.items()) if end.ip_address)


def _preference(published: Published) -> tuple[bool, bool]:
    """IPv4 first, then what is bound to this machine only."""
    return ":" in published.host, not published.host.startswith("127.")
