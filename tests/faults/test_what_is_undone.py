"""An undo is what was changed, put back. What the service does afterwards is its recovery, and never a failed undo."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from harness.conductor.recovery_probe import Prober
from harness.dependencies.configuration import load
from harness.fault import registered
from harness.model.clock import monotonic
from harness.model.records.faults import Address, Dependency, DependencyProcess, UndoOutcome
from harness.safety.healing.undo import Patience, undo_record
from harness.stack.starting.ports import Ports
from harness.testing import change_for, through_json
from tests.support.servers.proxied import outside
from tests.support.servers.real import PostgresServer

pytestmark = pytest.mark.stack

QUICK = Patience(limit_s=3.0, clean_s=0.2)

SERVICE = """
import os, pathlib, socket, sys, threading, time
def answer(connection):
    while pathlib.Path("late").exists():
        time.sleep(0.05)
    connection.recv(4096)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
    connection.close()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=50)
pathlib.Path("shop.pid").write_text(f"{os.getpid()}\\n")
while True:
    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()
"""


class Shop:
    """A service under test that answers nobody while there is a file `late`: a backlog that it works through."""

    def __init__(self, folder: Path) -> None:
        with Ports() as ports:
            self.port = ports.take()
        self.folder, self.file, self.late = folder, folder / "harness.toml", folder / "late"
        (folder / "shop.py").write_text(SERVICE)
        argv = [sys.executable, "shop.py", str(self.port)]
        self.file.write_text(
            f'[target]\nname = "shop"\nurl = "http://127.0.0.1:{self.port}"\npid_file = "shop.pid"\n'
            f"start = {json.dumps(argv)}\n"
        )
        self.child = subprocess.Popen(argv, cwd=folder, start_new_session=True)
        end = time.monotonic() + 60
        while not (folder / "shop.pid").exists() or not (folder / "shop.pid").read_text().strip():
            assert time.monotonic() < end
            time.sleep(0.02)

    def dependency(self) -> Dependency:
        address = Address("127.0.0.1", self.port)
        return Dependency(
            name="shop",
            kind="http",
            process=DependencyProcess(
                pid_file=str(self.folder / "shop.pid"), start_config=str(self.file), start_sha256=load(self.file).sha256
            ),
            target=True,
            runtime="process",
            startable=True,
            external=True,
            url=f"http://{address}/",
            path=address,
            direct=address,
        )

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.folder / "shop.pid").read_text()), signal.SIGKILL)
        self.child.kill()
        self.child.wait()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    found = Shop(tmp_path)
    yield found
    found.close()


@pytest.mark.parametrize("kind", ["kill", "pause"])
def test_a_service_that_is_back_and_answers_late_is_undone_and_late(
    shop: Shop, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faults.path.health.READY_LIMIT_S", 8.0)
    fault = registered()[kind]
    record = through_json(fault.capture(change_for(fault, shop.dependency()), f"shop-{kind}-1"))
    fault.inject(record)
    shop.late.touch()
    prober = Prober(record.dependency, record)
    prober.start()
    asked = monotonic()
    outcome = undo_record(record, patience=QUICK)
    try:
        assert outcome.state == "verified", outcome.left
        assert any("how it answers is its recovery" in item.expected for item in outcome.evidence)
        zero = prober.first_good_after(asked)
        assert zero is not None, "recovery counts from where its process was back, late answers and all"
    finally:
        shop.late.unlink()
        prober.stop()


def test_a_service_that_is_restarted_and_answers_late_has_been_restarted(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faults.path.health.READY_LIMIT_S", 8.0)
    fault = registered()["restart"]
    record = through_json(fault.capture(change_for(fault, shop.dependency(), grace="100ms"), "shop-restart-1"))
    shop.late.touch()
    try:
        applied = fault.inject(record)
        assert all(item.held for item in applied.evidence), applied.evidence
        assert undo_record(record, patience=QUICK).state == "verified"
    finally:
        shop.late.unlink()


def test_a_service_that_does_not_come_back_is_not_undone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faults.path.health.READY_LIMIT_S", 1.0)
    (shop.folder / "shop.py").write_text("")
    fault = registered()["kill"]
    record = through_json(fault.capture(change_for(fault, shop.dependency()), "shop-kill-1"))
    fault.inject(record)
    outcome = undo_record(record, patience=QUICK)
    assert outcome.state == "unverified" and "does not answer" in str(outcome.left)


def fill(stack: ExitStack, conninfo: str) -> int:
    """Take every slot that this login can get, past the proxy."""
    for number in range(1000):
        try:
            held = psycopg.connect(conninfo, application_name="shop")
        except psycopg.OperationalError as error:
            assert "slots" in str(error) or "too many" in str(error), error
            return number
        stack.callback(held.close)
    raise AssertionError("it is never full")


def undone_while_full(
    kind: str, dependency: Dependency, server: PostgresServer, *, superusers: bool = False
) -> UndoOutcome:
    fault = registered()[kind]
    record = through_json(fault.capture(change_for(fault, dependency), f"db-{kind}-1"))
    with ExitStack() as slots:
        fault.inject(record)
        if kind != "connection-limit":
            assert fill(slots, f"{server.login} host={server.address.host} port={server.address.port}") > 10
        if superusers or kind == "connection-limit":
            # The application's role is limited there: whoever else has sessions fills the server as well.
            fill(slots, server.admin)
        return undo_record(record, patience=QUICK)


def words(outcome: UndoOutcome) -> str:
    return "; ".join(item.observed for item in outcome.evidence)


@pytest.mark.parametrize("kind", ["down", "latency", "hang", "connection-limit"])
def test_a_database_that_the_application_fills_after_the_undo_is_no_failed_undo(
    db: Dependency, postgres_server: PostgresServer, kind: str
) -> None:
    before = outside(db)
    outcome = undone_while_full(kind, db, postgres_server)
    assert outcome.state == "verified", outcome.left
    assert outside(db) == before
    assert "is full, so the path works" in words(outcome)
    assert "slots" in words(outcome) and "as shop" in words(outcome), "it says who holds the slots"


@pytest.mark.parametrize("kind", ["latency", "connection-limit"])
def test_not_even_an_administrator_gets_in_and_the_session_from_before_does(
    db: Dependency, postgres_server: PostgresServer, kind: str
) -> None:
    before = outside(db)
    outcome = undone_while_full(kind, db, postgres_server, superusers=True)
    assert outcome.state == "verified", outcome.left
    assert outside(db) == before and "as shop" in words(outcome)


def test_without_an_administrator_a_server_that_says_it_is_full_has_answered(
    db: Dependency, postgres_server: PostgresServer
) -> None:
    outcome = undone_while_full("down", db.but(credentials={"admin": None}), postgres_server)
    assert outcome.state == "verified", outcome.left
    assert "declare `admin`" in words(outcome)


def test_a_limit_that_is_still_on_is_not_taken_for_a_full_server(db: Dependency) -> None:
    """The refusal looks the same; the limit that reads back tells the two apart."""
    fault = registered()["connection-limit"]
    record = through_json(fault.capture(change_for(fault, db, limit="0"), "db-connection-limit-1"))
    fault.inject(record)
    try:
        assert not all(item.held for item in fault.verify_undone(record))
    finally:
        assert undo_record(record).state == "verified"


def test_a_redis_that_is_full_has_answered_too(redis: Dependency) -> None:
    fault = registered()["down"]
    record = through_json(fault.capture(change_for(fault, redis), "redis-down-1"))
    fault.inject(record)
    assert redis.direct is not None
    with socket.create_connection((redis.direct.host, redis.direct.port), timeout=5) as connection:

        def config(value: Any) -> bytes:
            connection.sendall(f"CONFIG SET maxclients {value}\r\n".encode())
            return connection.recv(100)

        connection.sendall(b"CONFIG GET maxclients\r\n")
        original = connection.recv(100).split(b"\r\n")[4].decode()
        assert config(1).startswith(b"+OK")
        try:
            outcome = undo_record(record, patience=QUICK)
        finally:
            config(original)
    assert outcome.state == "verified", outcome.left
    assert "max number of clients" in words(outcome)
