"""A published port or an address that the engine chose is another one after a restart: everything follows it there."""

from __future__ import annotations

import contextlib
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from life_world import IMAGE, World, running, wait_on
from life_world import Docker as DockerCommand
from networks import ends, network, ports
from small_container import docker, inspect, made, small

from harness.adapters.docker.address import at_present, bound, record_at_present
from harness.adapters.docker.context import engine_url
from harness.adapters.docker.engine import connect
from harness.dependencies.probe import following_probe
from harness.fault import registered
from harness.model.errors import Refused
from harness.model.records.faults import Address, Credentials, Dependency, DependencyContainer, FaultSpec, UndoRecord
from harness.plan.fault_text import decode_params
from harness.safety.healing.undo import undo_record

pytestmark = pytest.mark.docker


def captured(kind: str, dependency: Dependency) -> UndoRecord:
    """As another process would read it from a file."""
    fault = registered()[kind]
    spec = FaultSpec(name=f"{dependency.name}-{kind}", dependency=dependency.name, kind=kind)
    change = fault.plan(dependency, decode_params(spec, fault.params))
    return msgspec.json.decode(msgspec.json.encode(fault.capture(change, kind)), type=UndoRecord)


@contextlib.contextmanager
def taken(port: int, *, accepts: bool = True) -> Iterator[None]:
    """Somebody else has the port, and accepts and says nothing, or refuses as a killed server does."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end = time.monotonic() + 30
        while True:
            try:
                other.bind(("127.0.0.1", port))
                break
            except OSError:  # the engine's own proxy process is still about to end
                assert time.monotonic() < end
                time.sleep(0.05)
        if accepts:
            other.listen(100)
        yield


def killed_and_back_elsewhere(dependency: Dependency, inside: str) -> int:
    """docker kill, its port taken by somebody, docker start: where it is published now."""
    container = str(dependency.container.id)
    old = int(ports(container)[inside][0])
    record = captured("kill", dependency)
    registered()["kill"].inject(record)
    with taken(old):
        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        now = int(ports(container)[inside][0])
        assert now != old
        assert any(f"is now {inside} at 127.0.0.1:{now}" in item.observed for item in outcome.evidence)
    return now


def test_the_harness_looks_where_the_container_is_now() -> None:
    with small(port=0) as dependency:
        with connect(engine_url()) as engine:
            known = bound(dependency, engine.container(str(dependency.container.id)))
        assert known.container.port == "7777/tcp"
        old = known.direct
        assert old is not None and at_present(known) == known
        now = killed_and_back_elsewhere(known, "7777/tcp")
        there = Address("127.0.0.1", now)
        followed = at_present(known)
        assert (followed.direct, followed.path) == (there, there)
        probe = following_probe(known)
        assert probe is not None and probe(5.0).ok
        # The same fault once more, from the record of before: it is proven where the server is.
        fault, record = registered()["pause"], captured("pause", followed)
        stale = msgspec.structs.replace(record, dependency=known)
        fault.inject(stale)
        assert all(item.held for item in fault.prove(record_at_present(stale), "injected"))
        assert undo_record(stale).state == "verified"
        # It is not there while it does not run, nor where no engine answers: then nothing is claimed.
        docker("kill", str(known.container.id))
        assert at_present(known) == known
        away = known.but(container={"engine": "unix:///nowhere/docker.sock"})
        assert at_present(away) == away


@pytest.mark.parametrize("publish", ["range", "all"])
def test_a_range_and_publishing_all_are_the_engine_s_choice_too(publish: str) -> None:
    name = f"harness-test-{uuid.uuid4().hex[:12]}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        first = min(free.getsockname()[1], 60000)
    try:
        if publish == "range":
            dependency = made(name, f"127.0.0.1:{first}-{first + 50}:7777")
        else:
            # On loopback only, as far as -P leaves that to anybody.
            docker("network", "create", "-o", "com.docker.network.bridge.host_binding_ipv4=127.0.0.1", name)
            dependency = made(name, "127.0.0.1::7778", "-P", "--expose", "7777", "--network", name)
            assert ports(str(dependency.container.id)).keys() == {"7777/tcp", "7778/tcp"}
        with connect(engine_url()) as engine:
            found = engine.container(str(dependency.container.id))
        (one,) = found.host_ports(7777)[:1]
        assert found.chosen_by_engine(one)
        target = msgspec.structs.replace(dependency, target=True)
        for kind in ("kill", "restart", "disconnect"):
            with pytest.raises(Refused, match="chooses another one"):
                captured(kind, target)
        assert captured("kill", dependency).dependency.container.port == "7777/tcp"
    finally:
        docker("rm", "-f", name, check=False)
        docker("network", "rm", name, check=False)


def test_a_fixed_port_is_followed_nowhere() -> None:
    with small() as dependency:
        record = captured("kill", dependency)
        assert record.dependency == dependency
        assert following_probe(dependency) is None


def test_its_own_address_is_followed_over_a_kill() -> None:
    """Not published, so it is reached at its own address, which somebody else gets while it is down."""
    with network() as (name, _), small("--network", name) as dependency:
        container = str(dependency.container.id)
        before = ends(container)[name]["ipv4"]
        own = Address(before, 7777)
        unpublished = msgspec.structs.replace(dependency, path=own, direct=own)
        record = captured("kill", unpublished)
        assert record.dependency.container.network == name
        registered()["kill"].inject(record)
        evidence = registered()["kill"].prove(record, "injected")
        assert all(item.held for item in evidence), evidence
        with small("--network", name) as other:
            assert ends(str(other.container.id))[name]["ipv4"] == before
            outcome = undo_record(record)
            assert outcome.state == "verified", outcome
            now = ends(container)[name]["ipv4"]
            assert now != before
            assert at_present(record.dependency).direct == Address(now, 7777)


@contextlib.contextmanager
def database() -> Iterator[Dependency]:
    """PostgreSQL with the application's role `app`, published at a port that the engine chose."""
    name = f"harness-test-{uuid.uuid4().hex[:12]}"
    env = ("POSTGRES_USER=harness", "POSTGRES_DB=shop", "POSTGRES_HOST_AUTH_METHOD=trust")
    words = [word for one in env for word in ("-e", one)]
    try:
        found = docker("run", "-d", "--name", name, "-p", "127.0.0.1::5432", *words, "harness-stand-in/postgres")
        port = int(ports(found)["5432/tcp"][0])
        admin = f"host=127.0.0.1 hostaddr=127.0.0.1 port={port} user=harness dbname=shop"
        end = time.monotonic() + 60
        while True:
            try:
                with psycopg.connect(admin, autocommit=True) as connection:
                    connection.execute("CREATE ROLE app LOGIN")
                    connection.execute("CREATE ROLE probe LOGIN")
                break
            except psycopg.OperationalError:
                assert time.monotonic() < end, docker("logs", found)
                time.sleep(0.1)
        at = Address("127.0.0.1", port)
        dependency = Dependency(
            name="db",
            kind="postgres",
            container=DependencyContainer(engine=engine_url(), id=found, name=name),
            credentials=Credentials(
                role="app", login="user=app dbname=shop", probe_login="user=probe dbname=shop", admin=admin
            ),
            runtime="container",
            path=at,
            direct=at,
            startable=True,
        )
        with connect(engine_url()) as engine:
            yield bound(dependency, engine.container(found))
    finally:
        docker("rm", "-f", "-v", name, check=False)


def role_limit(container: str) -> str:
    asked = "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'app'"
    return docker("exec", container, "psql", "-h", "127.0.0.1", "-U", "harness", "-d", "shop", "-qtAc", asked)


def test_a_limit_is_undone_where_the_database_is_after_it_was_killed(stand_in_images: dict[str, str]) -> None:
    """Every record of a run is written before its first fault, so those of other faults name the old port."""
    with database() as dependency:
        container = str(dependency.container.id)
        assert role_limit(container) == "-1"
        record, fault = captured("connection-limit", dependency), registered()["connection-limit"]
        now = killed_and_back_elsewhere(dependency, "5432/tcp")
        there = record_at_present(record)
        assert f"port={now}" in str(there.dependency.credentials.admin)
        fault.inject(there)
        assert role_limit(container) == "2"
        assert all(item.held for item in fault.prove(there, "injected"))
        outcome = undo_record(record, allowed=())
        assert outcome.state == "verified", outcome
        assert role_limit(container) == "-1"


class Elsewhere(World):
    """Its containers are published at ports that the engine chooses."""

    def make(self, name: str, port: int | None = None) -> None:
        code = (
            "use IO::Socket::INET; $SIG{TERM} = sub { exit 0 };"
            "my $s = IO::Socket::INET->new(Listen => 50, LocalPort => 7777, ReuseAddr => 1) or die;"
            'while (1) { my $c = $s->accept or next; my $l = <$c>; syswrite $c, "ok\\n"; close $c }'
        )
        words = ("--name", self.names[name], "--network", self.tag, "-p", "127.0.0.1::7777")
        self.docker("run", "-d", *words, IMAGE, "perl", "-e", code)


def test_a_run_goes_on_where_a_killed_container_came_back(tmp_path: Path) -> None:
    """Kill, then pause: the pause is proven and recovery is seen at the new port, though it was planned at the old."""
    with Elsewhere(tmp_path, DockerCommand(), "a") as world:
        container = world.state("a")["id"]
        old = world.port("a")
        faults = ("--fault", "a-kill@0s+5s", "--fault", "a-pause@10s+3s")
        with running(world.run(*faults, "--fault-for", "14s")) as run:
            wait_on(run, 1)
            with taken(old, accepts=False):
                assert run.end() in (0, 1, 3), run.text()
        assert world.port("a") != old
        result = run.result()
        for fault in result["faults"]:
            assert fault["proven"] is True and fault["undo_verified"] is True, (fault, run.text())
        zeros: list[dict[str, Any]] = [event for event in run.events() if event["event"] == "zero"]
        assert [event["source"] for event in zeros] == ["probe"] * len(zeros) and zeros, run.text()
        state = inspect(container)["State"]
        assert state["Running"] and not state["Paused"]
