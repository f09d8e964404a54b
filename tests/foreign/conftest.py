"""Servers of Debian's packages for the foreign systems, one of each for the tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.model.records.faults import Address
from tests.support.servers.caches import start_memcached
from tests.support.servers.mariadb import mariadb_server  # noqa: F401 (a fixture)
from tests.support.servers.rabbitmq import RabbitServer, start_rabbitmq
from tests.support.servers.real import SubprocessLauncher


@pytest.fixture(scope="session")
def launcher() -> Iterator[SubprocessLauncher]:
    found = SubprocessLauncher()
    yield found
    found.close()


@pytest.fixture(scope="session")
def memcached_server(launcher: SubprocessLauncher) -> Address:
    return start_memcached(launcher)[0]


@pytest.fixture(scope="session")
def rabbit_server(launcher: SubprocessLauncher) -> RabbitServer:
    return start_rabbitmq(launcher, "foreign")
