"""What a look at the user's own system refuses or names in one line: things that would make a proof worthless."""

from __future__ import annotations

import socket
import socketserver
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from harness.dependencies.configuration import load
from harness.model.records.faults import Address, Dependency
from harness.model.records.process import ServerProcess
from harness.stack.embedded import valkey
from harness.stack.external.check import Look, look
from harness.stack.starting.ports import Ports
from tests.support.servers.proxied import proxied
from tests.support.servers.real import PostgresServer, ValkeyServer

pytestmark = pytest.mark.stack


def looked(folder: Path, text: str) -> Look:
    path = folder / "harness.toml"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    path.write_text(f'[target]\nurl = "{url}"\n{text}')
    return look(load(path), url, allow_hosts=())


def trouble(found: Look, name: str) -> str:
    part = next(part for part in found.parts if part.name == name)
    assert part.trouble is not None
    return f"{part.trouble} ({part.trouble.hint})"


@pytest.fixture
def cache(toxiproxy_server: str, toxiproxy_process: ServerProcess, valkey_server: ValkeyServer) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, valkey_server) as dependency:
        yield dependency


@pytest.fixture
def db(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, postgres_server: PostgresServer
) -> Iterator[Dependency]:
    with proxied(toxiproxy_server, toxiproxy_process, postgres_server) as dependency:
        yield dependency


def table(dependency: Dependency, *, direct: Address | None = None, kind: str | None = None, more: str = "") -> str:
    return (
        f'[toxiproxy]\nurl = "{dependency.proxy.url}"\n[dependencies.one]\nkind = "{kind or dependency.kind}"\n'
        f'proxy = "{dependency.proxy.name}"\ndirect = "{direct or dependency.direct}"\n{more}'
    )


@pytest.mark.parametrize("kind", ["redis", "tcp"])
def test_a_direct_address_that_is_the_proxys_own_is_refused(tmp_path: Path, cache: Dependency, kind: str) -> None:
    found = looked(tmp_path, table(cache, direct=cache.path, kind=kind))
    assert f"one.direct: {cache.path} is where the proxy {cache.proxy.name} itself listens" in trouble(found, "one")
    assert str(cache.direct) in trouble(found, "one"), "it says where that proxy leads"


def test_a_probe_that_is_not_answered_is_refused(tmp_path: Path, cache: Dependency) -> None:
    found = looked(tmp_path, table(cache, kind="tcp", more='probe_send = ""\n'))
    assert "one.probe_send: one takes it" in trouble(found, "one") and "does not answer" in trouble(found, "one")
    well = looked(tmp_path, table(cache, kind="tcp", more='probe_send = "PING\\r\\n"\n'))
    assert [part.trouble for part in well.parts if part.name == "one"] == [None]


def test_a_sentinel_is_no_redis(tmp_path: Path) -> None:
    with Ports() as ports:
        port = ports.take()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n")
    with subprocess.Popen(
        [str(valkey.binary()), str(config), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as sentinel:
        try:
            end = time.monotonic() + 30
            while True:
                with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                assert time.monotonic() < end
                time.sleep(0.02)
            found = looked(tmp_path, f'[dependencies.one]\nkind = "redis"\ndirect = "127.0.0.1:{port}"\n')
        finally:
            sentinel.kill()
    assert f"a Redis Sentinel answers at 127.0.0.1:{port}" in trouble(found, "one")


class _Http(socketserver.StreamRequestHandler):
    """As gunicorn answers what is no HTTP."""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("at", ["direct", "path"])
def test_a_web_server_is_no_redis(tmp_path: Path, cache: Dependency, at: str) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Http) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        web = Address("127.0.0.1", server.server_address[1])
        text = table(cache, direct=web) if at == "direct" else table(cache, more=f'path = "{web}"\n')
        said = trouble(looked(tmp_path, text), "one")
        server.shutdown()
    assert f"at {web}: what answers does not speak Redis's protocol" in said, said


def test_a_forbidden_list_of_clients_is_named(tmp_path: Path, cache: Dependency) -> None:
    import redis

    assert cache.direct is not None
    with redis.Redis(host=cache.direct.host, port=cache.direct.port) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-client|list")
        try:
            found = looked(tmp_path, table(cache))
        finally:
            admin.execute_command("ACL", "SETUSER", "default", "+client|list")
    (note,) = [note for note in found.notes if note.startswith("one:")]
    assert "may not ask CLIENT LIST" in note and "+client|list" in note


def test_a_database_without_an_administrator_is_named(tmp_path: Path, db: Dependency) -> None:
    found = looked(tmp_path, table(db, more=f'login = "{db.credentials.login}"\n'))
    (note,) = [note for note in found.notes if note.startswith("one:")]
    assert "no `admin` is declared" in note
    assert next(one for one in found.dependencies if one.name == "one").pooled is False


def test_an_assumed_path_is_known_to_be_assumed(tmp_path: Path, cache: Dependency) -> None:
    found = looked(tmp_path, table(cache, more='path = "assumed"\n'))
    (one,) = [one for one in found.dependencies if one.name == "one"]
    assert one.path_assumed and one.path == cache.path, "probes still go where the proxy listens"
    assert any("assumed" in note for note in found.notes)


class Pooler(socketserver.BaseRequestHandler):
    """An imitation of PgBouncer, as far as it is told apart by: it passes everything on and gives the client a cancel
    key of its own."""

    upstream = Address("127.0.0.1", 1)

    def handle(self) -> None:
        with socket.create_connection((self.upstream.host, self.upstream.port)) as server:
            threading.Thread(target=self._requests, args=(server,), daemon=True).start()
            data = b""
            with suppress(OSError):
                while block := server.recv(65536):
                    data += block
                    # BackendKeyData: K, its length, the process, the key.
                    at = data.find(b"K" + struct.pack(">i", 12))
                    if at >= 0 and len(data) >= at + 13:
                        data = data[: at + 5] + struct.pack(">i", 2**30 + 7) + data[at + 9 :]
                    self.request.sendall(data)
                    data = b""
                self.request.shutdown(socket.SHUT_RDWR)

    def _requests(self, server: socket.socket) -> None:
        with suppress(OSError):
            while block := self.request.recv(65536):
                server.sendall(block)
            server.shutdown(socket.SHUT_WR)


@contextmanager
def pooled(upstream: Address) -> Iterator[Address]:
    Pooler.upstream = upstream
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Pooler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield Address("127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_pooler_before_the_database_is_named(tmp_path: Path, db: Dependency) -> None:
    assert db.direct is not None
    with pooled(db.direct) as address:
        login = f"{db.credentials.login} gssencmode=disable"
        text = f'[dependencies.one]\nkind = "postgres"\ndirect = "{address}"\nlogin = "{login}"\n'
        found = looked(tmp_path, text)
    (note,) = [note for note in found.notes if note.startswith("one:")]
    assert "PgBouncer" in note
    assert next(one for one in found.dependencies if one.name == "one").pooled
