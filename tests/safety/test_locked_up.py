"""A Toxiproxy that one client which does not read has locked up: noticed soon, restarted where that can be done, and
told as a restart, never as a DELETE, where it cannot. On a real Toxiproxy and a client that really does not read."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from harness.adapters.toxiproxy.client import Toxiproxy
from harness.dependencies.configuration import load
from harness.dependencies.result import secret
from harness.fault import registered
from harness.model.errors import Silent
from harness.model.records.faults import Address, Dependency, DependencyProxy, ProxyRuntime, UndoRecord
from harness.safety.healing.undo import Patience, undo_record
from harness.stack.embedded import toxiproxy
from harness.stack.starting.ports import Ports
from tests.faults.worlds import Embedded
from tests.support.misbehaving.stuck import Flood, stuck_client
from tests.support.servers.proxied import raw

pytestmark = pytest.mark.stack

LATENCY = {"latency": 0.3, "jitter": 0.0, "direction": "down"}
WRAPPER = """
import os, pathlib, sys
pathlib.Path("toxiproxy.pid").write_text(f"{os.getpid()}\\n")
os.execv(sys.argv[1], sys.argv[1:])
"""


class Own:
    """A Toxiproxy of the user's, with a pid file and a start command in harness.toml, in front of a server that sends
    more than anybody reads. It has a second proxy, with a toxic of the user's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with Ports() as ports:
            self.port, path, other = ports.take(), ports.take(), ports.take()
        self.url = f"http://127.0.0.1:{self.port}"
        self.path, self.other = Address("127.0.0.1", path), Address("127.0.0.1", other)
        (folder / "start.py").write_text(WRAPPER)
        program = str(toxiproxy.ensure(lambda _: None))
        argv = [sys.executable, "start.py", program, "-host", "127.0.0.1", "-port", str(self.port)]
        self.file = folder / "harness.toml"
        self.file.write_text(
            '[target]\nurl = "http://127.0.0.1:1"\n'
            f'[toxiproxy]\nurl = "{self.url}"\npid_file = "toxiproxy.pid"\nstart = {json.dumps(argv)}\n'
        )
        self.child = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while True:
            with suppress(OSError):
                raw(f"{self.url}/version")
                break
            assert time.monotonic() < end
            time.sleep(0.02)
        self.flood = Flood()
        self.make("flood", self.path)
        self.make("other", self.other)
        slow = {"name": "theirs", "type": "latency", "stream": "downstream", "attributes": {"latency": 5, "jitter": 0}}
        raw(f"{self.url}/proxies/other/toxics", "POST", slow)

    def make(self, name: str, listen: Address) -> None:
        raw(f"{self.url}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": str(self.flood.address)})

    @property
    def pid(self) -> int:
        return int((self.folder / "toxiproxy.pid").read_text())

    def dependency(self, *, runtime: bool) -> Dependency:
        found = load(self.file)
        declared = ProxyRuntime(
            pid_file=str(self.folder / "toxiproxy.pid"), start_config=found.path, start_sha256=found.sha256
        )
        return Dependency(
            name="flood",
            kind="tcp",
            proxy=DependencyProxy(name="flood", url=self.url, runtime=declared if runtime else None),
            probe_send="",
            proxied=True,
            path=self.path,
            direct=self.flood.address,
            external=True,
        )

    def proxies(self) -> Any:
        return raw(f"{self.url}/proxies")

    def close(self) -> None:
        for pid in {self.child.pid, self.pid}:
            with suppress(OSError, psutil.Error):
                os.kill(pid, signal.SIGKILL)
        self.child.wait()
        self.flood.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Own]:
    found = Own(tmp_path)
    yield found
    found.close()


@pytest.fixture
def stuck(own: Own) -> Iterator[list[socket.socket]]:
    clients: list[socket.socket] = []
    yield clients
    for one in clients:
        one.close()


def locked_up(own: Own, clients: list[socket.socket], *, runtime: bool) -> UndoRecord:
    """A latency fault that is on, and a client on its path that has stopped reading."""
    fault = registered()["latency"]
    record = fault.capture(fault.plan(own.dependency(runtime=runtime), LATENCY), "flood-latency-1")
    fault.inject(record)
    clients.append(stuck_client(own.path))
    decoded: UndoRecord = msgspec.json.decode(msgspec.json.encode(record), type=UndoRecord)
    return decoded


def test_a_toxiproxy_with_a_declared_runtime_is_restarted_with_its_proxies(
    own: Own, stuck: list[socket.socket]
) -> None:
    before, pid = own.proxies(), own.pid
    record = locked_up(own, stuck, runtime=True)
    said: list[str] = []
    began = time.monotonic()
    outcome = undo_record(record, say=said.append)
    took = time.monotonic() - began
    assert outcome.state == "verified", (outcome.left, said)
    assert any("restarting Toxiproxy" in line for line in said)
    assert own.pid != pid and own.proxies() == before, "every proxy as it was, the user's own toxic too"
    assert took < Patience().limit_s, "it does not wait out the time that an undo may take"


def test_one_that_nobody_can_restart_is_told_as_a_restart_and_never_as_a_delete(
    own: Own, stuck: list[socket.socket]
) -> None:
    record = locked_up(own, stuck, runtime=False)
    outcome = undo_record(record, patience=Patience(limit_s=4.0, clean_s=0.5))
    with pytest.raises(Silent):
        Toxiproxy(own.url, timeout_s=1.0).proxies()
    assert outcome.state == "unverified"
    told = f"{outcome.left} {outcome.mend}"
    assert f"restart Toxiproxy at {own.url}" in told and "DELETE" not in told
    assert "curl" in str(outcome.mend) and str(own.path) in str(outcome.mend) and str(own.other) in str(outcome.mend)


def test_a_changed_configuration_restarts_nothing(own: Own, stuck: list[socket.socket]) -> None:
    record = locked_up(own, stuck, runtime=True)
    pid = own.pid
    with own.file.open("a") as file:
        file.write("# somebody was here\n")
    said: list[str] = []
    outcome = undo_record(record, say=said.append, patience=Patience(limit_s=4.0, clean_s=0.5))
    assert outcome.state == "unverified" and own.pid == pid and psutil.pid_exists(pid)
    assert any("has changed since" in line for line in said)
    assert "restart Toxiproxy" in str(outcome.mend) and "DELETE" not in str(outcome.mend)


def test_a_toxiproxy_of_a_stack_of_ours_is_restarted_by_its_keeper(tmp_path: Path) -> None:
    """The stack that `harness stack up` keeps up, whoever undoes: the keeper that has Toxiproxy starts it again."""
    stack = Embedded(tmp_path)
    clients: list[socket.socket] = []
    try:
        redis = stack.dependency("redis")
        assert redis.path is not None and redis.proxy.url is not None
        before = raw(f"{redis.proxy.url}/proxies")
        fault = registered()["latency"]
        record = fault.capture(fault.plan(redis, LATENCY), "redis-latency-1")
        fault.inject(record)
        clients.append(never_reads(redis.path, secret(redis.credentials.password_env)))
        said: list[str] = []
        outcome = undo_record(record, say=said.append)
        assert outcome.state == "verified", (outcome.left, said)
        assert any("restarting Toxiproxy" in line for line in said)
        assert raw(f"{redis.proxy.url}/proxies") == before
        assert stack.dependency("redis").proxy.pid != redis.proxy.pid
    finally:
        for one in clients:
            one.close()
        stack.close()


def never_reads(path: Address, password: str | None) -> socket.socket:
    """A client of Redis that asks for far more than it reads."""
    login = f"AUTH {password}\r\n".encode() if password is not None else b""
    with socket.create_connection((path.host, path.port), timeout=30) as writer:
        writer.sendall(login + b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$1000000\r\n" + b"x" * 1_000_000 + b"\r\n")
        answers = b""
        while answers.count(b"+OK") < (2 if login else 1):
            block = writer.recv(100)
            assert block and not block.startswith(b"-"), block
            answers += block
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((path.host, path.port))
    client.sendall(login + b"GET big\r\n" * 100)
    time.sleep(3.0)
    return client
