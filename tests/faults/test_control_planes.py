"""The control plane itself fails while a fault is on: killed, restarted, hanging, or something else in its place."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
import psycopg
import pytest

from harness.fault import registered
from harness.model.records.faults import Credentials, Dependency, UndoOutcome, UndoRecord
from harness.safety.healing.undo import Patience, undo_record
from harness.stack.embedded import postgres
from harness.testing import change_for
from tests.support.misbehaving.relay import relay_to
from tests.support.servers.proxied import outside, proxied, raw
from tests.support.servers.real import (
    PostgresServer,
    SubprocessLauncher,
    ValkeyServer,
    start_postgres,
    start_toxiproxy,
    wait_until,
)

pytestmark = pytest.mark.stack

SOON = Patience(limit_s=2.0, clean_s=0.5)


def on(kind: str, dependency: Dependency, **params: str) -> UndoRecord:
    fault = registered()[kind]
    record = fault.capture(change_for(fault, dependency, **params), "r")
    fault.inject(record)
    return record


@pytest.fixture
def launcher() -> Iterator[SubprocessLauncher]:
    launcher = SubprocessLauncher()
    yield launcher
    launcher.close()


@pytest.mark.parametrize("kind", ["down", "latency"])
def test_a_toxiproxy_that_was_killed_is_not_taken_for_undone_and_the_message_mends_it(
    launcher: SubprocessLauncher, valkey_server: ValkeyServer, kind: str
) -> None:
    url, process = start_toxiproxy(launcher)
    spec = launcher._specs["toxiproxy"]
    with proxied(url, process, valkey_server) as dependency:
        before = outside(dependency)
        record = on(kind, msgspec.structs.replace(dependency, external=True))
        os.kill(process.pid, signal.SIGKILL)
        wait_until("it is dead", lambda: launcher.exit_code("toxiproxy") is not None)
        outcome = undo_record(record, patience=SOON)
        assert outcome.state == "unverified"
        assert outcome.left is not None and outcome.mend is not None
        assert f"no Toxiproxy answers at {url}" in outcome.left
        assert "its toxics are gone" in outcome.mend and f"nothing listens at {dependency.path}" in outcome.mend
        launcher.stop("toxiproxy")
        launcher.launch(spec)
        wait_until("Toxiproxy answers", lambda: answers(url))
        run_command(outcome.mend[outcome.mend.index("then: ") + 6 :])
        assert outside(dependency) == before
        assert undo_record(record, patience=SOON).state == "verified"


def run_command(command: str) -> None:
    """A printed curl command, word by word."""
    words = shlex.split(command)
    assert words[:3] == ["curl", "-X", "POST"] and words[4] == "-d" and len(words) == 6, words
    raw(words[3], "POST", json.loads(words[5]))


def answers(url: str) -> bool:
    try:
        raw(f"{url}/version")
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def web_server(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _any  # noqa: N815 - http.server's names

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent_server() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["down", "latency"])
@pytest.mark.parametrize("what", ["404", "200", "json", "silent"])
def test_something_else_on_toxiproxys_port_is_neither_believed_nor_taken_for_undone(
    redis: Dependency, kind: str, what: str
) -> None:
    record = on(kind, redis)
    try:
        page = b"<html><body>Not here</body></html>"
        servers = {
            "404": web_server(404, page),
            "200": web_server(200, page),
            "json": web_server(404, b'{"error": "no such page"}'),
            "silent": silent_server(),
        }
        with servers[what] as url:
            elsewhere = redis.but(proxy={"url": url})
            outcome = undo_record(msgspec.structs.replace(record, dependency=elsewhere), patience=SOON)
        assert outcome.state == "unverified", outcome
        assert outcome.left is not None and outcome.left.startswith(f"redis-{kind} may still be on")
        assert any(words in outcome.left for words in ("oxiproxy",)), outcome.left
        assert "curl -X" in str(outcome.mend)
    finally:
        assert undo_record(record).state == "verified"


class TestHangingDelete:
    """A DELETE of a toxic hangs under load on Toxiproxy 2.12, and not on demand: a stub between stands in for that."""

    def test_one_that_is_carried_out_without_an_answer_is_read_back(
        self, redis: Dependency, toxiproxy_server: str
    ) -> None:
        before = outside(redis)
        with relay_to(toxiproxy_server) as relay:
            record = on("latency", redis.but(proxy={"url": relay.url}))
            relay.lose = lambda what: what.startswith("DELETE") and relay.seen.count(what) == 1
            said: list[str] = []
            outcome = undo_record(record, say=said.append, patience=Patience(limit_s=20.0, clean_s=0.5))
        assert outcome.state == "verified", outcome
        assert any("outcome was unknown" in line for line in said)
        assert outside(redis) == before

    def test_one_that_always_ends_in_503_is_left_and_told_and_ours_is_restarted(
        self, redis: Dependency, toxiproxy_server: str
    ) -> None:
        before = outside(redis)
        with relay_to(toxiproxy_server) as relay:
            record = on("latency", redis.but(proxy={"url": relay.url}))
            relay.refuse = lambda what: what.startswith("DELETE")
            outcome = undo_record(record, patience=SOON)
            assert outcome.state == "unverified" and "503" in str(outcome.left)
            (toxic,) = outside(redis)[0]["toxics"]
            assert f"curl -X DELETE {relay.url}/proxies/{redis.proxy.name}/toxics/{toxic['name']}" in str(outcome.mend)

            def restart() -> bool:
                # What a restart does to it: the proxy as at the start, no toxic, an API that answers.
                relay.refuse = None
                raw(f"{toxiproxy_server}/proxies/{redis.proxy.name}/toxics/{toxic['name']}", "DELETE")
                return True

            assert undo_record(record, restart_toxiproxy=restart, patience=SOON).state == "verified"
        assert outside(redis) == before


class TestPostgresGone:
    def test_a_limit_outlives_the_server_and_is_undone_when_it_is_back(self, launcher: SubprocessLauncher) -> None:
        server, dependency = own_postgres(launcher)
        record = on("connection-limit", dependency)
        assert limit(server) == 2
        spec = kill(launcher, server)

        outcome = undo_record(record, patience=SOON)
        assert outcome.state == "unverified"
        assert f'ALTER ROLE "{server.role}" CONNECTION LIMIT -1;' in str(outcome.mend), outcome.mend
        assert server.admin.split()[0] in str(outcome.mend), "it says where to log in"

        outcomes: list[UndoOutcome] = []
        undoing = threading.Thread(target=lambda: outcomes.append(undo_record(record)))
        undoing.start()  # it keeps trying while the server comes up
        time.sleep(0.5)
        launcher.launch(spec)
        undoing.join()
        assert outcomes[0].state == "verified", outcomes
        assert limit(server) == -1


def own_postgres(launcher: SubprocessLauncher) -> tuple[PostgresServer, Dependency]:
    server = start_postgres(launcher)
    dependency = Dependency(
        name="db",
        kind="postgres",
        credentials=Credentials(
            admin=server.admin, login=server.login, probe_login=server.probe_login, role=server.role
        ),
        path=server.address,
        direct=server.address,
    )
    return server, dependency


def kill(launcher: SubprocessLauncher, server: PostgresServer) -> object:
    spec = launcher._specs[postgres.NAME]
    os.kill(server.pid, signal.SIGKILL)
    wait_until("it is dead", lambda: launcher.exit_code(postgres.NAME) is not None)
    launcher.stop(postgres.NAME)
    wait_until("nobody answers", lambda: not logs_in(server))
    return spec


def logs_in(server: PostgresServer) -> bool:
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(server.admin, connect_timeout=2):
        return True
    return False


def limit(server: PostgresServer) -> int:
    with psycopg.connect(server.admin) as connection:
        row = connection.execute("SELECT rolconnlimit FROM pg_roles WHERE rolname = %s", (server.role,)).fetchone()
    assert row is not None
    return int(row[0])
