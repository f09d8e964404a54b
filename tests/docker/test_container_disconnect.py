"""`disconnect` on a real engine: a container is off its networks, provably, and is put back exactly as it was."""

from __future__ import annotations

import msgspec
import pytest
from networks import ends, network, ports, remove
from small_container import IMAGE, again, answers, docker, inspect, small

from harness.fault import Fault, registered
from harness.model.errors import Refused, Rejected
from harness.model.records.faults import Address, Dependency, Evidence, FaultSpec, UndoRecord
from harness.plan.fault_text import decode_params
from harness.safety.healing.undo import undo_record

pytestmark = pytest.mark.docker


def fault() -> Fault:
    return registered()["disconnect"]


def captured(dependency: Dependency, **params: str) -> UndoRecord:
    """As another process would read it from a file."""
    spec = FaultSpec(name="small-disconnect", dependency="small", kind="disconnect", params=params)
    change = fault().plan(dependency, decode_params(spec, fault().params))
    return msgspec.json.decode(msgspec.json.encode(fault().capture(change, "r1")), type=UndoRecord)


def held(evidence: tuple[Evidence, ...]) -> bool:
    assert evidence
    return all(item.held for item in evidence)


def left_after_undo(record: UndoRecord) -> str:
    """What a person is told, and only that: what is left and the command that mends it."""
    outcome = undo_record(record)
    assert outcome.state == "unverified", outcome
    return f"{outcome.left} | {outcome.mend}"


def run_pasted(told: str) -> None:
    """The command after the bar, as a person pastes it."""
    for command in told.partition(" | ")[2].split(" && "):
        docker(*command.split()[1:])


def test_everything_comes_back_on_both_networks() -> None:
    with (
        network(fixed=True) as (first, prefix),
        network() as (second, _),
        network() as (other, _),
        small("--network", other) as friend,
        small("--network", second, "--network-alias", "own") as dependency,
    ):
        container = str(dependency.container.id)
        docker("network", "connect", "--ip", f"{prefix}77", "--alias", "shop", "--alias", "cart", first, container)
        options = ("--link", f"{friend.container.name}:friend", "--driver-opt", "com.example.option=7")
        docker("network", "connect", *options, other, container)
        before, published = ends(container), ports(container)
        assert len(before) == 3 and before[first]["asked"] and before[other]["links"]

        record = captured(dependency)
        assert not held(fault().prove(record, "injected"))
        fault().undo(record)  # the run may die before the injection
        assert ends(container) == before

        fault().inject(record)
        assert ends(container) == {}
        assert not any(ports(container).values())
        evidence = fault().prove(record, "held")
        assert held(evidence), evidence
        assert not held(fault().verify_undone(record))

        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        assert ends(container) == before
        assert ports(container) == published
        assert dependency.direct is not None and answers(dependency.direct)
        assert (
            docker("exec", container, "getent", "hosts", "friend").split()[0]
            == ends(str(friend.container.id))[other]["ipv4"]
        )
        # Repeated, nothing changes, though the engine would answer a second connect with an error.
        ids = [end["EndpointID"] for end in inspect(container)["NetworkSettings"]["Networks"].values()]
        assert undo_record(record).state == "verified"
        assert ids == [end["EndpointID"] for end in inspect(container)["NetworkSettings"]["Networks"].values()]


def test_both_kinds_of_fixed_addresses_come_back() -> None:
    with network(ipv6=True) as (name, prefix), small() as dependency:
        container = str(dependency.container.id)
        subnet = docker("network", "inspect", name, "-f", "{{range .IPAM.Config}}{{.Subnet}} {{end}}").split()[1]
        docker("network", "connect", "--ip", f"{prefix}9", "--ip6", subnet.replace("/64", "99"), name, container)
        before = ends(container)
        record = captured(dependency, network=name)
        fault().inject(record)
        undo_record(record)
        assert ends(container) == before
        assert before[name]["ipv6"].endswith("::99")


def test_one_network_of_two_is_chosen_by_its_exact_name() -> None:
    with network() as (second, _), small() as dependency:
        container = str(dependency.container.id)
        docker("network", "connect", second, container)
        before = ends(container)
        with pytest.raises(Refused, match="not on a network") as refused:
            captured(dependency, network=second[:-1])
        assert second in str(refused.value.hint)
        record = captured(dependency, network="bridge")
        fault().inject(record)
        assert set(ends(container)) == {second}
        # The engine publishes its ports through the network that is left: nothing is cut off, nor said to be.
        evidence = {item.source: item for item in fault().prove(record, "injected")}
        assert evidence["control"].held and not evidence["probe"].held
        assert undo_record(record).state == "verified"
        # On the engine's own bridge nobody can ask for an address: another container may have taken it meanwhile.
        after = ends(container)
        after["bridge"]["ipv4"] = before["bridge"]["ipv4"]
        assert after == before


def test_a_port_that_the_engine_chose_moves_and_that_is_told() -> None:
    with small(port=0) as dependency:
        record = captured(dependency)
        fault().inject(record)
        assert held(fault().prove(record, "held"))
        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        now = ports(str(dependency.container.id))["7777/tcp"][0]
        assert int(now) != dependency.direct.port  # type: ignore[union-attr]
        assert any(f"is now 7777/tcp at 127.0.0.1:{now}" in item.observed for item in outcome.evidence)
    with small(port=0) as dependency, pytest.raises(Refused, match="the load would not follow"):
        captured(msgspec.structs.replace(dependency, target=True))


def test_an_address_that_the_engine_chose_may_be_another_one_afterwards() -> None:
    with network() as (name, _), small("--network", name) as dependency:
        container = str(dependency.container.id)
        before = ends(container)[name]
        record = captured(dependency)
        fault().inject(record)
        with small("--network", name) as other:
            assert ends(str(other.container.id))[name]["ipv4"] == before["ipv4"]
            outcome = undo_record(record)
            assert outcome.state == "verified", outcome
            now = ends(container)[name]
            assert now["ipv4"] != before["ipv4"] and not now["asked"]
            assert any(f"at {now['ipv4']} instead of {before['ipv4']}" in item.observed for item in outcome.evidence)


def test_a_fixed_address_that_was_taken_is_told_with_both_names_and_the_command() -> None:
    with (
        network(fixed=True) as (name, prefix),
        small() as other,
        small("--network", name, "--ip", f"{prefix}7") as dependency,
    ):
        container = str(dependency.container.id)
        before = ends(container)
        record = captured(dependency)
        fault().inject(record)
        docker("network", "connect", "--ip", f"{prefix}7", name, str(other.container.id))
        told = left_after_undo(record)
        assert str(dependency.container.name) in told and str(other.container.name) in told and f"{prefix}7" in told
        # Somebody tries by hand: the engine refuses, and lists a network that the container is not on.
        docker("network", "connect", "--ip", f"{prefix}7", name, container, check=False)
        assert name in inspect(container)["NetworkSettings"]["Networks"]
        assert held(fault().prove(record, "held"))
        assert str(other.container.name) in left_after_undo(record)
        run_pasted(told)
        assert undo_record(record).state == "verified"
        assert ends(container) == before
        assert name in ends(str(other.container.id))


def test_what_a_failed_connect_left_does_not_stop_the_undo() -> None:
    with (
        network(fixed=True) as (name, prefix),
        small() as other,
        small("--network", name, "--ip", f"{prefix}7", "--network-alias", "shop") as dependency,
    ):
        before = ends(str(dependency.container.id))
        record = captured(dependency)
        fault().inject(record)
        docker("network", "connect", "--ip", f"{prefix}7", name, str(other.container.id))
        docker("network", "connect", "--ip", f"{prefix}7", name, str(dependency.container.id), check=False)
        docker("network", "disconnect", name, str(other.container.id))
        assert undo_record(record).state == "verified"
        assert ends(str(dependency.container.id)) == before


def test_somebody_who_connected_it_meanwhile_is_left_alone() -> None:
    with network() as (name, _), small("--network", name, "--network-alias", "shop") as dependency:
        container = str(dependency.container.id)
        before = ends(container)
        record = captured(dependency)
        fault().inject(record)
        docker("network", "connect", "--alias", "other", name, container)
        mine = ends(container)
        told = left_after_undo(record)
        assert ends(container) == mine
        assert "its aliases are other instead of shop" in told
        run_pasted(told.replace("if that is as it should be, nothing is left to do; else: ", ""))
        assert undo_record(record).state == "verified"
        assert ends(container) == before
        # Connected as it was, it is a repair, and nothing is left to do.
        fault().inject(record)
        docker("network", "connect", "--alias", "shop", name, container)
        assert undo_record(record).state == "verified"


def test_somebody_who_took_it_off_another_network_or_ended_it_is_told_with_the_way_back() -> None:
    with network() as (name, _), network() as (used, _), small("--network", used) as dependency:
        container = str(dependency.container.id)
        docker("network", "connect", name, container)
        before = ends(container)
        own = Address(before[used]["ipv4"], 7777)
        record = captured(msgspec.structs.replace(dependency, path=own, direct=own), network=name)
        fault().inject(record)
        docker("network", "disconnect", used, container)
        told = left_after_undo(record)
        assert name in ends(container), "ours comes back all the same"
        assert f"somebody took it off {used}" in told
        run_pasted(told)
        assert undo_record(record).state == "verified"
        assert ends(container) == before
        fault().inject(record)
        docker("stop", "-t", "0", container)
        told = left_after_undo(record)
        assert "ended it" in told
        run_pasted(told)
        assert undo_record(record).state == "verified"
        assert ends(container) == before


def test_a_network_that_was_removed_is_told_and_the_others_come_back() -> None:
    with network() as (name, _), small() as dependency:
        container = str(dependency.container.id)
        docker("network", "connect", "--alias", "shop", name, container)
        record = captured(dependency)
        fault().inject(record)
        docker("network", "rm", name)
        told = left_after_undo(record)
        assert set(ends(container)) == {"bridge"}
        assert f"network {name} was removed" in told
        run_pasted(told)
        assert ends(container)[name]["aliases"] == ["shop"]
        # On a network that has the name of the one that is gone, as it was on that: mended.
        assert undo_record(record).state == "verified"
        docker("network", "disconnect", name, container)
        told = left_after_undo(record)
        assert "another one has its name now" in told
        run_pasted(told)
        assert undo_record(record).state == "verified"
        remove(name)


def test_a_container_that_was_made_anew_is_moot_and_one_that_was_removed_is_told() -> None:
    with network() as (name, _), small("--network", name) as dependency:
        record = captured(dependency)
        fault().inject(record)
        again(record, str(dependency.container.name), "--network", name)
        outcome = undo_record(record)
        assert outcome.state == "moot", outcome
        assert any("serves in the place" in item.expected for item in outcome.evidence)
        docker("rm", "-f", str(dependency.container.name))
        told = left_after_undo(record)
        assert str(dependency.container.name) in told and "removed while it was disconnected" in told


def test_what_is_not_as_recorded_is_not_touched() -> None:
    with network() as (name, _), small("--network", name) as dependency:
        container = str(dependency.container.id)
        record = captured(dependency)
        docker("network", "disconnect", name, container)
        with pytest.raises(Rejected, match="is not on network"):
            fault().inject(record)
        docker("network", "connect", "--alias", "new", name, container)
        with pytest.raises(Rejected, match="aliases are new"):
            fault().inject(record)
        assert ends(container)[name]["aliases"] == ["new"]
        docker("pause", container)
        with pytest.raises(Rejected, match="paused"):
            fault().inject(record)


def test_who_has_no_network_of_its_own_is_refused_with_the_reason() -> None:
    with small() as dependency:
        for mode, reason in (
            ("host", "network of its host"),
            (f"container:{dependency.container.id}", "shares the network of another"),
            ("none", "has no network"),
        ):
            name = f"{dependency.container.name}-mode"
            found = docker("run", "-d", "--network", mode, "--name", name, IMAGE, "sleep", "600")
            try:
                other = dependency.but(container={"id": found, "name": name})
                with pytest.raises(Refused, match=reason) as refused:
                    captured(other)
                assert refused.value.hint
                with pytest.raises(Refused, match=reason):
                    fault().plan(other.but(container={"network_mode": mode}), {"network": "all"})
            finally:
                docker("rm", "-f", found)
