"""No PASS without a sign that the application uses the path, also where nobody can be asked: real sockets, real
proxies, and clients in processes of their own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
import pytest
import redis as redis_client

from harness.conductor.path_proof import outside
from harness.conductor.path_proof.evidence import snapshot
from harness.conductor.path_proof.tracker import Paths
from harness.fault import registered
from harness.model.records.faults import Address, Dependency, Evidence
from harness.model.records.process import ServerProcess
from harness.model.records.stack import StackUp, TargetInfo
from harness.testing import change_for
from tests.support.servers.proxied import proxied
from tests.support.servers.real import PostgresServer, ValkeyServer

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


SERVICE = """
import socket, subprocess, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
held = []
for line in sys.stdin:
    what, host, port = line.split()
    if what == "connect":
        held.append(socket.create_connection((host, int(port))))
    else:
        held.append(subprocess.Popen([sys.executable, "-c", sys.argv[1], host, port], stdin=subprocess.PIPE))
    print("connected", flush=True)
for one in held:
    if isinstance(one, subprocess.Popen):
        one.communicate()
"""


class Service:
    """A target in a process of its own. It connects itself, or has a child that does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        self.port = int(process.stdout.readline())
        self.info = TargetInfo(url=f"http://127.0.0.1:{self.port}")

    def connect(self, address: Address | None, how: str = "connect") -> None:
        assert address is not None and self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{how} {address.host} {address.port}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline()


@pytest.fixture
def service() -> Iterator[Service]:
    words = [sys.executable, "-c", SERVICE, CLIENT]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Service(process)
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
    return dependency.but(credentials={"admin": None}, name=kind, kind=kind)


class Judged:
    """What Paths says of one fault on a dependency."""

    def __init__(self, dependency: Dependency, kind: str = "down", target: TargetInfo | None = None) -> None:
        fault = registered()[kind]
        change = change_for(fault, dependency)

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
            up=StackUp(name="external", target=target, dependencies=(dependency,)) if target is not None else None,
        )
        paths.first_look(dependency)
        paths.prove(dependency)


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_an_application_that_is_connected_to_the_proxy_is_seen_from_outside(cache: Dependency, kind: str) -> None:
    with application(cache.path) as process:
        found = Judged(unasked(kind, cache))
    assert not found.no_path and not found.unproven
    (evidence,) = found.evidence
    assert evidence.held and evidence.source == "path" and "1 established connection" in evidence.observed
    assert f"pid {process.pid}" in evidence.observed, "it says whose it is"


FROM_PORT = """
import socket, sys
own, host, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", own))
s.connect((host, port))
print(s.getsockname()[1], flush=True)
sys.stdin.read()
"""


def test_of_two_connections_with_one_own_end_the_one_to_the_proxy_is_named(cache: Dependency) -> None:
    """The kernel gives the same port of a machine to connections that lead to different servers."""
    assert cache.path is not None

    def client(own: str, address: tuple[str, int]) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", FROM_PORT, own, address[0], str(address[1])]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with ExitStack() as cleanup:
        application = client("0", (cache.path.host, cache.path.port))
        cleanup.callback(application.communicate)
        assert application.stdout is not None
        own = application.stdout.readline().strip()
        for _ in range(3):  # in whatever order the kernel lists them
            other = cleanup.enter_context(socket.create_server(("127.0.0.1", 0)))
            stranger = client(own, other.getsockname()[:2])
            cleanup.callback(stranger.communicate)
            assert stranger.stdout is not None and stranger.stdout.readline().strip() == own
        (evidence,) = Judged(unasked("tcp", cache)).evidence
    assert f"pid {application.pid}" in evidence.observed and "1 established connection" in evidence.observed


@pytest.mark.parametrize("kind", ["tcp", "http"])
def test_an_application_that_goes_past_the_proxy_gives_no_proof(
    cache: Dependency, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "LOOK_S", 0.5)
    with application(cache.direct):
        found = Judged(unasked(kind, cache))
    assert not found.evidence and len(found.no_path) == 1
    assert str(cache.path) in found.no_path[0] and 'path = "assumed"' in found.no_path[0]


def test_connections_of_the_harness_itself_are_no_application(cache: Dependency) -> None:
    assert cache.path is not None
    with redis_client.Redis(host=cache.path.host, port=cache.path.port) as ours:
        ours.ping()
        seen = outside.look(unasked("tcp", cache), limit_s=0.3)
    assert not seen.ends


def test_without_the_process_of_the_proxy_a_client_on_this_machine_is_seen(cache: Dependency) -> None:
    away = unasked("tcp", cache).but(proxy={"pid": None})
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


@contextmanager
def session(login: str | None, at: Address | None, *, used: bool) -> Iterator[None]:
    """Somebody else's, which sends a statement twenty times a second or none."""
    assert login is not None and at is not None
    code = "import psycopg, sys, threading, time\n"
    code += (
        f"c = psycopg.connect({f'{login} host={at.host} port={at.port}'!r}, autocommit=True)\nprint(1, flush=True)\n"
    )
    code += "def use():\n    while True:\n        c.execute('SELECT 1')\n        time.sleep(0.05)\n"
    code += "threading.Thread(target=use, daemon=True).start()\n" if used else ""
    words = [sys.executable, "-c", f"{code}sys.stdin.read()"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline()
        yield
        process.communicate()


@pytest.mark.parametrize("used", [True, False])
def test_a_database_without_an_administrator_is_asked_by_the_applications_own_login(db: Dependency, used: bool) -> None:
    """A pool that is connected and idle is no use: a fault there would show nothing."""
    with session(db.credentials.login, db.path, used=used):
        found = Judged(db.but(credentials={"admin": None}))
    assert [item.held for item in found.evidence] == [used]
    assert bool(found.unproven) != used, found.unproven


def test_a_database_whose_login_is_not_the_applications_is_looked_at_from_outside(db: Dependency) -> None:
    """Of other roles PostgreSQL tells it nothing, so nobody is said to go past the proxy."""
    with session(db.credentials.probe_login, db.path, used=True):
        found = Judged(db.but(credentials={"admin": None}))
    assert [item.held for item in found.evidence] == [True]
    assert "no session of the application's own is seen" in found.evidence[0].observed


@pytest.mark.parametrize("how", ["connect", "child"])
def test_the_targets_own_connection_past_the_proxy_proves_the_contrary(
    cache: Dependency, service: Service, how: str
) -> None:
    service.connect(cache.path)
    service.connect(cache.direct, how)
    with application(cache.direct):  # a bystander's is nobody's business
        found = Judged(unasked("tcp", cache), target=service.info)
    (why,) = found.unproven
    assert "the target reaches tcp past the proxy as well: 1 connection to" in why and "python (pid" in why
    assert not found.evidence


@pytest.mark.parametrize("how", ["connect", "child"])
@pytest.mark.parametrize("declared", [False, True])
def test_the_targets_own_connection_proves_the_path(
    cache: Dependency, service: Service, how: str, declared: bool
) -> None:
    service.connect(cache.path, how)
    target = msgspec.structs.replace(service.info, pid=service.process.pid if declared else None)
    with application(cache.path) as bystander:
        found = Judged(unasked("tcp", cache), target=target)
    (evidence,) = found.evidence
    assert evidence.held and evidence.expected.startswith("the target is connected")
    assert "1 established connection of the target (python" in evidence.observed
    assert f"pid {bystander.pid}" not in evidence.observed


@pytest.mark.parametrize("declared", [False, True])
def test_a_bystanders_connection_proves_nothing_about_a_target_that_is_known(
    cache: Dependency, service: Service, declared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside, "LOOK_S", 0.5)
    target = msgspec.structs.replace(service.info, pid=service.process.pid if declared else None)
    with application(cache.path) as bystander:
        found = Judged(unasked("tcp", cache), target=target)
    assert not found.evidence and len(found.no_path) == 1
    assert f"pid {service.process.pid}) and those below it) was seen, only" in found.no_path[0]
    assert f"(pid {bystander.pid})" in found.no_path[0]
    assert 'path = "assumed"' in found.no_path[0] and "\n" not in found.no_path[0]


def test_behind_a_target_that_passes_on_whoever_is_seen_is_named(cache: Dependency, service: Service) -> None:
    """It may be a proxy or a port forwarder: then the application is another process, here or elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as behind, application(cache.path) as process:
        service.connect(Address("127.0.0.1", behind.getsockname()[1]))
        found = Judged(unasked("tcp", cache), target=service.info)
    (evidence,) = found.evidence
    assert evidence.held and f"(pid {process.pid})" in evidence.observed
    assert "that is who was seen, the target's own processes are not known" in evidence.observed


@pytest.mark.parametrize(
    "where",
    [
        TargetInfo(url="http://192.0.2.1:8000", addresses=("192.0.2.1",)),
        TargetInfo(url="http://127.0.0.1:1"),
        TargetInfo(url="http://127.0.0.1:1", engine="unix:///nowhere", containers=("a" * 64,)),
    ],
    ids=["another host", "nobody listens", "a container"],
)
def test_of_a_target_elsewhere_whoever_is_seen_is_named(cache: Dependency, where: TargetInfo) -> None:
    with application(cache.path) as process:
        found = Judged(unasked("tcp", cache), target=where)
    (evidence,) = found.evidence
    assert evidence.held and f"(pid {process.pid})" in evidence.observed
    assert "that is who was seen" in evidence.observed
