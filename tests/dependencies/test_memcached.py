"""Memcached, on the real server and through a real Toxiproxy: what it tells, what a probe leaves, which faults hold."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from harness.conductor.path_proof.clients import snapshot
from harness.dependencies.counters import Counters
from harness.dependencies.memcached import MEMCACHED
from harness.dependencies.probe import path_probe
from harness.fault import registered
from harness.model.errors import Refused, UsageError
from harness.model.records.faults import Address, Dependency, UndoRecord
from harness.model.records.process import ServerProcess
from harness.safety.healing.undo import undo_record
from harness.testing import DependencyContract, assert_fault_contract, assert_held, change_for, held, through_json
from harness.testing.fault_contract import undo_elsewhere
from tests.support.servers.caches import behind_proxy, start_memcached
from tests.support.servers.proxied import raw
from tests.support.servers.real import SubprocessLauncher, wait_until

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def launcher() -> Iterator[SubprocessLauncher]:
    launcher = SubprocessLauncher()
    yield launcher
    launcher.close()


@pytest.fixture(scope="module")
def server(launcher: SubprocessLauncher) -> tuple[Address, ServerProcess]:
    return start_memcached(launcher)


@pytest.fixture
def dependency(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, server: tuple[Address, ServerProcess]
) -> Iterator[Dependency]:
    with behind_proxy(toxiproxy_server, toxiproxy_process, server, "memcached") as found:
        yield found


def say(address: Address | None, text: str) -> list[str]:
    """Raw, and its end in order."""
    assert address is not None
    with socket.create_connection((address.host, address.port), timeout=5) as connection:
        connection.sendall(f"{text}\r\nquit\r\n".encode())
        with connection.makefile("r", newline="\r\n") as answer:
            return [line.rstrip("\r\n") for line in answer]


def stats(dependency: Dependency) -> dict[str, str]:
    return {line.split(" ")[1]: line.split(" ", 2)[2] for line in say(dependency.direct, "stats") if line != "END"}


def outside(dependency: Dependency) -> Any:
    """All that a fault may change: its proxy, and a key of the application's and any of ours."""
    keys = say(dependency.direct, "get mine harness-flush-x")
    return raw(f"{dependency.proxy.url}/proxies/{dependency.proxy.name}"), keys


class TestContract(DependencyContract):
    kind = MEMCACHED

    @contextmanager
    def application(self, dependency: Dependency) -> Iterator[None]:
        with connected(dependency.path):
            yield


@contextmanager
def connected(address: Address | None) -> Iterator[socket.socket]:
    assert address is not None
    with socket.create_connection((address.host, address.port), timeout=5) as client:
        client.sendall(b"version\r\n")
        assert client.recv(100).startswith(b"VERSION")
        yield client


def test_two_hundred_probes_leave_nothing_that_its_owner_would_notice(dependency: Dependency) -> None:
    before = stats(dependency)
    for _ in range(200):
        assert path_probe(dependency)(5.0).ok
    wait_until("every connection is gone", lambda: stats(dependency)["curr_connections"] == before["curr_connections"])
    after = stats(dependency)
    quiet = ("rejected_connections", "cmd_get", "cmd_set", "get_misses", "auth_errors", "curr_items", "conn_yields")
    assert {name: after[name] for name in quiet} == {name: before[name] for name in quiet}


def test_moving_bytes_leaves_no_key_and_moves_neither_hits_nor_misses(dependency: Dependency) -> None:
    before = Counters(dependency).read()
    fault = registered()["bandwidth"]
    for direction in ("down", "up"):
        record = fault.capture(change_for(fault, dependency, direction=direction), "r")
        fault.inject(record)
        try:
            assert_held(fault.prove(record, "injected"))
        finally:
            assert undo_record(record).state == "verified"
    after = Counters(dependency).read()
    same = ("hits", "misses", "sets", "commands")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert stats(dependency)["curr_items"] == "0"


def test_counters_are_the_server_s_own(dependency: Dependency) -> None:
    first = Counters(dependency).read()
    say(dependency.direct, "set a 0 1 1\r\nx\r\nget a\r\nget nobody-has-this")
    second = Counters(dependency).read()
    moved = {name: second[name] - first[name] for name in ("hits", "misses", "sets", "commands")}
    assert moved == {"hits": 1, "misses": 1, "sets": 1, "commands": 3}
    say(dependency.direct, "delete a")


def test_who_comes_through_the_proxy_is_told_from_who_comes_past_it_and_the_harness_is_nobody(
    dependency: Dependency,
) -> None:
    with connected(dependency.path), connected(dependency.direct) as past:
        # What this process itself has open is left out only where it asks; these two are the application's here.
        seen = snapshot(dependency)
        assert sorted(str(one.on_proxy) for one in seen.clients) == ["False", "True"]
        (beside,) = [one for one in seen.clients if one.on_proxy is False]
        assert beside.address == Address(*past.getsockname())
        time.sleep(2.2)
        past.sendall(b"version\r\n")
        assert past.recv(100)
        later = {one.id: one for one in snapshot(dependency).clients}
        for one in seen.clients:
            assert one.work is not None and later[one.id].work is not None
            rose = later[one.id].work - one.work > one.slack  # type: ignore[operator]
            assert rose == (one is beside), "only what was used counts as used"
    assert not snapshot(dependency).clients


def test_two_servers_are_told_apart_and_one_is_the_same_at_both_its_addresses(
    dependency: Dependency, launcher: SubprocessLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    checked, version = MEMCACHED.check(dependency, "dependencies.cache", None, notes.append)
    assert checked == dependency and version is not None and version.startswith("1.") and not notes
    other, _ = start_memcached(launcher)
    elsewhere = msgspec.structs.replace(dependency, direct=other)
    with pytest.raises(UsageError, match="two different servers"):
        MEMCACHED.check(elsewhere, "dependencies.cache", None, notes.append)
    # As in containers: both are process 1, started in the same second.
    monkeypatch.setattr("harness.dependencies.memcached._identity", lambda _: "pid 1 started 1")
    MEMCACHED.check(dependency, "dependencies.cache", None, notes.append)
    with pytest.raises(UsageError, match="two different servers"):
        MEMCACHED.check(elsewhere, "dependencies.cache", None, notes.append)


@pytest.mark.parametrize("option", ["-F", "-C"])
def test_one_that_cannot_be_emptied_is_refused_before_anything_is_written(
    launcher: SubprocessLauncher, option: str
) -> None:
    address, _ = start_memcached(launcher, option)
    itself = Dependency(name="cache", kind="memcached", path=address, direct=address, allow=("flush",))
    with pytest.raises(Refused, match=f"cannot be emptied: it was started with {option}"):
        registered()["flush"].capture(change_for(registered()["flush"], itself), "r")
    notes: list[str] = []
    MEMCACHED.check(itself, "dependencies.cache", None, notes.append)
    assert len(notes) == 1 and "flush is off" in notes[0]
    assert stats(itself)["cmd_set"] == "0"


@pytest.mark.parametrize("kind", ["down", "latency", "hang", "reset", "limit-data"])
def test_what_a_proxy_does_is_proven_and_undone(dependency: Dependency, kind: str) -> None:
    assert_fault_contract(registered()[kind], dependency, look=outside)


def test_flush_is_proven_while_the_application_fills_it_again(dependency: Dependency) -> None:
    say(dependency.path, "set mine 0 0 1\r\nx")
    # Nobody promises to bring back what was flushed.
    assert_fault_contract(
        registered()["flush"],
        dependency,
        look=outside,
        expected_after=lambda before, after: (before[0], ["END"]),
    )
    assert stats(dependency)["cmd_flush"] == "1"


INJECT = """
import os, signal, sys, msgspec
from harness.fault import registered
from harness.model.records.faults import UndoRecord
record = msgspec.json.decode(sys.stdin.buffer.read(), type=UndoRecord)
registered()[record.kind].inject(record)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["down", "flush"])
def test_it_is_undone_elsewhere_when_the_process_that_injected_it_was_killed(dependency: Dependency, kind: str) -> None:
    fault = registered()[kind]
    record = through_json(fault.capture(change_for(fault, dependency), "r"))
    done = subprocess.run([sys.executable, "-c", INJECT], input=msgspec.json.encode(record), timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert_held(fault.prove(record, "injected"))
    assert held(undo_elsewhere(record, {}))
    assert say(dependency.direct, f"get {record.ours.get('marker', 'x')}") == ["END"]
    assert undo_record(record).state == "verified"


def test_an_undo_that_comes_while_it_is_away_is_not_taken_for_done(launcher: SubprocessLauncher) -> None:
    address, process = start_memcached(launcher)
    itself = Dependency(name="cache", kind="memcached", path=address, direct=address)
    fault = registered()["flush"]
    record: UndoRecord = fault.capture(change_for(fault, itself), "r")
    fault.inject(record)
    os.kill(process.pid, signal.SIGKILL)
    wait_until("it is gone", lambda: not path_probe(itself)(1.0).ok)
    assert not held(fault.verify_undone(record))


def test_whoever_ends_it_empties_it_and_says_so() -> None:
    own: dict[str, Any] = {"runtime": "process", "startable": True}
    ours = Dependency(name="cache", kind="memcached", **own)
    for kind in ("kill", "restart"):
        change = change_for(registered()[kind], ours)
        assert "loses_data" in change.traits and "in memory only, and is gone for good" in change.undoes
        with pytest.raises(Refused, match=f"cache-{kind} cannot be undone") as refused:
            change_for(registered()[kind], msgspec.structs.replace(ours, external=True))
        assert f'allow = ["{kind}"]' in str(refused.value.hint)
        change_for(registered()[kind], msgspec.structs.replace(ours, external=True, allow=(kind,)))
    assert "loses_data" not in change_for(registered()["pause"], ours).traits
    assert "loses_data" not in change_for(registered()["kill"], msgspec.structs.replace(ours, kind="redis")).traits
