"""A dependency behind a Toxiproxy proxy of its own, and looks at it from outside the product.

Everything here that looks, looks raw: HTTP to Toxiproxy's API with urllib, SQL through psql's protocol library with no
help of the harness.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg

from harness.model.records.faults import (
    Address,
    Credentials,
    Dependency,
    DependencyProcess,
    DependencyProxy,
    UndoRecord,
)
from harness.model.records.process import ServerProcess
from harness.stack.starting.ports import Ports
from tests.support.servers.real import KafkaServer, PostgresServer, ValkeyServer

_numbers = count(1)


def raw(url: str, method: str = "GET", body: object = None) -> Any:
    """One JSON request to Toxiproxy's API."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as response:
        text = response.read()
    return json.loads(text) if text else None


@contextmanager
def proxied(
    toxiproxy: str,
    process: ServerProcess,
    server: ValkeyServer | PostgresServer | KafkaServer,
    *,
    listen: Address | None = None,
) -> Iterator[Dependency]:
    """A new proxy in front of a server, and the dependency a stack would declare for it."""
    number = next(_numbers)
    upstream = server.upstream if isinstance(server, KafkaServer) else server.address
    name = f"{type(server).__name__.removesuffix('Server').lower()}{number}"
    with Ports() as ports:
        if listen is None:
            listen = Address("127.0.0.1", ports.take())
        raw(f"{toxiproxy}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": str(upstream)})
    common: dict[str, Any] = {
        "proxied": True,
        "runtime": "process",
        "path": listen,
        "direct": upstream,
        "proxy": DependencyProxy(url=toxiproxy, name=name, pid=process.pid),
        "process": DependencyProcess(pid=server.pid),
    }
    try:
        if isinstance(server, ValkeyServer):
            yield Dependency(name="redis", kind="redis", **common)
        elif isinstance(server, PostgresServer):
            yield Dependency(
                name="db",
                kind="postgres",
                credentials=Credentials(
                    admin=server.admin, login=server.login, probe_login=server.probe_login, role=server.role
                ),
                **common,
            )
        else:
            common["direct"] = server.direct
            yield Dependency(name="kafka", kind="kafka", **common)
    finally:
        raw(f"{toxiproxy}/proxies/{name}", "DELETE")


def outside(dependency: Dependency) -> Any:
    """Everything that a fault could have changed about a dependency, read without the product."""
    proxy = raw(f"{dependency.proxy.url}/proxies/{dependency.proxy.name}")
    state: list[Any] = [proxy]
    if dependency.credentials.admin is not None:
        with psycopg.connect(dependency.credentials.admin) as connection:
            state.append(connection.execute("SELECT * FROM pg_roles ORDER BY oid").fetchall())
    return state


def record_like(dependency: Dependency, **healthy: float) -> UndoRecord:
    """A record that is only asked for its dependency and how healthy that was."""
    return UndoRecord(
        id="r", kind="down", dependency=dependency, params={}, where={}, original={}, ours={}, healthy=dict(healthy)
    )
