"""Load goes to the target and to hosts that are allowed; a request to any other is a failure, and no packet leaves."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from load_run import CLOSED, Run, make_plan, named
from load_target import Target
from remote_run import Worker, remote_plan

from harness.load.allowed_hosts.rule import Hosts, checked_here
from harness.model.errors import Refused, UsageError
from harness.model.records.load import LoadPlan
from harness.model.records.windows import ErrorRow

CLIENTS = ("Fast", "Lean", "Plain")
HEAD = """
from locust import FastHttpUser, HttpUser, constant, task
from harness.load.lean import LeanHttpUser
"""
USER = """
class NAME(KIND):
    wait_time = constant(0.1)
    host = "http://127.0.0.2:1"
OWN
    @task
    def go(self):
        self.client.get("WHERE", name="NAME", allow_redirects=True)

    @task
    def own(self):
        self.client.get("/ok", name="ok")
"""
KINDS = {"Fast": "FastHttpUser", "Lean": "LeanHttpUser", "Plain": "HttpUser"}


@pytest.fixture(scope="module")
def target() -> Iterator[Target]:
    server = Target().start()
    yield server
    server.stop()


class Bystander:
    """Somebody else's service on 127.0.0.2: counts who connects, and answers."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.2", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    def close(self) -> None:
        self._socket.close()


@contextmanager
def bystander() -> Iterator[Bystander]:
    found = Bystander()
    try:
        yield found
    finally:
        found.close()


def locustfile(folder: Path, where: str, own: str = "") -> Path:
    users = [USER.replace("NAME", name).replace("KIND", kind) for name, kind in KINDS.items()]
    file = folder / "users.py"
    file.write_text(HEAD + "".join(users).replace("OWN", own).replace("WHERE", where))
    return file


def plan_for(file: Path, url: str, **changes: object) -> LoadPlan:
    return make_plan(file, url, classes=named(*CLIENTS), users=6, **{**CLOSED, **changes})


def test_a_whole_url_to_another_host_fails_with_a_clear_line_and_sends_nothing(target: Target, tmp_path: Path) -> None:
    with bystander() as other:
        file = locustfile(tmp_path, f"http://127.0.0.2:{other.port}/x")
        with Run(plan_for(file, target.url), tmp_path) as run:
            run.go(2)
            requests = run.requests()
            for client in CLIENTS:
                assert requests[client].ok == 0 and run.errors()["exception", client] > 0, (client, requests[client])
            assert requests["ok"].ok > 0 and ("exception", "ok") not in run.errors(), "a class's own host is not used"
            texts = {row.example for row in run.rows() if isinstance(row, ErrorRow)}
            assert all(
                "127.0.0.2 is no host of this run" in text and "--allow-host 127.0.0.2" in text for text in texts
            )
        assert other.connections == 0


@pytest.mark.parametrize("allowed", ["127.0.0.2", "127.0.0.0/8"])
def test_an_allowed_host_is_loaded_too(target: Target, tmp_path: Path, allowed: str) -> None:
    with bystander() as other:
        file = locustfile(tmp_path, f"http://127.0.0.2:{other.port}/x")
        with Run(plan_for(file, target.url, allow_hosts=(allowed,)), tmp_path) as run:
            run.go(2)
            assert run.errors() == {}
            assert all(run.requests()[client].ok > 0 for client in CLIENTS)
        assert other.connections > 0


def test_the_target_by_another_of_its_names_is_the_target(target: Target, tmp_path: Path) -> None:
    file = locustfile(tmp_path, f"http://localhost:{target.port}/ok")
    with Run(plan_for(file, target.url), tmp_path) as run:
        run.go(1.5)
        assert run.errors() == {}
        assert all(run.requests()[client].ok > 0 for client in CLIENTS)


def test_a_users_own_host_is_held_to_the_rule(target: Target, tmp_path: Path) -> None:
    with bystander() as other:
        own = f"""
    def __init__(self, *args):
        self.host = "http://127.0.0.2:{other.port}"
        super().__init__(*args)
"""
        file = locustfile(tmp_path, "/x", own)
        with Run(plan_for(file, target.url), tmp_path) as run:
            run.go(1.5)
            assert {client for kind, client in run.errors() if kind == "exception"} >= set(CLIENTS)
        assert other.connections == 0


def test_a_redirect_to_an_allowed_host_is_followed(tmp_path: Path) -> None:
    # `/away` leads to 127.0.0.2, on the port of the target.
    target = Target().start()
    file = locustfile(tmp_path, "/away")
    target.modes["/away"] = "away"
    try:
        with Run(plan_for(file, target.url), tmp_path) as run:
            run.go(1.5)
            assert {kind for kind, name in run.errors() if name in CLIENTS} == {"protocol"}
        folder = tmp_path / "allowed"
        folder.mkdir()
        with Run(plan_for(file, target.url, allow_hosts=("127.0.0.2",)), folder) as run:
            run.go(1.5)
            # Nothing listens there.
            assert {kind for kind, name in run.errors() if name in CLIENTS} == {"refused"}
    finally:
        target.stop()


def test_the_rule_is_about_hosts_so_a_redirect_to_another_port_of_the_target_is_followed(tmp_path: Path) -> None:
    target, beside = Target().start(), Target().start()
    file = locustfile(tmp_path, "/moved")
    target.modes["/moved"] = f"port {beside.port}"
    try:
        with Run(plan_for(file, target.url), tmp_path) as run:
            run.go(1.5)
            assert run.errors() == {}
            assert all(run.requests()[client].ok > 0 for client in CLIENTS)
        assert beside.counts["/there"] > 0
    finally:
        target.stop()
        beside.stop()


def test_which_hosts_are_the_runs() -> None:
    rule = Hosts("http://127.0.0.1:8000")
    assert [h for h in ("127.0.0.1", "localhost", "LOCALHOST.", "[::1]") if rule.refuses(h)] == []
    for host in ("127.0.0.2", "127.1", "0x7f000001", "2130706433", "10.0.0.7", "169.254.169.254", "example.com", ""):
        assert rule.refuses(host), host
    rule = Hosts("http://Shop.Example:8000", ("10.0.0.7", "10.0.0.8"), ("10.1.0.0/16", "localhost"))
    assert [h for h in ("shop.example", "10.0.0.7", "10.0.0.8", "10.1.2.3", "localhost") if rule.refuses(h)] == []
    assert [h for h in ("10.0.0.9", "10.2.0.1", "127.0.0.1", "other.example.invalid") if not rule.refuses(h)] == []
    assert rule.pinned["shop.example"] == ("10.0.0.7", "10.0.0.8")


def test_a_name_under_an_allowed_network_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()

    def look_up(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        asked[host] += 1
        found = {"in.example": ["10.1.0.5"], "half.example": ["10.1.0.5", "10.2.0.5"]}[host]
        return [(2, 1, 6, "", (address, 0)) for address in found]

    monkeypatch.setattr("harness.load.allowed_hosts.rule.socket.getaddrinfo", look_up)
    rule = Hosts("http://127.0.0.1:8000", (), ("10.1.0.0/16",))
    assert rule.refuses("in.example") is None and rule.refuses("in.example") is None
    assert asked["in.example"] == 1 and rule.pinned["in.example"] == ("10.1.0.5",)
    assert rule.refuses("half.example"), "each of its addresses must be allowed"
    nobody = Hosts("http://127.0.0.1:8000", (), ("shop.example",))
    assert nobody.refuses("in.example") and asked["in.example"] == 1, "and nobody is asked about other names"


@pytest.mark.parametrize(
    ("host", "addresses", "allow", "kept"),
    [
        ("http://127.0.0.1:8000", (), (), ("127.0.0.1",)),
        ("http://127.0.0.1:8000", ("8.8.8.8",), (), ("127.0.0.1",)),
        ("http://shop.invalid:8000", ("10.0.0.7",), (), ("10.0.0.7",)),
        ("http://shop.invalid:8000", ("8.8.8.8",), (), None),
        ("http://shop.invalid:8000", ("10.0.0.7", "8.8.8.8"), (), None),
        ("http://shop.invalid:8000", ("169.254.169.254",), (), None),
        ("http://shop.invalid:8000", ("8.8.8.8",), ("shop.invalid",), ("8.8.8.8",)),
        ("http://shop.invalid:8000", ("8.8.8.8",), ("8.8.8.0/24",), ("8.8.8.8",)),
        ("http://shop.invalid:8000", ("nonsense",), (), None),
        ("http://8.8.8.8:8000", ("10.0.0.7",), (), None),
    ],
)
def test_a_worker_checks_the_addresses_that_a_master_names(
    host: str, addresses: tuple[str, ...], allow: tuple[str, ...], kept: tuple[str, ...] | None
) -> None:
    plan = make_plan(Path("x.py"), host, classes=named("A"), addresses=addresses, allow_hosts=("0.0.0.0/0",))
    if kept is None:
        with pytest.raises(UsageError):
            checked_here(plan, allow)
        return
    checked = checked_here(plan, allow)
    assert (checked.addresses, checked.allow_hosts) == (kept, allow), "what the master allows is allowed there alone"
    assert issubclass(Refused, UsageError)


def test_a_worker_that_is_sent_to_a_public_address_refuses(target: Target, tmp_path: Path) -> None:
    file = locustfile(tmp_path, "/ok")
    host = f"http://shop.invalid:{target.port}"
    plan = remote_plan(file, host, classes=named(*CLIENTS), addresses=("192.0.2.1",), wait_s=15.0, **CLOSED)
    with Run(plan, tmp_path) as run, Worker(plan, tmp_path) as worker:
        assert worker.end(60) == 2, worker.text
        assert "neither loopback nor a private address" in worker.text and "--allow-host" in worker.text
        assert not [m for m in run.messages if type(m).__name__ == "Ready"]


def test_the_plan_carries_what_is_allowed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness.cli", "plan"]
    harness = Path(sys.executable).parent / "harness"
    command = [str(harness), "plan", "--fault", "none", "--host", "http://127.0.0.1:1", "--json"]
    done = subprocess.run([*command, "--allow-host", "10.0.0.9"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert msgspec.json.decode(done.stdout)["load"]["allow_hosts"] == ["10.0.0.9"]
