"""Faults of a plain TCP dependency: what shows without a word of its protocol, and what needs one."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from harness.dependencies.probe import path_probe
from harness.fault import registered
from harness.model.errors import Refused
from harness.model.records.faults import Address, Dependency, DependencyProxy
from harness.model.records.process import ServerProcess
from harness.stack.starting.ports import Ports
from harness.testing import assert_held, change_for
from tests.support.servers.proxied import outside, raw

pytestmark = pytest.mark.stack


class Talker(socketserver.BaseRequestHandler):
    """Greets, then answers each line with `yes`, as a mail server does."""

    greeting = b"220 ready\r\n"

    def handle(self) -> None:
        try:
            self.request.sendall(self.greeting)
            while self.request.recv(1000):
                self.request.sendall(b"yes\r\n")
        except OSError:
            pass


class Listener(Talker):
    greeting = b""


@contextmanager
def behind(toxiproxy: str, process: ServerProcess, handler: type[Talker], probe: str | None) -> Iterator[Dependency]:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    with Ports() as ports:
        listen = Address("127.0.0.1", ports.take())
        upstream = f"127.0.0.1:{server.server_address[1]}"
        name = f"tcp{listen.port}"
        raw(f"{toxiproxy}/proxies", "POST", {"name": name, "listen": str(listen), "upstream": upstream})
    try:
        yield Dependency(
            name="payments",
            kind="tcp",
            proxy=DependencyProxy(url=toxiproxy, name=name, pid=process.pid),
            proxied=True,
            path=listen,
            probe_send=probe,
        )
    finally:
        raw(f"{toxiproxy}/proxies/{name}", "DELETE")
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("kind", ["down", "reset", "slow-close"])
@pytest.mark.parametrize("probe", [None, "", "hello\n"])
def test_what_shows_in_how_a_connection_ends(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, kind: str, probe: str | None
) -> None:
    handler = Listener if probe == "hello\n" else Talker
    with behind(toxiproxy_server, toxiproxy_process, handler, probe) as dependency:
        keeps_the_contract(dependency, kind)


@pytest.mark.parametrize("kind", ["latency", "hang"])
@pytest.mark.parametrize("direction", ["down", "both"])
@pytest.mark.parametrize("probe", ["", "hello\n"])
def test_what_shows_in_an_answer(
    toxiproxy_server: str, toxiproxy_process: ServerProcess, kind: str, direction: str, probe: str
) -> None:
    handler = Listener if probe else Talker
    with behind(toxiproxy_server, toxiproxy_process, handler, probe) as dependency:
        if direction != "down" and not probe:
            with pytest.raises(Refused, match="payments speaks first"):
                change_for(registered()[kind], dependency, direction=direction)
            return
        keeps_the_contract(dependency, kind, direction=direction)


def keeps_the_contract(dependency: Dependency, kind: str, **params: str) -> None:
    fault = registered()[kind]
    before = outside(dependency)
    change = change_for(fault, dependency, **params)
    record = fault.capture(change, "r")
    assert not all(item.held for item in fault.prove(record, "injected")), "proven although it is not on"
    try:
        fault.inject(record)
        assert_held(fault.prove(record, "injected"))
        assert_held(fault.prove(record, "held"))
        probed = path_probe(dependency)(1.0)
        normal = probed.ok and probed.seconds < float(str(record.healthy["good_below_s"]))
        assert change.blind_probe or not normal
    finally:
        fault.undo(record)
    assert_held(fault.verify_undone(record))
    assert outside(dependency) == before


def test_a_server_that_does_not_answer_what_is_declared_is_refused_before_the_fault(
    toxiproxy_server: str, toxiproxy_process: ServerProcess
) -> None:
    from harness.dependencies.probe import path_probe

    with behind(toxiproxy_server, toxiproxy_process, Listener, "") as dependency:
        result = path_probe(dependency)(0.3)
        assert result.error_kind == "timeout" and result.connected
        assert path_probe(msgspec.structs.replace(dependency, probe_send="x\n"))(5.0).detail == "answered"
