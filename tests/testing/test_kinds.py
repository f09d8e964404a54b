"""Every kind of dependency that ships keeps the contract that authors of others are given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import distribution
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from types import ModuleType

import psycopg
import pytest
import redis

from harness.dependencies import registry
from harness.dependencies.http import HTTP
from harness.dependencies.kafka import KAFKA
from harness.dependencies.postgres import POSTGRES
from harness.dependencies.redis import REDIS
from harness.dependencies.registry import GROUP, kinds
from harness.dependencies.tcp import TCP
from harness.model.records.faults import Address, Credentials, Dependency
from harness.testing import DependencyContract, assert_probes
from tests.support.servers.real import KafkaServer, PostgresServer, ValkeyServer

pytestmark = pytest.mark.stack


class TestRedis(DependencyContract):
    kind = REDIS

    @pytest.fixture
    def dependency(self, valkey_server: ValkeyServer) -> Dependency:
        return Dependency(name="cache", kind="redis", path=valkey_server.address, direct=valkey_server.address)

    @contextmanager
    def application(self, dependency: Dependency) -> Iterator[None]:
        assert dependency.path is not None
        with redis.Redis(dependency.path.host, dependency.path.port, client_name="app") as client:
            client.ping()
            yield


class TestPostgres(DependencyContract):
    kind = POSTGRES

    @pytest.fixture
    def dependency(self, postgres_server: PostgresServer) -> Dependency:
        return Dependency(
            name="db",
            kind="postgres",
            credentials=Credentials(
                login=postgres_server.login,
                role=postgres_server.role,
                probe_login=postgres_server.probe_login,
                admin=postgres_server.admin,
            ),
            path=postgres_server.address,
            direct=postgres_server.address,
        )

    def application(self, dependency: Dependency) -> AbstractContextManager[object]:
        assert dependency.path is not None
        where = f"host={dependency.path.host} port={dependency.path.port} {dependency.credentials.login}"
        return psycopg.connect(where, autocommit=True)


class TestKafka(DependencyContract):
    kind = KAFKA

    @pytest.fixture
    def dependency(self, kafka_server: KafkaServer) -> Dependency:
        return Dependency(name="events", kind="kafka", path=kafka_server.direct, direct=kafka_server.direct)


class TestHttp(DependencyContract):
    kind = HTTP

    @pytest.fixture
    def dependency(self, toxiproxy_server: str) -> Dependency:
        address = Address("127.0.0.1", int(toxiproxy_server.rsplit(":", 1)[1]))
        return Dependency(name="api", kind="http", path=address, direct=address, url=f"{toxiproxy_server}/version")


class TestTcp(DependencyContract):
    kind = TCP

    @pytest.fixture(params=[None, "PING\r\n"], ids=["nothing known", "asked"])
    def dependency(self, valkey_server: ValkeyServer, request: pytest.FixtureRequest) -> Dependency:
        address = valkey_server.address
        return Dependency(name="it", kind="tcp", path=address, direct=address, probe_send=request.param)


def test_no_kind_is_left_out() -> None:
    tried = {one.kind.name for one in (TestRedis, TestPostgres, TestKafka, TestHttp, TestTcp)}
    tried.add("mariadb")  # with mysql
    # Those whose server only some machines have: a file each.
    tried |= {
        file.stem.removeprefix("test_") for file in (Path(__file__).parents[1] / "dependencies").glob("test_*.py")
    }
    ours = {point.name for point in distribution("resilience-harness").entry_points if point.group == GROUP}
    assert ours <= tried and ours <= set(kinds())


def test_the_kind_of_the_page_tells_an_answer_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
    (code,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "DependencyKind" in text)
    module = ModuleType("my_kinds")
    exec(compile(code, "docs/api.md", "exec"), module.__dict__)
    known = {**kinds(), "gearman": module.__dict__["GEARMAN"]}
    monkeypatch.setattr(registry, "_load", lambda: (known, {}))

    class Version(StreamRequestHandler):
        def handle(self) -> None:
            if self.rfile.readline() == b"version\n":
                self.wfile.write(b"OK 1.1.20\n")

    with ThreadingTCPServer(("127.0.0.1", 0), Version) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = Address("127.0.0.1", server.server_address[1])
        assert_probes(known["gearman"], Dependency(name="it", kind="gearman", path=address, direct=address))
        server.shutdown()
