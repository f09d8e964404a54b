"""Redis and Valkey as a server tells about itself: its clients. The only place that imports redis.

Probes do not come here: a PING on a raw socket is in probe.py.
"""

from __future__ import annotations

import msgspec

from harness.model.errors import Rejected, Unreachable
from harness.model.faults import Address

NAME = "harness"
"""Client names of ours start with this; such clients are never counted as the application's."""


class RedisClient(msgspec.Struct, frozen=True, kw_only=True):
    """One row of CLIENT LIST. commands: how many it sent so far; None where the server does not count them.

    idle_s: whole seconds since its last command.
    """

    id: str
    address: Address
    name: str
    commands: int | None
    idle_s: int


def clients(address: Address, *, password: str | None = None, timeout_s: float = 3.0) -> tuple[RedisClient, ...]:
    """Ordinary clients, without replicas, monitors and those of the harness. Raises Unreachable, Rejected."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    connection = redis.Redis(
        host=address.host,
        port=address.port,
        password=password,
        client_name=f"{NAME}-admin",
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    try:
        rows = connection.client_list()
    except redis.ResponseError as error:
        raise Rejected(f"CLIENT LIST at {address}: {error}") from error
    except redis.RedisError as error:
        raise Unreachable(f"no Redis answers at {address}: {error}") from error
    finally:
        connection.close()
    return tuple(_client(row) for row in rows if _ordinary(row))


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
