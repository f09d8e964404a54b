"""A probe never harms: it ends in order where its protocol is known, and is sent seldom where it is not.

MariaDB counts every connection that ends before its handshake does, and blocks the host that made a hundred of them. A
raw server stands in for it here: it greets as MariaDB does, and counts who leaves without an answer.
"""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.conductor.recovery_probe import Prober
from harness.dependencies.probe import path_probe
from harness.dependencies.registry import kind_of
from harness.fault import registered
from harness.model.clock import monotonic
from harness.model.records.faults import Address, Dependency, DependencyProxy
from harness.model.records.process import ServerProcess
from harness.safety.healing.undo import undo_record
from harness.stack.starting.ports import Ports
from harness.testing import change_for
from tests.support.servers.proxied import raw
from tests.support.servers.real import PostgresServer, ValkeyServer, wait_until

pytestmark = pytest.mark.stack

NEAR_NONE = 30
"""MariaDB's limit is 100, and an application that keeps its pool never sets the count back."""


class CountsHandshakes(socketserver.BaseRequestHandler):
    """An imitation of MariaDB's first exchange: a greeting, which a client answers with its login."""

    aborted = 0
    _lock = threading.Lock()

    def handle(self) -> None:
        answered = b""
        try:
            self.request.sendall(b"\x4a\x00\x00\x00\x0a11.4.2-MariaDB\x00")
            answered = self.request.recv(100)
        except OSError:
            pass
        if not answered:
            with self._lock:
                type(self).aborted += 1


@contextmanager
def database(toxiproxy: str, process: ServerProcess, probe: str | None) -> Iterator[Dependency]:
    CountsHandshakes.aborted = 0
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), CountsHandshakes)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    with Ports() as ports:
        listen = Address("127.0.0.1", ports.take())
        upstream = Address("127.0.0.1", server.server_address[1])
        name = f"mariadb{listen.port}"
        raw(f"{toxiproxy}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": str(upstream)})
    try:
        yield Dependency(
            name="orders",
            kind="tcp",
            proxy=DependencyProxy(url=toxiproxy, name=name, pid=process.pid),
            proxied=True,
            path=listen,
            direct=upstream,
            probe_send=probe,
        )
    finally:
        raw(f"{toxiproxy}/proxies/{name}", "DELETE")
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("kind", "probe"),
    [("down", None), ("reset", None), ("slow-close", None), ("down", ""), ("latency", ""), ("hang", "")],
)
def test_a_run_leaves_hardly_an_unfinished_handshake(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, kind: str, probe: str | None
) -> None:
    """As a run goes about it: two looks, the proof every second of a long phase, probes around the undo."""
    fault = registered()[kind]
    with database(toxiproxy_server, toxiproxy_process, probe) as dependency:
        for _ in range(2):
            kind_of(dependency).check(dependency, "orders", None, lambda _: None)
        record = fault.capture(change_for(fault, dependency), f"orders-{kind}-{probe}")
        fault.inject(record)
        assert all(item.held for item in fault.prove(record, "injected"))
        for _ in range(30):
            assert all(item.held for item in fault.prove(record, "held"))
        prober = Prober(dependency, record)
        prober.start()
        time.sleep(2.0)
        asked = monotonic()
        outcome = undo_record(record, on_answer=prober.look_now)
        time.sleep(2.0)
        zero = prober.first_good_after(asked)
        prober.stop()
        assert outcome.state == "verified", outcome.left
        assert zero is not None, "recovery still has its zero"
        assert CountsHandshakes.aborted <= NEAR_NONE


def test_a_redis_sees_every_probe_say_goodbye(redis: Dependency, valkey_server: ValkeyServer) -> None:
    import redis as client

    with client.Redis(host=valkey_server.address.host, port=valkey_server.address.port) as admin:
        before = admin.info("commandstats").get("cmdstat_quit", {}).get("calls", 0)
        for _ in range(10):
            assert path_probe(redis)(5.0).ok
        assert admin.info("commandstats")["cmdstat_quit"]["calls"] == before + 10


def test_a_database_sees_every_probe_end_in_order(db: Dependency, postgres_server: PostgresServer) -> None:
    import psycopg

    def abandoned() -> int:
        with psycopg.connect(postgres_server.admin) as admin:
            row = admin.execute("SELECT sum(sessions_abandoned)::int FROM pg_stat_database").fetchone()
        assert row is not None
        return int(row[0])

    before = abandoned()
    for _ in range(10):
        assert path_probe(db)(5.0).ok
    wait_until("nobody of ours is left", lambda: _ours(postgres_server) == 0)
    assert abandoned() == before


def _ours(server: PostgresServer) -> int:
    import psycopg

    with psycopg.connect(server.admin) as admin:
        row = admin.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'harness-probe%'"
        ).fetchone()
    assert row is not None
    return int(row[0])
