"""What harness.toml declares, as dependencies: nothing is resolved, read or connected to."""

from __future__ import annotations

from harness.config import rules
from harness.config.file import (
    ASSUMED,
    Configuration,
    Contained,
    DependencyTable,
    Runnable,
    TargetTable,
)
from harness.model.records.faults import Address, Dependency, DependencyProxy


def dependencies(config: Configuration, url: str) -> tuple[Dependency, ...]:
    """The declared dependencies, and the target as one of them. url: of the target, which --host may have given.

    Addresses are as written; `path` is known only where it is written. Raises UsageError for login options that
    name no user.
    """
    found = [_dependency(name, table, config) for name, table in config.dependencies.items()]
    if config.target is not None:
        found.append(_target(config.target, url, config))
    return tuple(found)


def named_hosts(config: Configuration, url: str) -> tuple[str, ...]:
    """Every host that the configuration names: where they are private addresses, they may be spoken to."""
    from harness.adapters.allowed_hosts import names_host, reached, url_address, with_admin_host

    found = {url_address(url)[0]}
    for dependency in dependencies(config, url):
        known = with_admin_host(dependency)
        if known.runtime == "container" and known.direct is None and not names_host(known.credentials.admin):
            # Where its server is the engine tells later; such a login is for there as well.
            known = known.but(credentials={"admin": None})
        found |= {host for host, _ in reached(known)}
    return tuple(sorted(found))


def _target(table: TargetTable, url: str, config: Configuration) -> Dependency:
    found = Dependency(name=table.name, kind="http", target=True, url=url + (table.health or "/"), external=True)
    return _with_runtime(found, table, config)


def _dependency(name: str, table: DependencyTable, config: Configuration) -> Dependency:
    where = f"{config.shown}: dependencies.{name}"
    through = config.toxiproxy if table.proxy is not None else None
    found = Dependency(
        name=name,
        kind=table.kind,
        proxy=DependencyProxy(
            name=table.proxy,
            url=through.url if through is not None else None,
            seen_as=through.seen_as if through is not None else (),
        ),
        proxied=table.proxy is not None,
        direct=_address(table.direct, f"{where}.direct"),
        path=_address(table.path, f"{where}.path") if table.path != ASSUMED else None,
        path_assumed=table.path == ASSUMED,
        external=True,
        ignore_clients=table.ignore_clients,
        allow=table.allow,
    )
    return table.declared(_with_runtime(found, table, config), where)


def _with_runtime(found: Dependency, table: Runnable, config: Configuration) -> Dependency:
    if table.contained:
        return _with_container(found, table, config)
    if table.pid_file is None:
        return found
    found = found.but(process={"pid_file": table.pid_file}, runtime="process")
    if table.start is None:
        return found
    return found.but(process={"start_config": config.path, "start_sha256": config.sha256}, startable=True)


def _with_container(found: Dependency, table: Contained, config: Configuration) -> Dependency:
    """By the names in the file; the engine is asked for the container itself later. It starts again by the engine."""
    from harness.config.compose_file import project_name

    project = project_name(config.compose) if table.service is not None and config.compose is not None else None
    return found.but(
        container={
            "name": table.container.removeprefix("/") if table.container is not None else None,
            "project": project,
            "service": table.service,
        },
        runtime="container",
        startable=True,
    )


def _address(text: str | None, where: str) -> Address | None:
    return None if text is None else rules.address(text, where)
