"""No PASS without a sign that the application uses the path, also where nobody can be asked: real sockets, real
proxies, and clients in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
import psycopg
import pytest
import redis as redis_client
from proxied import proxied
from servers import PostgresServer, ValkeyServer

from harness.conductor import outside
from harness.conductor.paths import Paths
from harness.conductor.proofs import snapshot
from harness.fault import registered
from harness.model.faults import Address, Dependency, Evidence
from harness.model.process import ServerProcess

pytestmark = pytest.mark.stack

CLIENT = """
import socket, sys
one = socket.create_connection((sys.argv[1], int(sys.argv[2])))
print("connected", flush=True)
sys.stdin.read()
"""


@contextmanager
def application(address: Address | None) -> Iterator[subprocess.Popen[str]]:
    """Somebody else's process that keeps a connection."""
    assert address is not None
    words = [sys.executable, "-c", CLIENT, address.host, str(address.port)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        try:
            yield process
        finally:
            process.communicate()


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


def unasked(kind: str, dependency: Dependency) -> Dependency:
    """The same address as a dependency of a kind that cannot be asked who is connected."""
    return msgspec.structs.replace(dependency, name=kind, kind=kind, admin=None)


class Judged:
    """What Paths says of one fault on a dependency."""

    def __init__(self, dependency: Dependency, kind: str = "down") -> None:
        fault = registered()[kind]
        change = fault.plan(dependency, {})

        class Planned:
            id = f"{dependency.name}-{kind}-1"
            spec = type("Spec", (), {"kind": kind})

        Planned.change = change  # type: ignore[attr-defined]
        plan = type("Plan", (), {"faults": (Planned,)})
        self.evidence: list[Evidence] = []
        self.unproven: list[str] = []
        self.no_path: list[str] = []
        paths = Paths(
            plan,  # type: ignore[arg-type]
            registered(),
            say=lambda _: None,
            evidence=lambda fault, stage, item: self.evidence.append(item),
            not_proven=lambda fault, missing: self.unproven.append(missing),
            no_path=lambda fault, missing: self.no_path.append(missing),
        )
        paths.first_look(dependency)
        paths.prove(dependency)


@pytest.mark.parametrize("kind", ["tcp", "http", "postgres"])
def test_an_application_that_is_connected_to_the_proxy_is_seen_from_outside(cache: Dependency, kind: str) -> None:
    with application(cache.path) as process:
        found = Judged(unasked(kind, cache))
    assert not found.no_path and not found.unproven
    (evidence,) = found.evidence
    assert evidence.held and evidence.source == "path" and "1 established connection" in evidence.observed
    assert f"pid {process.pid}" in evidence.observed, "it says whose it is"


@pytest.mark.parametrize("kind", ["tcp", "http", "postgres"])
def test_an_application_that_goes_past_the_proxy_gives_no_proof(
    cache: Dependency, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "LOOK_S", 0.5)
    with application(cache.direct):
        found = Judged(unasked(kind, cache))
    assert not found.evidence and len(found.no_path) == 1
    assert str(cache.path) in found.no_path[0] and 'path = "assumed"' in found.no_path[0]
    assert ("`admin`" in found.no_path[0]) == (kind == "postgres"), "it says what would give the proof"


def test_connections_of_the_harness_itself_are_no_application(cache: Dependency) -> None:
    assert cache.path is not None
    with redis_client.Redis(host=cache.path.host, port=cache.path.port) as ours:
        ours.ping()
        seen = outside.look(unasked("tcp", cache), limit_s=0.3)
    assert not seen.ends


def test_without_the_process_of_the_proxy_a_client_on_this_machine_is_seen(cache: Dependency) -> None:
    away = msgspec.structs.replace(unasked("tcp", cache), proxy_pid=None)
    assert not outside.look(away, limit_s=0.3).ends
    with application(cache.path):
        assert len(outside.look(away, limit_s=5.0).ends) == 1


def test_what_the_file_assumes_is_not_looked_for(cache: Dependency) -> None:
    found = Judged(msgspec.structs.replace(unasked("tcp", cache), path_assumed=True))
    assert not found.evidence and not found.no_path and not found.unproven


def test_a_cache_whose_list_of_clients_is_forbidden_is_seen_from_outside(cache: Dependency) -> None:
    assert cache.direct is not None
    with redis_client.Redis(host=cache.direct.host, port=cache.direct.port) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-client|list")
        try:
            assert not snapshot(cache).can_tell
            with application(cache.path):
                found = Judged(cache)
        finally:
            admin.execute_command("ACL", "SETUSER", "default", "+client|list")
    assert not found.unproven and [item.held for item in found.evidence] == [True]
    assert "CLIENT LIST" in found.evidence[0].observed


def test_a_database_without_an_administrator_that_is_used_through_the_proxy(db: Dependency) -> None:
    code = f"import psycopg, sys; c = psycopg.connect({f'{db.login} host={db.path.host} port={db.path.port}'!r})"  # type: ignore[union-attr]
    words = [sys.executable, "-c", f"{code}; print(1, flush=True); sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        found = Judged(msgspec.structs.replace(db, admin=None))
        with suppress(psycopg.Error):
            process.communicate()
    assert [item.held for item in found.evidence] == [True]
    assert "no `admin` login" in found.evidence[0].observed
