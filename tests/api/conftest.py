"""The sample API as a process, behind Toxiproxy, on real servers; its HTTP upstream behind an Envoy as well."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from harness.model.records.faults import Dependency
from harness.model.records.process import ServerProcess
from harness.model.resources import resource
from harness.stack.starting.ports import Ports
from tests.support.servers.envoy import set_runtime
from tests.support.servers.proxied import proxied, raw
from tests.support.servers.real import KafkaServer, PostgresServer, SubprocessLauncher, ValkeyServer
from tests.support.servers.risk import risk_service

sys.path.insert(0, str(resource("compose", "api")))

LIMIT_S = 60.0


class Api:
    """A running sample API."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = port
        self.process = process
        self.log = log

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=LIMIT_S) as reply:
            body = reply.read()
        return msgspec.json.decode(body) if "json" in reply.headers["content-type"] else body.decode()

    def health(self) -> dict[str, str]:
        return dict(self.get("/health")["dependencies"])

    def signal(self, name: str) -> float:
        return next(
            float(line.split()[-1]) for line in self.get("/metrics").splitlines() if line.startswith(name + " ")
        )


_AT_THE_FRONT = {
    "503": {"status.code": 503, "status.percent": 100},
    "half-429": {"status.code": 429, "status.percent": 50},
    "delay": {"delay.ms": 2000, "delay.percent": 100},
    "slow-body": {"slow-body-8.percent": 100},
}


class World:
    """The dependencies behind their proxies, and what can be done to them, without the product's faults."""

    def __init__(self, redis: Dependency, db: Dependency, kafka: Dependency, risk: Dependency) -> None:
        self.dependencies = {"redis": redis, "db": db, "kafka": kafka, "risk": risk}
        self.admin = db.credentials.admin or ""
        self.role = db.credentials.role or ""

    def environment(self) -> dict[str, str]:
        paths = {name: one.path for name, one in self.dependencies.items()}
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(resource("compose", "api")),
            "REDIS_URL": f"redis://{paths['redis']}/0",
            "DATABASE_URL": f"postgresql://{self.role}@{paths['db']}/anomalies",
            "KAFKA_BOOTSTRAP_SERVERS": str(paths["kafka"]),
            "RISK_URL": f"http://{paths['risk']}",
        }

    @contextmanager
    def fault(self, name: str, kind: str) -> Iterator[None]:
        undo = self.inject(name, kind)
        try:
            yield
        finally:
            undo()

    def inject(self, name: str, kind: str) -> Callable[[], None]:
        """Does it and gives back its undo."""
        if kind == "connection-limit":
            with psycopg.connect(self.admin, autocommit=True) as admin:
                admin.execute(f"ALTER ROLE {self.role} CONNECTION LIMIT 2")
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity WHERE usename = %s "
                    "ORDER BY backend_start OFFSET 2) AS newest",
                    (self.role,),
                )
            return self._lift_limit
        dependency = self.dependencies[name]
        if kind in _AT_THE_FRONT:
            keys = {f"harness.{name}.{key}": value for key, value in _AT_THE_FRONT[kind].items()}
            set_runtime(dependency, "&".join(f"{key}={value}" for key, value in keys.items()))
            return lambda: set_runtime(dependency, "&".join(f"{key}=" for key in keys))
        proxy = f"{dependency.proxy.url}/proxies/{dependency.proxy.name}"
        if kind == "down":
            raw(proxy, "POST", {"enabled": False})
            return lambda: raw(proxy, "POST", {"enabled": True})
        toxic, attributes = {
            "hang": ("timeout", {"timeout": 0}),
            "latency": ("latency", {"latency": 300}),
            "jitter": ("latency", {"latency": 50, "jitter": 45}),
        }[kind]
        raw(f"{proxy}/toxics", "POST", {"name": "t", "type": toxic, "stream": "downstream", "attributes": attributes})
        return lambda: raw(f"{proxy}/toxics/t", "DELETE")

    def _lift_limit(self) -> None:
        with psycopg.connect(self.admin, autocommit=True) as admin:
            admin.execute(f"ALTER ROLE {self.role} CONNECTION LIMIT -1")

    @contextmanager
    def empty_schema(self) -> Iterator[str]:
        """URL of a database in which the API finds nothing of its own; its schema is called `emptied`."""
        with psycopg.connect(self.admin, dbname="anomalies", autocommit=True) as admin:
            admin.execute(f"CREATE SCHEMA emptied AUTHORIZATION {self.role}")
            try:
                yield f"{self.environment()['DATABASE_URL']}?search_path=emptied"
            finally:
                admin.execute("DROP SCHEMA emptied CASCADE")

    def query(self, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.admin, dbname="anomalies") as admin:
            return admin.execute(statement, arguments).fetchall()


@pytest.fixture(scope="package")
def world(
    _launcher: SubprocessLauncher,
    toxiproxy_server: str,
    toxiproxy_process: ServerProcess,
    valkey_server: ValkeyServer,
    postgres_server: PostgresServer,
    kafka_server: KafkaServer,
) -> Iterator[World]:
    with (
        proxied(toxiproxy_server, toxiproxy_process, valkey_server) as redis,
        proxied(toxiproxy_server, toxiproxy_process, postgres_server) as db,
        proxied(toxiproxy_server, toxiproxy_process, kafka_server, listen=kafka_server.advertised) as kafka,
        risk_service(_launcher, toxiproxy_server, toxiproxy_process) as risk,
    ):
        yield World(redis, db, kafka, risk)


@contextmanager
def running(world: World, log: Path, wait: bool = True, **settings: str) -> Iterator[Api]:
    with Ports() as ports, ExitStack() as at_end:
        port = ports.take()
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "anomaly_api"],
                env={**world.environment(), "PORT": str(port), **settings},
                stdout=file,
                stderr=file,
            )
        at_end.callback(_end, process)
        api = Api(port, process, log)
        wait_until("the API to be there", lambda: process.poll() is not None or answers(api))
        assert process.poll() is None, log.read_text()
        if wait:
            wait_until("every dependency", lambda: set(api.health().values()) == {"up"})
        yield api


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()


def answers(api: Api) -> bool:
    with contextlib.suppress(OSError):
        api.health()
        return True
    return False


def wait_until(what: str, condition: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"{what} did not come within {limit_s:g} s"
        time.sleep(0.05)


@pytest.fixture(scope="package")
def api(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API as shipped."""
    with running(world, tmp_path_factory.mktemp("api") / "api.log") as made:
        yield made
