"""A process's own connections, and nobody else's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from harness.adapters.processes import sockets
from harness.model.errors import Gone
from harness.model.records.faults import Address


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "dual"])
@pytest.mark.parametrize("way", [sockets._linux, sockets._portable], ids=["linux", "portable"])
def test_both_ends_of_a_connection_are_seen(host: str, way: object) -> None:
    if way is sockets._linux and not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    assert callable(way)
    try:
        if host == "dual":
            server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        else:
            server = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError:
        pytest.skip("no IPv6 here")
    target = "127.0.0.1" if host == "dual" else host
    with server, socket.create_connection((target, server.getsockname()[1])) as client:
        accepted, _ = server.accept()
        with accepted:
            own, other = Address(*client.getsockname()[:2]), Address(*client.getpeername()[:2])
            found = way((os.getpid(),))[os.getpid()]
            assert {(own, other), (other, own)} <= found
    assert (own, other) not in way((os.getpid(),))[os.getpid()]


def test_several_processes_are_told_apart() -> None:
    code = "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with subprocess.Popen([sys.executable, "-c", code, str(port)], stdin=subprocess.PIPE) as child:
            accepted, address = server.accept()
            with accepted:
                found = sockets.connections(os.getpid(), child.pid)
                end = Address(*address)
                assert {own for own, _ in found[child.pid]} == {end}
                assert end not in {own for own, _ in found[os.getpid()]}
                child.communicate()


def test_a_process_that_ended_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    with pytest.raises(Gone):
        sockets.connections(child.pid)
