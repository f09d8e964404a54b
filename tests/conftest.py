"""The order of the suite, and real servers: one of each for the session, started when a test first asks for one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from harness.model.records.process import ServerProcess
from tests.support.servers.mariadb import mariadb_server as mariadb_server
from tests.support.servers.real import (
    KafkaServer,
    PostgresServer,
    SubprocessLauncher,
    ValkeyServer,
    start_kafka,
    start_postgres,
    start_toxiproxy,
    start_valkey,
)
from tests.support.suite.order import group, longest_files_first, longest_first


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side, what takes long runs first; one by one, the order stays as it is."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    tests = [item.nodeid for item in items]
    # With those on a Docker engine, tests are dealt to the workers by groups (.ci/docker).
    by_file = any(test.startswith("tests/docker/") for test in tests)
    items[:] = [items[place] for place in (longest_files_first(tests) if by_file else longest_first(tests, workers))]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object | None:
    """By our own groups where tests are to be dealt by groups."""
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return ByGroup(config, log)


@pytest.fixture(scope="session", autouse=True)
def _ordinary_signals() -> None:
    """A suite started in the background of a script inherits ignored signals, and so would all that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session", autouse=True)
def _ordinary_terminal() -> None:
    """A parallel run puts a terminal size in the environment, which programs believe before a real one."""
    for name in ("COLUMNS", "LINES"):
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def _launcher() -> Iterator[SubprocessLauncher]:
    launcher = SubprocessLauncher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="session")
def _toxiproxy(_launcher: SubprocessLauncher) -> tuple[str, ServerProcess]:
    return start_toxiproxy(_launcher)


@pytest.fixture(scope="session")
def toxiproxy_server(_toxiproxy: tuple[str, ServerProcess]) -> str:
    """Base URL of the API of a Toxiproxy that this session owns."""
    return _toxiproxy[0]


@pytest.fixture(scope="session")
def toxiproxy_process(_toxiproxy: tuple[str, ServerProcess]) -> ServerProcess:
    return _toxiproxy[1]


@pytest.fixture(scope="session")
def valkey_server(_launcher: SubprocessLauncher) -> ValkeyServer:
    return start_valkey(_launcher)


@pytest.fixture(scope="session")
def postgres_server(_launcher: SubprocessLauncher) -> PostgresServer:
    return start_postgres(_launcher)


@pytest.fixture(scope="session")
def kafka_server(_launcher: SubprocessLauncher) -> KafkaServer:
    return start_kafka(_launcher)
