"""pause, kill and restart of containers on a real engine: they happen, are proven, and are taken back."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from networks import ends, network
from small_container import IMAGE, again, answers, docker, inspect, small

from harness.fault import Fault, registered
from harness.model.errors import Gone, Refused, Rejected, UndoUnverified
from harness.model.records.faults import Change, Dependency, Evidence, UndoRecord
from harness.safety.healing.undo import Patience, undo_record

pytestmark = pytest.mark.docker
KINDS = ("pause", "kill", "restart")


def change(kind: str, dependency: Dependency, **params: Any) -> Change:
    fault = registered()[kind]
    return fault.plan(dependency, {**({"grace": 2.0} if kind == "restart" else {}), **params})


def captured(kind: str, dependency: Dependency, **params: Any) -> tuple[Fault, UndoRecord]:
    """The fault and its record, as another process would read it from a file."""
    fault = registered()[kind]
    record = fault.capture(change(kind, dependency, **params), "r1")
    return fault, msgspec.json.decode(msgspec.json.encode(record), type=UndoRecord)


def held(evidence: tuple[Evidence, ...]) -> bool:
    assert evidence
    return all(item.held for item in evidence)


def test_a_paused_container_accepts_and_hangs_and_goes_on_afterwards() -> None:
    with small() as dependency:
        assert dependency.direct is not None
        fault, record = captured("pause", dependency)
        assert not held(fault.prove(record, "injected"))
        fault.inject(record)
        assert inspect(str(dependency.container.id))["State"]["Paused"]
        evidence = fault.prove(record, "held")
        assert held(evidence), evidence
        assert {item.source for item in evidence} == {"control", "probe"}
        assert not held(fault.verify_undone(record))
        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        assert answers(dependency.direct)
        # Repeated, it changes nothing: unpausing what runs would be an error of the engine.
        assert undo_record(record).state == "verified"


def test_a_killed_container_refuses_and_is_started_again() -> None:
    with small() as dependency:
        assert dependency.direct is not None
        fault, record = captured("kill", dependency)
        assert not held(fault.prove(record, "injected"))
        fault.inject(record)
        assert inspect(str(dependency.container.id))["State"]["Status"] == "exited"
        evidence = fault.prove(record, "held")
        assert held(evidence), evidence
        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        assert answers(dependency.direct)
        assert undo_record(record).state == "verified"


def test_a_restart_is_seen_from_outside_and_over_when_it_answers() -> None:
    with small() as dependency:
        assert dependency.direct is not None
        before = inspect(str(dependency.container.id))["State"]["StartedAt"]
        fault, record = captured("restart", dependency)
        applied = fault.inject(record)
        assert held(applied.evidence), applied.evidence
        assert answers(dependency.direct)
        assert inspect(str(dependency.container.id))["State"]["StartedAt"] != before
        assert held(fault.prove(record, "injected"))
        assert undo_record(record).state == "verified"


@pytest.mark.parametrize("policy", ["always", "unless-stopped", "on-failure"])
def test_no_restart_policy_brings_back_what_was_killed(policy: str) -> None:
    with small("--restart", policy) as dependency:
        fault, record = captured("kill", dependency)
        fault.inject(record)
        time.sleep(2.0)  # the engine's first wait before a restart is 0.1 s
        assert held(fault.prove(record, "held"))
        assert undo_record(record).state == "verified"


def test_one_that_somebody_started_while_it_was_killed_is_noticed_and_left_running() -> None:
    with small() as dependency:
        fault, record = captured("kill", dependency)
        fault.inject(record)
        docker("start", str(dependency.container.id))
        (control, *_) = fault.prove(record, "held")
        assert not control.held
        assert "running since" in control.observed
        started = inspect(str(dependency.container.id))["State"]["StartedAt"]
        assert undo_record(record).state == "verified"
        assert inspect(str(dependency.container.id))["State"]["StartedAt"] == started


def test_one_that_somebody_unpaused_is_noticed_and_left_running() -> None:
    with small() as dependency:
        fault, record = captured("pause", dependency)
        fault.inject(record)
        docker("unpause", str(dependency.container.id))
        assert not held(fault.prove(record, "held"))
        assert undo_record(record).state == "verified"


def test_one_that_ended_while_it_was_paused_is_not_started_behind_somebodys_back() -> None:
    with small() as dependency:
        fault, record = captured("pause", dependency)
        fault.inject(record)
        docker("kill", str(dependency.container.id))
        outcome = undo_record(record)
        assert outcome.state == "unverified"
        assert "exited" in str(outcome.left)
        assert outcome.mend == f"docker start {dependency.container.name}"


def test_one_that_somebody_paused_in_place_of_our_kill_is_left_paused() -> None:
    with small() as dependency:
        fault, record = captured("kill", dependency)
        docker("pause", str(dependency.container.id))
        with pytest.raises(UndoUnverified, match="is paused now"):
            fault.undo(record)
        docker("unpause", str(dependency.container.id))


@pytest.mark.parametrize("kind", ["pause", "kill"])
def test_made_anew_by_somebody_it_is_moot(kind: str) -> None:
    with small() as dependency:
        fault, record = captured(kind, dependency)
        fault.inject(record)
        new = again(record, str(dependency.container.name))
        with pytest.raises(Gone, match=new[:12]):
            fault.undo(record)
        outcome = undo_record(record)
        assert outcome.state == "moot", outcome


def test_made_anew_for_the_same_service_under_another_name_it_is_moot() -> None:
    labels = ("--label", "com.docker.compose.project=p-moot", "--label", "com.docker.compose.service=cache")
    with small(*labels, container={"project": "p-moot", "service": "cache"}) as dependency:
        fault, record = captured("kill", dependency)
        fault.inject(record)
        name = f"{dependency.container.name}-2"
        try:
            again(record, name, *labels)
            assert undo_record(record).state == "moot"
        finally:
            docker("rm", "-f", name, check=False)


def test_removed_and_not_made_anew_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faults.containers.container.REPLACED_LIMIT_S", 0.5)
    with small() as dependency:
        fault, record = captured("pause", dependency)
        fault.inject(record)
        docker("rm", "-f", str(dependency.container.id))
        assert not held(fault.prove(record, "held"))
        outcome = undo_record(record)
        assert outcome.state == "unverified"
        assert "was removed while it was paused" in str(outcome.left)


def test_a_port_that_the_engine_chose_may_change_and_that_is_told() -> None:
    with small(port=0) as dependency:
        _, record = captured("kill", dependency)
        registered()["kill"].inject(record)
        taken = dependency.direct
        assert taken is not None
        outcome = undo_record(record)
        assert outcome.state == "verified", outcome
        now = inspect(str(dependency.container.id))["NetworkSettings"]["Ports"]["7777/tcp"][0]["HostPort"]
        (ports,) = [item.observed for item in outcome.evidence if "publishes its ports" in item.expected]
        if int(now) == taken.port:
            assert ports == "as before"
        else:
            assert ports == (
                f"7777/tcp at 127.0.0.1:{taken.port} is now 7777/tcp at 127.0.0.1:{now} (the engine chose it anew)"
            )


def test_the_target_must_come_back_where_the_load_goes() -> None:
    with small(port=0) as dependency:
        target = msgspec.structs.replace(dependency, target=True)
        for kind in ("kill", "restart"):
            with pytest.raises(Refused, match="chooses another one"):
                captured(kind, target)
        assert captured("pause", target)


def test_the_target_s_path_is_its_published_port() -> None:
    with small() as dependency:
        target = msgspec.structs.replace(dependency, target=True)
        for kind in ("pause", "kill"):
            fault, record = captured(kind, target)
            fault.inject(record)
            evidence = fault.prove(record, "injected")
            assert held(evidence), evidence
            assert [item.source for item in evidence] == ["control", "path", "probe"]
            assert undo_record(record).state == "verified"


@pytest.mark.parametrize("kind", ["kill", "restart"])
def test_what_the_engine_would_remove_is_refused(kind: str) -> None:
    with small("--rm") as dependency:
        with pytest.raises(Refused, match="--rm"):
            captured(kind, dependency)
        assert inspect(str(dependency.container.id))["State"]["Running"]


@pytest.mark.parametrize("kind", ["kill", "restart", "memory"])
def test_one_in_whose_network_another_lives_is_refused(kind: str) -> None:
    """Started again it has a new network; its sidecar would stay in the old one, with nobody to tell."""
    with small("--memory", "256m") as dependency:
        params: dict[str, Any] = {"memory": 64_000_000} if kind == "memory" else {}
        sidecar = f"{dependency.container.name}-sidecar"
        try:
            docker(
                "run",
                "-d",
                "--name",
                sidecar,
                "--network",
                f"container:{dependency.container.id}",
                IMAGE,
                "sleep",
                "60",
            )
            with pytest.raises(Refused, match=rf"{sidecar} shares namespaces .*network_mode"):
                captured(kind, dependency, **params)
            assert captured("pause", dependency)
            docker("kill", sidecar)
            assert captured(kind, dependency, **params)
        finally:
            docker("rm", "-f", sidecar, check=False)


@pytest.mark.parametrize("kind", [*KINDS, "cpu", "memory"])
def test_what_is_already_paused_or_does_not_run_is_refused(kind: str) -> None:
    fault = registered()[kind]
    with small("--memory", "256m") as dependency:
        params: dict[str, Any] = {"cpu": {"cpus": 0.2}, "memory": {"memory": 64_000_000}}.get(kind, {})
        planned = change(kind, dependency, **params)
        docker("pause", str(dependency.container.id))
        with pytest.raises(Refused, match="already paused"):
            fault.capture(planned, "r1")
        docker("unpause", str(dependency.container.id))
        docker("kill", str(dependency.container.id))
        with pytest.raises(Refused, match="exited with code 137"):
            fault.capture(planned, "r1")


def test_another_container_than_the_one_that_serves_is_refused() -> None:
    with small() as right, small() as wrong:
        mixed = right.but(container={"id": wrong.container.id, "name": wrong.container.name})
        with pytest.raises(Refused, match="is not published by container"):
            captured("kill", mixed)


@pytest.mark.parametrize("text", ["small", "", "a" * 12, "A" * 64])
def test_a_record_that_holds_no_full_id_changes_nothing(text: str) -> None:
    with small() as dependency:
        fault, record = captured("pause", dependency)
        where = {**record.where, "container": text or str(dependency.container.id)[:12]}
        with pytest.raises(Refused, match="full ID"):
            fault.inject(msgspec.structs.replace(record, where=where))
        assert not inspect(str(dependency.container.id))["State"]["Paused"]


def test_one_whose_port_somebody_took_meanwhile_does_not_come_back_and_says_why() -> None:
    """Once it is free it comes back as it was; the start that failed may have taken it off its networks."""
    with network() as (name, _), small("--network", name, "--network-alias", "shop") as dependency:
        before = ends(str(dependency.container.id))
        fault, record = captured("kill", dependency)
        assert dependency.direct is not None
        fault.inject(record)
        thief = f"{dependency.container.name}-thief"
        try:
            docker("run", "-d", "--name", thief, "-p", f"{dependency.direct}:1", IMAGE, "sleep", "60")
            with pytest.raises(Rejected, match="port is already allocated"):
                fault.undo(record)
        finally:
            docker("rm", "-f", thief, check=False)
        assert undo_record(record).state == "verified"
        assert ends(str(dependency.container.id)) == before
        assert answers(dependency.direct)


def test_a_record_of_an_engine_that_does_not_answer_is_not_undone_and_says_what_to_do() -> None:
    with small() as dependency:
        fault, record = captured("pause", dependency)
        fault.inject(record)
        away = dependency.but(container={"engine": "unix:///nowhere/docker.sock"})
        outcome = undo_record(msgspec.structs.replace(record, dependency=away), patience=Patience(limit_s=0.5))
        assert outcome.state == "unverified"
        assert "no Docker engine answers at unix:///nowhere/docker.sock" in str(outcome.left)
        assert f"docker unpause {dependency.container.name}" in str(outcome.mend)
        assert undo_record(record).state == "verified"
