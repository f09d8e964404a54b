"""An engine over TCP: on this machine it may be used, on another one only where the allow-list names its host.

0.0.0.0 stands for another machine: it is no loopback address, so it needs the list, and it leads to this machine.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from small_container import docker, inspect, small

from harness.adapters.docker.context import engine_url
from harness.adapters.docker.engine import connect
from harness.fault import registered
from harness.model.errors import Refused
from harness.model.records.faults import Dependency
from harness.safety.healing.undo import Patience, undo_record
from tests.e2e.observe import HARNESS

pytestmark = pytest.mark.docker


class Relay:
    """The engine's socket, to be had at a TCP port of loopback. asked: how many connections came. paths: what for."""

    def __init__(self) -> None:
        self.asked = 0
        self.paths: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:
                return
            self.asked += 1
            far = socket.socket(socket.AF_UNIX)
            far.connect(engine_url().removeprefix("unix://"))
            threading.Thread(target=_connect, args=(near, far, self.paths), daemon=True).start()


def _connect(near: socket.socket, far: socket.socket, paths: list[str]) -> None:
    with near, far:
        with contextlib.suppress(OSError, IndexError):
            paths.append(near.recv(65536, socket.MSG_PEEK).split(b" ", 2)[1].decode())
        back = threading.Thread(target=_pass_on, args=(far, near), daemon=True)
        back.start()
        _pass_on(near, far)
        back.join()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


@pytest.fixture
def relay() -> Iterator[Relay]:
    found = Relay()
    yield found
    found.close()


def on(dependency: Dependency, url: str) -> Dependency:
    return dependency.but(container={"engine": url})


def test_a_fault_goes_through_an_engine_on_tcp_of_this_machine(relay: Relay) -> None:
    with small() as near:
        dependency = on(near, f"tcp://127.0.0.1:{relay.port}")
        fault = registered()["pause"]
        record = fault.capture(fault.plan(dependency, {}), "r1")
        fault.inject(record)
        assert inspect(str(near.container.id))["State"]["Paused"]
        assert all(item.held for item in fault.prove(record, "injected"))
        assert undo_record(record, allowed=()).state == "verified"
        assert not inspect(str(near.container.id))["State"]["Paused"]
        assert relay.asked


@pytest.mark.parametrize("kind", ["pause", "kill", "disconnect"])
def test_no_request_is_made_in_a_version_that_newer_engines_refuse(kind: str, relay: Relay) -> None:
    """Engine 29 takes none below 1.44 as it comes, though others can be set to take them."""
    with small() as near:
        dependency = on(near, f"tcp://127.0.0.1:{relay.port}")
        fault = registered()[kind]
        record = fault.capture(fault.plan(dependency, {"network": "all"} if kind == "disconnect" else {}), "r1")
        fault.inject(record)
        assert undo_record(record, allowed=()).state == "verified"
    highest = tuple(map(int, docker("version", "-f", "{{.Server.APIVersion}}").split(".")))
    used = {path.split("/")[1] for path in relay.paths} - {"version"}
    assert used and all(tuple(map(int, one[1:].split("."))) >= min(highest, (1, 44)) for one in used), used


def test_an_engine_elsewhere_is_not_asked_until_its_host_is_allowed(relay: Relay) -> None:
    url = f"tcp://0.0.0.0:{relay.port}"
    for allowed in ((), ("10.0.0.0/8",), ("example.org",)):
        with pytest.raises(Refused, match="on another machine") as refused:
            connect(url, allow_hosts=allowed)
        assert "--allow-host 0.0.0.0" in str(refused.value.hint)
    assert relay.asked == 0
    with connect(url, allow_hosts=("0.0.0.0",)) as engine:
        assert engine.info().id == docker("info", "-f", "{{.ID}}")


def test_a_record_leads_to_no_engine_elsewhere_that_was_not_allowed(relay: Relay) -> None:
    with small() as near:
        fault = registered()["pause"]
        record = fault.capture(fault.plan(near, {}), "r1")
        fault.inject(record)
        far = msgspec.structs.replace(record, dependency=on(near, f"tcp://0.0.0.0:{relay.port}"))
        outcome = undo_record(far, allowed=(), patience=Patience(limit_s=1.0))
        assert outcome.state == "unverified" and "0.0.0.0" in str(outcome.left), outcome
        assert relay.asked == 0
        assert inspect(str(near.container.id))["State"]["Paused"]
        assert undo_record(far, allowed=("0.0.0.0",)).state == "verified"


def test_the_compose_stack_needs_an_engine_on_this_machine_whatever_is_allowed(relay: Relay, tmp_path: Path) -> None:
    """What it publishes is on 127.0.0.1 of the engine's machine, so elsewhere nothing of it could be reached."""
    done = subprocess.run(
        [HARNESS, "run", "--stack", "compose", "--fault", "redis-down", "--allow-host", "0.0.0.0"],
        env={**os.environ, "DOCKER_HOST": f"tcp://0.0.0.0:{relay.port}", "XDG_STATE_HOME": str(tmp_path / "state")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert "--stack compose needs a Docker engine on this machine" in done.stderr
    assert "--stack external" in done.stderr
    assert relay.asked == 0
