"""Dependencies behind proxies, for the fault tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.model.records.faults import Dependency
from harness.model.records.process import ServerProcess
from tests.support.servers.proxied import proxied
from tests.support.servers.real import PostgresServer, ValkeyServer


@pytest.fixture
def redis(toxiproxy_server: str, toxiproxy_process: ServerProcess, valkey_server: ValkeyServer) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, valkey_server) as dependency:
        yield dependency


@pytest.fixture
def db(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, postgres_server: PostgresServer
) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, postgres_server) as dependency:
        yield dependency
