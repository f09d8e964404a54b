"""What harness.toml declares, as dependencies: nothing is resolved, read or connected to."""

from __future__ import annotations

import msgspec

from harness.config import rules
from harness.config.file import (
    ASSUMED,
    Configuration,
    Contained,
    DependencyTable,
    HttpTable,
    PostgresTable,
    RedisTable,
    Runnable,
    TargetTable,
    TcpTable,
)
from harness.model.errors import UsageError
from harness.model.records.faults import Address, Dependency


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
    from harness.adapters.addresses import reached, url_address

    found = {url_address(url)[0]}
    for dependency in dependencies(config, url):
        known = _with_admin_host(dependency)
        if known.runtime == "container" and known.direct is None and not _names_host(known.admin):
            # Where its server is the engine tells later; such a login is for there as well.
            known = msgspec.structs.replace(known, admin=None)
        found |= {host for host, _ in reached(known)}
    return tuple(sorted(found))


def toxiproxy_url(config: Configuration) -> str | None:
    """As the adapter writes it, so that one server has one name in locks."""
    return config.toxiproxy.url if config.toxiproxy is not None else None


def _target(table: TargetTable, url: str, config: Configuration) -> Dependency:
    found = Dependency(name=table.name, kind="http", target=True, url=url + (table.health or "/"), external=True)
    return _with_runtime(found, table, config)


def _dependency(name: str, table: DependencyTable, config: Configuration) -> Dependency:
    where = f"{config.shown}: dependencies.{name}"
    found = Dependency(
        name=name,
        kind=table.kind,
        proxied=table.proxy is not None,
        proxy=table.proxy,
        toxiproxy=toxiproxy_url(config) if table.proxy is not None else None,
        seen_as=config.toxiproxy.seen_as if config.toxiproxy is not None and table.proxy is not None else (),
        direct=_address(table.direct, f"{where}.direct"),
        path=_address(table.path, f"{where}.path") if table.path != ASSUMED else None,
        path_assumed=table.path == ASSUMED,
        external=True,
        ignore_clients=table.ignore_clients,
    )
    found = _with_runtime(found, table, config)
    match table:
        case RedisTable():
            return msgspec.structs.replace(found, password_env=table.password_env, allow_flush=table.allow_flush)
        case PostgresTable():
            return _postgres(found, table, where)
        case TcpTable():
            return msgspec.structs.replace(found, probe_send=table.probe_send)
        case _:
            return found


def with_url(found: Dependency, config: Configuration) -> Dependency:
    """What an HTTP dependency is asked, once it is known where the application reaches it."""
    table = config.dependencies.get(found.name)
    address = found.path or found.direct
    if not isinstance(table, HttpTable) or table.health is None or address is None:
        return found
    return msgspec.structs.replace(found, url=f"http://{address}{table.health}")


def _postgres(found: Dependency, table: PostgresTable, where: str) -> Dependency:
    assert table.login is not None
    user = _user(table.login, f"{where}.login")
    if table.probe_login is not None:
        _user(table.probe_login, f"{where}.probe_login")
    found = msgspec.structs.replace(
        found,
        login=table.login,
        role=table.role or user,
        password_env=table.password_env,
        admin=table.admin,
        admin_password_env=table.admin_password_env,
        probe_login=table.probe_login,
        probe_password_env=table.probe_password_env,
    )
    if table.admin is not None:
        _user(table.admin, f"{where}.admin")
        try:
            _with_admin_host(found)
        except UsageError as error:
            raise UsageError(f"{where}.admin: {error}", hint=error.hint) from error
    return found


def _user(options: str, where: str) -> str:
    """The user that connection options name. Raises UsageError for what does not parse or names none."""
    from harness.adapters.probing.server_identity import login_user

    try:
        user = login_user(options)
    except UsageError as error:
        raise UsageError(f"{where}: {error}", hint=error.hint) from error
    if user is None:
        raise UsageError(f"{where} names no user", hint='for example "user=app dbname=app"')
    return user


def _with_runtime(found: Dependency, table: Runnable, config: Configuration) -> Dependency:
    if table.contained:
        return _with_container(found, table, config)
    if table.pid_file is None:
        return found
    found = msgspec.structs.replace(found, runtime="process", pid_file=table.pid_file)
    if table.start is None:
        return found
    return msgspec.structs.replace(found, startable=True, start_config=config.path, start_sha256=config.sha256)


def _with_container(found: Dependency, table: Contained, config: Configuration) -> Dependency:
    """By the names in the file; the engine is asked for the container itself later. It starts again by the engine."""
    from harness.config.compose_file import project_name

    project = project_name(config.compose) if table.service is not None and config.compose is not None else None
    return msgspec.structs.replace(
        found,
        runtime="container",
        startable=True,
        container_name=table.container.removeprefix("/") if table.container is not None else None,
        project=project,
        service=table.service,
    )


def _with_admin_host(dependency: Dependency) -> Dependency:
    """An admin login that names no host is for the direct address."""
    if dependency.admin is None or dependency.direct is None:
        return dependency
    from harness.adapters.addresses import server_address
    from harness.adapters.clients.postgres import conninfo

    server = server_address(dependency.admin, default=dependency.direct)
    if server is None:
        return dependency
    return msgspec.structs.replace(dependency, admin=conninfo(dependency.admin, host=server[0], port=str(server[1])))


def _names_host(options: str | None) -> bool:
    from harness.adapters.clients.postgres import options_of

    return options is not None and bool({"host", "hostaddr"} & options_of(options).keys())


def _address(text: str | None, where: str) -> Address | None:
    return None if text is None else rules.address(text, where)
