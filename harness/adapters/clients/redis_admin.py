"""Redis and Valkey: what a server tells about itself, and FLUSHALL. The only place that imports redis.

Probes do not come here: a PING on a raw socket is in harness/dependencies/redis.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from harness.adapters.wire.tls import secured
from harness.model.clock import monotonic
from harness.model.errors import Forbidden, OutcomeUnknown, Rejected, Unreachable
from harness.model.records.faults import Address, Applied, Tls

NAME = "harness"
"""Client names of ours start with this; such clients are never counted as the application's."""


_COUNTERS = {
    "connections": "total_connections_received",
    "commands": "total_commands_processed",
    "hits": "keyspace_hits",
    "misses": "keyspace_misses",
    "clients": "connected_clients",
}


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """user: of an ACL; None = the default one. tls: None = without."""

    user: str | None = None
    password: str | None = None
    tls: Tls | None = None

    def __repr__(self) -> str:
        return f"Login(user={self.user!r})"


ANYBODY = Login()


class RedisClient(msgspec.Struct, frozen=True, kw_only=True):
    """One row of CLIENT LIST. commands: how many it sent so far; None where the server does not count them.

    idle_s: whole seconds since its last command.
    """

    id: str
    address: Address
    name: str
    commands: int | None
    idle_s: int


class Keyspace(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says about its data. run_id: drawn when the server starts. keys: in all databases.

    flushes: FLUSHALL commands carried out since its counters were reset. replica: it takes no writes.
    """

    run_id: str
    keys: int
    flushes: int
    replica: bool


class Emptied(msgspec.Struct, frozen=True, kw_only=True):
    """FLUSHALL and the number of keys in the first database right before and after it, in one transaction."""

    applied: Applied
    before: int
    after: int


def clients(address: Address, *, login: Login = ANYBODY, timeout_s: float = 3.0) -> tuple[RedisClient, ...]:
    """Ordinary clients, without replicas, monitors and those of the harness. Raises Unreachable, Rejected."""
    with _connected(address, login, timeout_s, "CLIENT LIST") as connection:
        rows = connection.client_list()
    return tuple(_client(row) for row in rows if _ordinary(row))


def keyspace(address: Address, *, login: Login = ANYBODY, timeout_s: float = 3.0) -> Keyspace:
    """Raises Unreachable, Rejected."""
    with _connected(address, login, timeout_s, "INFO") as connection:
        info = connection.info("all")
    databases = [value for name, value in info.items() if name.startswith("db") and name[2:].isdigit()]
    flushes = info.get("cmdstat_flushall", {})
    return Keyspace(
        run_id=str(info.get("run_id", "")),
        keys=sum(int(database["keys"]) for database in databases),
        flushes=int(flushes.get("calls", 0)) - int(flushes.get("failed_calls", 0)),
        replica=info.get("role") == "slave",
    )


def has_command(address: Address, name: str, *, login: Login = ANYBODY, timeout_s: float = 3.0) -> bool:
    """Does the server know a command by that name? True also where it cannot tell (before Redis 7)."""
    try:
        with _connected(address, login, timeout_s, "COMMAND LIST") as connection:
            return bool(connection.execute_command("COMMAND LIST", "FILTERBY", "PATTERN", name))
    except Rejected:
        return True


def mark(address: Address, key: str, *, lasts_s: int, login: Login = ANYBODY, timeout_s: float = 3.0) -> None:
    """Set a key of ours that expires by itself. Raises Unreachable, Rejected."""
    with _connected(address, login, timeout_s, "SET") as connection:
        connection.set(key, "", ex=lasts_s)


def unmark(address: Address, key: str, *, login: Login = ANYBODY, timeout_s: float = 3.0) -> Applied:
    """Delete a key of ours, whether it is there or not. Raises Unreachable, Rejected."""
    with _connected(address, login, timeout_s, "DEL") as connection:
        sent = monotonic()
        connection.delete(key)
        return Applied(sent, monotonic())


def marked(address: Address, key: str, *, login: Login = ANYBODY, timeout_s: float = 3.0) -> bool:
    """Is a key of ours there? Raises Unreachable, Rejected."""
    with _connected(address, login, timeout_s, "EXISTS") as connection:
        return bool(connection.exists(key))


def flush_all(address: Address, *, login: Login = ANYBODY, timeout_s: float = 30.0) -> Emptied:
    """FLUSHALL. A large keyspace takes a while, during which the server answers nobody.

    Raises Unreachable (not done), Rejected (not done), OutcomeUnknown (no answer).
    """
    import redis

    with _connected(address, login, timeout_s, "FLUSHALL") as connection:
        connection.ping()
        sent = monotonic()
        try:
            with connection.pipeline(transaction=True) as transaction:
                transaction.dbsize()
                transaction.execute_command("FLUSHALL")
                transaction.dbsize()
                before, _, after = transaction.execute()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise OutcomeUnknown(f"FLUSHALL at {address} was not answered: {_words(error, login)}") from None
        return Emptied(applied=Applied(sent, monotonic()), before=int(before), after=int(after))


class Watch:
    """One connection that stays open, for counters that are read every second. Raises Unreachable, Rejected."""

    def __init__(self, address: Address, *, login: Login = ANYBODY, timeout_s: float = 3.0) -> None:
        self._opened = _connected(address, login, timeout_s, "INFO")
        self._connection = self._opened.__enter__()
        self._address = address
        self._login = login

    def read(self) -> dict[str, object]:
        """As the server says them, those it has: connections, commands, hits, misses: since the server started.
        clients: connected now, ours included."""
        import redis

        try:
            info = {**self._connection.info("stats"), **self._connection.info("clients")}
        except redis.RedisError as error:
            raise Unreachable(f"no Redis answers at {self._address}: {_words(error, self._login)}") from None
        return {name: info[field] for name, field in _COUNTERS.items() if field in info}

    def close(self) -> None:
        self._opened.__exit__(None, None, None)


@contextmanager
def _connected(address: Address, login: Login, timeout_s: float, doing: str) -> Iterator[Any]:
    """One connection for one errand, its errors translated and without the password."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    pool = redis.ConnectionPool(
        connection_class=redis.Connection if login.tls is None else _over_tls(login.tls),
        host=address.host,
        port=address.port,
        username=login.user,
        password=login.password,
        client_name=f"{NAME}-admin",
        socket_timeout=timeout_s,
        socket_connect_timeout=min(3.0, timeout_s),
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    connection = redis.Redis.from_pool(pool)
    try:
        yield connection
    except (redis.ResponseError, redis.AuthenticationError) as error:
        # A command that was renamed away or forbidden; a login that is wrong is another matter.
        forbidden = isinstance(error, redis.exceptions.NoPermissionError) or "unknown command" in str(error)
        raise (Forbidden if forbidden else Rejected)(f"{doing} at {address}: {_words(error, login)}") from None
    except redis.RedisError as error:
        raise Unreachable(f"no Redis answers at {address}: {_words(error, login)}") from None
    finally:
        connection.close()


def _over_tls(tls: Tls) -> type[Any]:
    import redis

    class OverTls(redis.Connection):
        """redis-py's own would check the certificate for the address, which may be a proxy's."""

        def _connect(self) -> Any:
            connection = super()._connect()  # type: ignore[no-untyped-call]
            try:
                return secured(connection, tls)
            except Exception:
                connection.close()
                raise

    return OverTls


def _words(error: Exception, login: Login) -> str:
    text = " ".join(str(error).split())[:300]
    return text.replace(login.password, "***") if login.password else text


def _ordinary(row: dict[str, str]) -> bool:
    """Flags: S replica, M primary, O monitor (documentation of CLIENT LIST)."""
    return not set(row.get("flags", "")) & set("SMO") and not row.get("name", "").startswith(NAME)


def _client(row: dict[str, str]) -> RedisClient:
    host, _, port = row["addr"].rpartition(":")
    commands = row.get("tot-cmds", "")
    return RedisClient(
        id=row["id"],
        address=Address(host.strip("[]"), int(port) if port.isdigit() else 0),
        name=row.get("name", ""),
        commands=int(commands) if commands.isdigit() else None,
        idle_s=int(row.get("idle", 0)),
    )
