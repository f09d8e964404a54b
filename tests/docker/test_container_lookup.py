"""Containers are found by exact name or label, and used by full ID only: on an engine that would take less."""

from __future__ import annotations

import pytest
from small_container import IMAGE, docker, inspect, small

from harness.adapters.docker.context import engine_url
from harness.adapters.docker.engine import connect
from harness.adapters.docker.errors import Conflict
from harness.adapters.docker.records import Limits
from harness.model.errors import Gone, Refused, Rejected
from tests.support.servers.ports import free_port

pytestmark = pytest.mark.docker


def test_the_beginning_of_an_id_is_taken_by_the_engine_and_not_by_us() -> None:
    with small() as dependency, connect(engine_url()) as engine:
        full = str(dependency.container.id)
        assert inspect(full[:12])["Id"] == full  # the engine would
        for short in (full[:12], full[:63], str(dependency.container.name)):
            with pytest.raises(Refused, match="full ID"):
                engine.kill(short)
        assert inspect(full)["State"]["Running"]


def test_a_container_whose_name_is_the_id_of_a_removed_one_is_left_alone() -> None:
    with small() as dependency:
        gone = str(dependency.container.id)
        docker("rm", "-f", gone)
        try:
            docker("run", "-d", "--name", gone, IMAGE, "sleep", "60")
            assert inspect(gone)["Name"] == f"/{gone}"  # the engine takes the name for an answer
            with connect(engine_url()) as engine:
                for write in (engine.pause, engine.kill, engine.start, engine.remove):
                    with pytest.raises(Gone):
                        write(gone)
            assert inspect(gone)["State"]["Status"] == "running"
        finally:
            docker("rm", "-f", gone, check=False)


def test_names_match_whole_and_labels_all() -> None:
    mark = f"harness-test={free_port()}"
    with (
        small("--label", mark, "--label", "two=2") as one,
        small("--label", mark) as other,
        connect(engine_url()) as engine,
    ):
        name = str(one.container.name)
        found = engine.find_by_name(name)
        assert found is not None and found.id == one.container.id
        for near in (name[:-1], name[1:], ".*", f"{name}x"):
            assert engine.find_by_name(near) is None
        key, _, value = mark.partition("=")
        assert {each.id for each in engine.find({key: value})} == {one.container.id, other.container.id}
        assert [each.id for each in engine.find({key: value, "two": "2"})] == [one.container.id]
        assert [each.id for each in engine.find({key: value, "two": "3"})] == []
        docker("kill", str(one.container.id))
        assert len(engine.find({key: value})) == 2  # also what does not run


def test_what_the_engine_does_in_the_wrong_state() -> None:
    with small() as dependency, connect(engine_url()) as engine:
        full = str(dependency.container.id)
        with pytest.raises((Conflict, Rejected)):
            engine.unpause(full)
        engine.pause(full)
        with pytest.raises(Conflict):
            engine.pause(full)
        engine.unpause(full)
        engine.start(full)  # it runs: nothing happens
        engine.stop(full, grace_s=0.1)
        engine.stop(full, grace_s=0.1)
        for write in (engine.kill, engine.pause):
            with pytest.raises((Conflict, Rejected)):
                write(full)
        assert engine.stats(full).cpu_stats.cpu_usage.total_usage == 0
        engine.start(full)
        assert engine.stats(full).memory_stats.limit > 0


def test_limits_that_the_sdk_has_no_argument_for_are_set() -> None:
    with small() as dependency, connect(engine_url()) as engine:
        full = str(dependency.container.id)
        engine.update(full, Limits(pids_limit=77))
        assert inspect(full)["HostConfig"]["PidsLimit"] == 77
        engine.update(full, Limits(nano_cpus=500_000_000))
        assert inspect(full)["HostConfig"]["NanoCpus"] == 500_000_000
        # NanoCpus 0 is no undo: it is taken for "not given".
        engine.update(full, Limits(nano_cpus=0))
        assert inspect(full)["HostConfig"]["NanoCpus"] == 500_000_000
