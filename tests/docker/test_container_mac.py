"""MAC addresses: one that a user asked for comes back after every fault, one that the engine drew may be another one.

Engines differ. Older ones make an address from the container's IPv4 address, newer ones draw another one at every start
and every reconnect; what a user asked for belongs to the container, or to one end of it. What an engine does is looked
at here, never its version.
"""

from __future__ import annotations

import time

import msgspec
import pytest
from networks import created_like, ends, network, ports, speaks
from small_container import answers, docker, inspect, small

from harness.adapters.docker import network as docker_network
from harness.fault import Fault, registered
from harness.model.errors import Refused
from harness.model.records.faults import Address, Dependency, FaultSpec, UndoRecord
from harness.plan.fault_text import decode_params
from harness.safety.healing.undo import undo_record

pytestmark = pytest.mark.docker
ASKED = "02:42:ac:11:77:77"
KINDS = ("disconnect", "kill", "restart")


def captured(kind: str, dependency: Dependency) -> tuple[Fault, UndoRecord]:
    """As another process would read it from a file."""
    fault = registered()[kind]
    spec = FaultSpec(name=f"{dependency.name}-{kind}", dependency=dependency.name, kind=kind)
    change = fault.plan(dependency, decode_params(spec, fault.params))
    return fault, msgspec.json.decode(msgspec.json.encode(fault.capture(change, "r1")), type=UndoRecord)


def of(model: Dependency, container: str) -> Dependency:
    """A container made like the model, once it answers."""
    published = Address("127.0.0.1", int(ports(container)["7777/tcp"][0]))
    end = time.monotonic() + 60
    while not answers(published):
        assert time.monotonic() < end
        time.sleep(0.05)
    return model.but(container={"id": container, "name": ""}, path=published, direct=published)


def mac_on(container: str, name: str) -> str:
    return str(inspect(container)["NetworkSettings"]["Networks"][name]["MacAddress"])


def through(kind: str, dependency: Dependency) -> None:
    fault, record = captured(kind, dependency)
    fault.inject(record)
    outcome = undo_record(record)
    assert outcome.state == "verified", outcome
    assert undo_record(record).state == "verified"


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_the_engine_chose_is_neither_asked_for_nor_compared(kind: str) -> None:
    with network() as (name, _), small("--network", name) as dependency:
        container = str(dependency.container.id)
        before = ends(container)
        through(kind, dependency)
        assert ends(container) == before
        assert not inspect(container)["Config"].get("MacAddress"), "it is fixed for good now"


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_the_container_was_created_with_comes_back(kind: str) -> None:
    with small() as model, created_like(str(model.container.id), {"MacAddress": ASKED}) as container:
        target = msgspec.structs.replace(of(model, container), target=True)
        before = ends(container)
        assert mac_on(container, "bridge") == ASKED
        through(kind, target)
        assert mac_on(container, "bridge") == ASKED
        after = ends(container)
        # The bridge's address is the engine's choice, and others on it may have been given this one meanwhile.
        assert {**after["bridge"], "ipv4": ""} == {**before["bridge"], "ipv4": ""} and after.keys() == before.keys()
        docker("restart", "-t", "1", container)
        assert mac_on(container, "bridge") == ASKED, "and it stays over the next start"


def test_one_that_was_asked_for_on_a_further_network_comes_back() -> None:
    """No engine tells who chose it, so it is asked for in any case."""
    if not speaks("1.44"):
        pytest.skip("this engine takes a MAC address for the container only")
    with network() as (first, _), network() as (second, _), small() as model:
        both: dict[str, dict[str, str]] = {first: {}, second: {"MacAddress": ASKED}}
        with created_like(
            str(model.container.id), {"NetworkingConfig": {"EndpointsConfig": both}}, api="1.44", network=first
        ) as container:
            assert mac_on(container, second) == ASKED
            through("disconnect", of(model, container))
            assert mac_on(container, second) == ASKED


def test_where_the_engine_would_lose_it_the_container_is_not_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """From API 1.44 to 1.53 a reconnect does not give it back, and the engine does not say so."""
    monkeypatch.setattr(docker_network, "spoken", lambda engine: (1, 53))
    with small() as model, created_like(str(model.container.id), {"MacAddress": ASKED}) as container:
        with pytest.raises(Refused, match=f"MAC address {ASKED} on network bridge") as refused:
            captured("disconnect", of(model, container))
        assert "small-pause" in str(refused.value.hint)
        assert mac_on(container, "bridge") == ASKED
        captured("disconnect", model)


def test_what_a_person_types_gives_it_back_where_the_engine_takes_it_from_there() -> None:
    end = docker_network.NetworkEnd(network="shop", network_id="a" * 64, mac=ASKED, asked_mac=True, give_mac=True)
    told = docker_network.connect_command("unix:///var/run/docker.sock", "cache", end)
    assert told == f"docker network connect --mac-address {ASKED} shop cache"
    drawn = msgspec.structs.replace(end, asked_mac=False, give_mac=False)
    assert docker_network.connect_command("unix:///var/run/docker.sock", "cache", drawn) == (
        "docker network connect shop cache"
    )
