"""Where a container is reached now. Two kinds of address may be other ones after it was started or connected again:

- a published port that nobody fixed (`ports: ["5432"]`, a range, -P), which the engine chooses anew at every start;
- the container's own address, where no port is published and nobody asked for that address.

Both are remembered by what does not change: the port inside the container, and the name of the network.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec

from harness.adapters.docker.records import PROJECT_LABEL, SERVICE_LABEL, Container
from harness.model.errors import HarnessError, UsageError
from harness.model.records.faults import Address, Dependency, UndoRecord

LOOK_LIMIT_S = 2.0
"""How long the engine may take to say where a container is: nobody waits for it in vain."""


def bound(dependency: Dependency, container: Container) -> Dependency:
    """The dependency with what its own address hangs on, where the engine chose that. Pure."""
    address = _own(dependency)
    if address is None or _wanders(dependency):
        return dependency
    for one in container.published:
        if one.port == address.port and covers(one.host, address.host):
            if not container.chosen_by_engine(one):
                return dependency
            return dependency.but(container={"port": one.container_port})
    for name, end in container.networks.items():
        asked = end.ipam_config
        if address.host == end.ip_address:
            fixed = asked is not None and asked.ipv4_address == address.host
        elif address.host == end.global_ipv6_address:
            fixed = asked is not None and asked.ipv6_address == address.host
        else:
            continue
        return dependency if fixed else dependency.but(container={"network": name})
    return dependency


def moved(dependency: Dependency, container: Container) -> Dependency:
    """The dependency as its container is reached now; as it is where that is not known (it does not run, say). Pure.

    `direct` is followed, and with it whatever else leads to the same place: `path` where there is no proxy, `url`, and
    PostgreSQL's admin login.
    """
    old, now = _own(dependency), _where(dependency, container)
    if old is None or now is None or old == now:
        return dependency
    changed: dict[str, Any] = {}
    if dependency.direct == old:
        changed["direct"] = now
    if dependency.path == old:
        changed["path"] = now
    if dependency.url is not None and urlsplit(dependency.url).netloc == str(old):
        changed["url"] = urlunsplit(urlsplit(dependency.url)._replace(netloc=str(now)))
    if dependency.credentials.admin is not None:
        changed["credentials"] = {"admin": _login(dependency.credentials.admin, old, now)}
    return dependency.but(**changed)


def at_present(dependency: Dependency) -> Dependency:
    """The same, with the engine asked; it is not asked where no address can change. Never raises: where the engine does
    not answer, or nobody serves in the place of a container that is gone, the dependency is returned as it is."""
    if not _wanders(dependency) or dependency.container.engine is None or dependency.container.id is None:
        return dependency
    try:
        found = _container(dependency)
        return moved(dependency, found) if found is not None else dependency
    except HarnessError:
        return dependency


def record_at_present(record: UndoRecord) -> UndoRecord:
    """The undo record of a dependency whose address may have changed since it was written."""
    dependency = at_present(record.dependency)
    return record if dependency is record.dependency else msgspec.structs.replace(record, dependency=dependency)


def wanders(dependency: Dependency) -> bool:
    """Its path may lead elsewhere once its container was started or connected again."""
    return _wanders(dependency) and dependency.path == _own(dependency)


def covers(bound_to: str, asked: str) -> bool:
    """Whether a port published at the one address is reached at the other."""
    if bound_to in ("", "0.0.0.0", "::", asked):
        return True
    try:
        return ipaddress.ip_address(bound_to).is_loopback and (
            asked == "localhost" or ipaddress.ip_address(asked).is_loopback
        )
    except ValueError:
        return False


def _wanders(dependency: Dependency) -> bool:
    return dependency.container.port is not None or dependency.container.network is not None


def _own(dependency: Dependency) -> Address | None:
    """The server's own address: the path's only where no proxy is in between."""
    return dependency.direct if dependency.direct is not None or dependency.proxied else dependency.path


def _where(dependency: Dependency, container: Container) -> Address | None:
    old = _own(dependency)
    if old is None:
        return None
    if dependency.container.port is not None:
        found = [one for one in container.published if one.container_port == dependency.container.port]
        now = next((one for one in found if covers(one.host, old.host)), None)
        return Address(old.host, now.port) if now is not None else None
    end = container.networks.get(dependency.container.network or "")
    if end is None:
        return None
    host = end.global_ipv6_address if ":" in old.host else end.ip_address
    return Address(host, old.port) if host else None


def _login(options: str, old: Address, now: Address) -> str:
    from harness.adapters.allowed_hosts import server_address
    from harness.adapters.clients.postgres_admin import conninfo

    try:
        if server_address(options) != (old.host, old.port):
            return options
    except UsageError:  # it names no host: then nothing in it can have changed
        return options
    if now.host == old.host:
        return conninfo(options, port=str(now.port))
    return conninfo(options, port=str(now.port), hostaddr=now.host)


def _container(dependency: Dependency) -> Container | None:
    """The very container; where it is gone, the one that serves in its place."""
    from harness.adapters.docker.engine import Engine
    from harness.model.errors import Gone

    # The engine's host was checked where the dependency was declared, and for a record from a file once more.
    with Engine(str(dependency.container.engine), timeout_s=LOOK_LIMIT_S) as engine:
        try:
            return engine.container(str(dependency.container.id))
        except Gone:
            if dependency.container.project is None or dependency.container.service is None:
                return None
            found = engine.find(
                {PROJECT_LABEL: dependency.container.project, SERVICE_LABEL: dependency.container.service}
            )
            return next((one for one in reversed(found) if one.serves), None)
