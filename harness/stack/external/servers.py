"""Each kind of dependency looked at: it answers directly and through its proxy, and both lead to the same server."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from harness.adapters.probing.probe import path_probe, probe, secret
from harness.adapters.probing.server_identity import Server, login_user, postgres_server, redis_server
from harness.adapters.wire.exchange import ProbeError
from harness.model.clock import monotonic
from harness.model.errors import AdapterError, Forbidden, Refused, UsageError
from harness.model.records.faults import Address, Dependency

LIMIT_S = 3.0


def look(
    dependency: Dependency, where: str, *, listener_port: int | None, note: Callable[[str], None] = lambda _: None
) -> tuple[Dependency, str | None]:
    """The dependency as faults and proofs will use it, and its server's version.

    where: key path for messages (`dependencies.redis`). listener_port: of its proxy. note: told what is no hindrance
    and weakens a proof. Raises UsageError for what does not answer or leads elsewhere, Refused for what must not be.
    """
    for key in ("password_env", "admin_password_env", "probe_password_env"):
        variable = getattr(dependency, key)
        if variable is not None and variable not in os.environ:
            raise UsageError(
                f"{where}.{key}: the environment variable {variable} is not set", hint="it is to hold the password"
            )
    match dependency.kind:
        case "redis":
            server = _same_server(dependency, where, _redis)
            if server.mode == "sentinel":
                raise UsageError(
                    f"{where}: a Redis Sentinel answers at {dependency.direct}, not a Redis server",
                    hint="declare the server that the application's data is on (SENTINEL get-master-addr-by-name)",
                )
            _tells_its_clients(dependency, note)
            return dependency, server.version
        case "postgres":
            server = _same_server(dependency, where, _postgres)
            if server.pooled:
                dependency = msgspec.structs.replace(dependency, pooled=True)
                note(
                    f"{dependency.name}: a pooler such as PgBouncer answers at {dependency.direct}: whose sessions are"
                    " whose cannot be told behind it, so the path is proven by established connections only"
                )
            elif dependency.admin is None:
                note(
                    f"{dependency.name}: no `admin` is declared, so the path is proven by established connections only,"
                    " and connection-limit and connection-hog are off"
                )
            return _with_admin(dependency, where, server), server.version
        case "kafka":
            _kafka(dependency, where, listener_port)
        case _:
            _answers(dependency, where)
    return dependency, None


def _tells_its_clients(dependency: Dependency, note: Callable[[str], None]) -> None:
    """Whether CLIENT LIST may be asked. Without it who uses the proxy is only seen from outside."""
    from harness.adapters.clients import redis

    try:
        assert dependency.direct is not None
        redis.clients(dependency.direct, password=secret(dependency.password_env), timeout_s=LIMIT_S)
    except Forbidden:
        note(
            f"{dependency.name}: its login may not ask CLIENT LIST, so the path is proven by established connections"
            " only; to prove it by the commands of each client: ACL +client|list"
        )
    except AdapterError:
        pass  # what does not answer has been told


def _same_server(dependency: Dependency, where: str, ask: Callable[[Dependency, Address], Server]) -> Server:
    assert dependency.direct is not None
    direct = _asked(dependency, where, dependency.direct, ask, "directly")
    if dependency.path is None or dependency.path == dependency.direct:
        return direct
    through = _asked(dependency, where, dependency.path, ask, f"through its proxy {dependency.proxy}")
    if direct.identity is not None and through.identity is not None and direct.identity != through.identity:
        raise UsageError(
            f"{where}: {dependency.path}, where the application connects, and direct {dependency.direct} are two"
            " different servers",
            hint=f"compare the upstream of proxy {dependency.proxy} with {where}.direct",
        )
    return direct


def _asked(
    dependency: Dependency, where: str, address: Address, ask: Callable[[Dependency, Address], Server], how: str
) -> Server:
    try:
        return ask(dependency, address)
    except AdapterError as error:
        raise UsageError(
            f"{where}: {dependency.name} does not answer {how} at {address}: {error}",
            hint="start it, or correct the address or the login",
        ) from error


def _redis(dependency: Dependency, address: Address) -> Server:
    return redis_server(address, password=secret(dependency.password_env), timeout_s=LIMIT_S)


def _postgres(dependency: Dependency, address: Address) -> Server:
    assert dependency.login is not None
    return postgres_server(
        dependency.login, address=address, password=secret(dependency.password_env), timeout_s=LIMIT_S
    )


def _with_admin(dependency: Dependency, where: str, application: Server) -> Dependency:
    """The admin login is another role on the same server; probes use it too where no login of theirs is declared."""
    if dependency.admin is None:
        return dependency
    try:
        found = postgres_server(
            dependency.admin, address=None, password=secret(dependency.admin_password_env), timeout_s=LIMIT_S
        )
    except AdapterError as error:
        raise UsageError(f"{where}.admin: {error}", hint="correct the login, or leave it out") from error
    if found.user == dependency.role:
        raise Refused(
            f"{where}.admin is the application's own role {found.user}: the undo must get in while it is limited",
            hint="declare another login",
        )
    if found.identity != application.identity and None not in (found.identity, application.identity):
        raise UsageError(
            f"{where}.admin leads to another PostgreSQL than {where}.direct", hint="correct its host and port"
        )
    if dependency.probe_login is not None:
        if login_user(dependency.probe_login) == dependency.role:
            raise Refused(
                f"{where}.probe_login is the application's own role {dependency.role}: probes would take its slots",
                hint="leave it out, or declare another login",
            )
        result = path_probe(dependency)(LIMIT_S)
        if not result.ok:
            raise UsageError(f"{where}.probe_login: no login at {dependency.path}: {result.detail}")
        return dependency
    # A probe must not use the role that a fault limits. The admin may be let in over this path, or it may not.
    options = f"user={_quoted(login_user(dependency.admin) or '')} dbname={_quoted(_database(dependency))}"
    as_admin = msgspec.structs.replace(
        dependency, probe_login=options, probe_password_env=dependency.admin_password_env
    )
    return as_admin if path_probe(as_admin)(LIMIT_S).ok else dependency


def _database(dependency: Dependency) -> str:
    from harness.adapters.probing.server_identity import login_database

    return login_database(dependency.admin or "") or login_database(dependency.login or "") or "postgres"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _kafka(dependency: Dependency, where: str, listener_port: int | None) -> None:
    """Clients follow the advertised addresses, so these must be the proxy's: else they go past it."""
    from harness.adapters.wire import kafka

    _answers(dependency, where)
    if dependency.path is None or dependency.path == dependency.direct:
        return
    try:
        brokers = kafka.cluster(dependency.path, deadline=monotonic() + LIMIT_S).brokers
    except ProbeError as error:
        raise UsageError(f"{where}: {dependency.path} does not answer like Kafka: {error.detail}") from error
    # Hosts are named differently in a container and outside; ports are the same, or published as `path` says.
    ports = {dependency.path.port, listener_port}
    beside = [broker for broker in brokers if broker.port not in ports]
    if beside:
        raise UsageError(
            f"{where}: Kafka sends its clients to {beside[0]}, past the proxy {dependency.proxy} at {dependency.path}",
            hint=f"advertised.listeners must name the proxy's address ({dependency.path})",
        )
    if len(brokers) > 1:
        raise UsageError(
            f"{where}: {len(brokers)} brokers answer to one proxy, so a fault would hit some of them only",
            hint="declare a cluster of one broker, as a test system has it",
        )


def _answers(dependency: Dependency, where: str) -> None:
    addresses = [("directly", dependency.direct)]
    if dependency.path != dependency.direct:
        addresses.append((f"through its proxy {dependency.proxy}", dependency.path))
    for how, address in addresses:
        if address is None:
            continue
        if dependency.kind == "tcp" and dependency.probe_send is not None:
            result = path_probe(msgspec.structs.replace(dependency, path=address))(LIMIT_S)
            if not result.ok and result.connected:
                raise UsageError(
                    f"{where}.probe_send: {dependency.name} takes it {how} at {address} and does not answer:"
                    f" {result.detail}",
                    hint='declare a request that is answered, or "" where the server speaks first; latency and hang'
                    " need an answer, down, reset and slow-close do not",
                )
        else:
            result = probe(dependency.kind, address, timeout_s=LIMIT_S)
        if not result.ok:
            raise UsageError(
                f"{where}: {dependency.name} does not answer {how} at {address}: {result.detail}",
                hint="start it, or correct the address",
            )
