"""Whoever dies, no runtime key is left on an Envoy: the run, its keeper, both; seen through its raw admin interface."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from harness.model.records.faults import Dependency
from harness.safety.healing.dead_run import heal_all
from tests.safety.world import gone, wait_for
from tests.support.servers.envoy import fronted, runtime, upstream
from tests.support.servers.real import SubprocessLauncher

pytestmark = pytest.mark.stack

STATUS = ["status", {"status": 503, "share": 1.0}]
DRIP = ["slow-body", {"rate": "8", "share": 0.5}]


@pytest.fixture(scope="module")
def risk(_launcher: SubprocessLauncher) -> Iterator[Dependency]:
    with upstream() as server, fronted(_launcher, server.address) as (dependency, _):
        yield dependency


def test_the_keeper_takes_the_keys_away_when_the_run_is_killed(risk: Dependency, start_run: Any) -> None:
    run = start_run(dependency=msgspec.to_builtins(risk), faults=[STATUS, DRIP])
    run.wait("injected")
    assert len(runtime(risk)) == 3
    run.kill()
    wait_for("no key left", lambda: not runtime(risk))
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    assert not run.state.exists(), "all of it was verified"


def test_the_run_takes_them_away_when_its_keeper_is_killed(risk: Dependency, start_run: Any) -> None:
    run = start_run(dependency=msgspec.to_builtins(risk), faults=[STATUS])
    run.wait("injected")
    os.kill(run.said["keeper"], signal.SIGKILL)
    assert run.wait("undone") == ["verified"]
    assert runtime(risk) == {}


def test_heal_takes_them_away_when_both_are_killed(risk: Dependency, start_run: Any, state_home: Any) -> None:
    run = start_run(dependency=msgspec.to_builtins(risk), faults=[STATUS], stop_after="inject")
    run.wait("injected")
    os.kill(run.said["keeper"], signal.SIGSTOP)  # so that it does not heal between the two
    run.kill()
    os.kill(run.said["keeper"], signal.SIGKILL)
    assert run.process.wait(30) == -signal.SIGKILL
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    assert runtime(risk) != {}
    heal_all(lambda _: None)
    assert runtime(risk) == {}
