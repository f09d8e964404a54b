"""What every kind of dependency promises, written once. DependencyContract is a class for pytest to collect."""

from __future__ import annotations

import math
import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import msgspec

from harness.adapters.wire.exchange import ProbeError
from harness.config.file import DependencyTable
from harness.dependencies.counters import Counters
from harness.dependencies.kind import DependencyKind, PathClient
from harness.dependencies.probe import Mover, path_probe
from harness.dependencies.registry import kinds
from harness.model.errors import HarnessError
from harness.model.records.faults import Address, Dependency

ANSWERS_WITHIN_S = 10.0
GIVES_UP_S = 0.5
LATE_S = 3.0
"""How much later than its deadline a probe may end on a busy machine."""
SEEN_WITHIN_S = 10.0
SIZES = (1_000, 50_000)


class DependencyContract:
    """Base class of a test class: give it a kind and a fixture `dependency`, and pytest runs the contract.

    kind: the object behind the entry point, whose package has to be installed. The fixture returns a Dependency with
    its addresses, on a real server. application: an open connection of a client such as the application has, as a
    context manager; it is asked for where the kind says that its server tells who is connected.
    """

    kind: DependencyKind

    def application(self, dependency: Dependency) -> AbstractContextManager[object]:
        """Connected to the dependency's path, under a name of its own, and used once before it is entered."""
        raise NotImplementedError(f"{type(self).__name__} has to say how a client connects: application()")

    def test_it_describes_itself(self) -> None:
        assert_kind_described(self.kind)

    def test_a_probe_tells_an_answer_from_none(self, dependency: Dependency) -> None:
        assert_probes(self.kind, dependency)

    def test_bytes_are_moved(self, dependency: Dependency) -> None:
        if self.kind.moves_bytes:
            assert_moves(dependency)

    def test_counters_are_numbers_that_go_on(self, dependency: Dependency) -> None:
        if self.kind.countable(dependency):
            assert_counts(dependency)

    def test_it_is_looked_at_before_a_run(self, dependency: Dependency) -> None:
        checked, version = self.kind.check(dependency, "dependencies.it", None, lambda _: None)
        assert checked.name == dependency.name and (version is None or version)
        assert self.kind.identity(checked) == self.kind.identity(checked), "another server each time"

    def test_who_uses_it_is_seen(self, dependency: Dependency) -> None:
        if self.kind.tells_clients(dependency) and not self.kind.clients_by_peers:
            with self.application(dependency):
                assert_sees_clients(self.kind, dependency)


def assert_kind_described(kind: DependencyKind) -> None:
    """It is registered under its name, and what it says of itself can be used."""
    assert kinds().get(kind.name) is kind, f"the entry point {kind.name!r} of harness.dependencies is another object"
    assert issubclass(kind.table, DependencyTable), f"{kind.name}: its table is no DependencyTable"
    table = msgspec.convert({"kind": kind.name, "direct": "127.0.0.1:1", "proxy": "it"}, kind.table)
    assert table.kind == kind.name
    assert kind.default_port is None or 0 < kind.default_port < 65536, f"{kind.name}: no port: {kind.default_port}"
    assert kind.images is None or re.compile(kind.images)
    assert kind.clients_by_peers <= bool(kind.total_unit), f"{kind.name}: what does its total count? total_unit"


def assert_probes(kind: DependencyKind, dependency: Dependency) -> None:
    """A server that answers, one that is away, one that is silent and one that hangs up are told apart, in time."""
    found = path_probe(dependency)(ANSWERS_WITHIN_S)
    assert found.ok, f"it does not answer: {found.detail}"
    for _ in range(3):
        assert path_probe(dependency)(ANSWERS_WITHIN_S).ok, "it answers once, and not again"
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        away = path_probe(_at(dependency, taken))(ANSWERS_WITHIN_S)
    assert (away.ok, away.error_kind, away.connected) == (False, "refused", False), f"away is told as {away}"
    if kind.silent(dependency):
        return
    with _server(answer=None) as listening:
        silent = path_probe(_at(dependency, listening))(GIVES_UP_S)
    assert (silent.ok, silent.error_kind, silent.connected) == (False, "timeout", True), f"silence is told as {silent}"
    assert silent.seconds < GIVES_UP_S + LATE_S, f"it waited {silent.seconds:.1f} s, and was given {GIVES_UP_S:g} s"
    with _server(answer=b"") as listening:
        closed = path_probe(_at(dependency, listening))(ANSWERS_WITHIN_S)
    assert not closed.ok and closed.connected and closed.error_kind in ("closed", "reset"), f"told as {closed}"


def assert_moves(dependency: Dependency) -> None:
    """In each direction, as many bytes as asked for, also on the next connection."""
    for direction in ("down", "up", "both"):
        mover = Mover(dependency, direction)
        for size in SIZES:
            moved = mover(size, ANSWERS_WITHIN_S)
            assert moved.result.ok, f"{size} bytes {direction}: {moved.result.detail}"
            enough = moved.received is None or direction == "up" or moved.received >= size
            assert enough, f"{moved.received} of {size} bytes came back"


def assert_counts(dependency: Dependency) -> None:
    """Finite numbers, of the same names each time; what is a total does not fall."""
    counters = Counters(dependency)
    try:
        first, second = _reading(counters), _reading(counters)
    finally:
        counters.close()
    assert first and set(first) == set(second), f"its counters are {sorted(first)}, then {sorted(second)}"
    assert all(math.isfinite(value) for value in second.values())
    totals = set(first) - {"clients", "lag"}
    assert all(second[name] >= first[name] for name in totals), f"a total fell: {first}, then {second}"


def assert_sees_clients(kind: DependencyKind, dependency: Dependency) -> None:
    """A client of the application is among those that it tells of, as the same one at every look."""
    until = time.monotonic() + SEEN_WITHIN_S
    seen: Sequence[PathClient] = ()
    while not seen and time.monotonic() < until:
        seen = kind.clients(dependency, (), ())
        time.sleep(0.05)
    assert seen, "a client of the application is connected, and it tells of none"
    assert {one.id for one in seen} & {one.id for one in kind.clients(dependency, (), ())}, "a client changes its id"
    assert all(one.work is not None for one in seen), "whether a client is used cannot be told: work"


def _reading(counters: Counters) -> dict[str, float]:
    """A busy machine may be late for one."""
    for _ in range(4):
        try:
            return counters.read()
        except (HarnessError, ProbeError):
            time.sleep(0.5)
    return counters.read()


def _at(dependency: Dependency, server: socket.socket) -> Dependency:
    address = Address("127.0.0.1", server.getsockname()[1])
    return msgspec.structs.replace(dependency, path=address, direct=address)


@contextmanager
def _server(*, answer: bytes | None) -> Iterator[socket.socket]:
    """Accepts connections, then says nothing (None) or sends this and hangs up."""
    stop = threading.Event()
    held: list[socket.socket] = []

    def serve(listening: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            held.append(connection)
            if answer is not None:
                connection.sendall(answer)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        try:
            yield listening
        finally:
            stop.set()
            thread.join()
            for connection in held:
                connection.close()
