"""The engine itself goes away and comes back while a fault is on. Each test starts a dockerd of its own."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from life_world import OwnEngine, World, healed_after, running, wait_on

from tests.e2e.life import state_folders
from tests.e2e.observe import wait_until

pytestmark = pytest.mark.docker


@pytest.mark.thorough
def test_an_engine_that_is_restarted_mid_fault_with_live_restore(tmp_path: Path) -> None:
    """Containers go on while it is away; the pause is undone when it is back."""
    with OwnEngine(live_restore=True) as engine, World(tmp_path, engine.docker, "a") as world:
        before = world.states()
        with running(world.run("--fault", "a-pause", "--fault-for", "12s")) as run:
            wait_on(run, 1)
            engine.stop()
            engine.start()
            assert world.state("a")["paused"], "it stayed paused while its engine was away"
            code = run.end()
        assert code in (0, 1, 3), run.text()
        assert world.states() == before and world.answers("a")


def test_an_engine_that_is_killed_and_stays_away_is_named_and_healed_from_later(tmp_path: Path) -> None:
    with OwnEngine(live_restore=True) as engine, World(tmp_path, engine.docker, "a") as world:
        before = world.states()
        with running(world.run("--fault", "a-pause", "--fault-for", "60s")) as run:
            wait_on(run, 1)
            engine.stop(signal.SIGKILL)
            run.process.send_signal(signal.SIGINT)
            assert run.end() == 5, run.text()
            said = run.text()
        assert "docker unpause" in said, said
        engine.start()
        heal = world.heal()
        assert heal.returncode == 0, heal.stdout + heal.stderr
        assert world.states() == before and world.answers("a")
        assert not state_folders(tmp_path / "state")


def test_the_keeper_of_a_killed_run_waits_for_an_engine_that_comes_back(tmp_path: Path) -> None:
    with OwnEngine(live_restore=True) as engine, World(tmp_path, engine.docker, "a") as world:
        before = world.states()
        with running(world.run("--fault", "a-pause", "--fault-for", "60s")) as run:
            wait_on(run, 1)
            engine.stop(signal.SIGKILL)
            run.process.kill()
            run.process.wait()
            time.sleep(1)
            engine.start()
            healed_after(world, before, time.monotonic(), 90)
            assert wait_until(lambda: not state_folders(tmp_path / "state"), 60)
        assert world.answers("a")


def test_an_engine_without_live_restore_takes_its_containers_along(tmp_path: Path) -> None:
    """A container that its engine has ended is started again when the fault on it is undone, or it is named."""
    with OwnEngine(live_restore=False) as engine, World(tmp_path, engine.docker, "a") as world:
        before = world.states()
        with running(world.run("--fault", "a-kill", "--fault-for", "12s")) as run:
            wait_on(run, 1)
            engine.stop()
            engine.start()
            code = run.end()
        assert code in (0, 1, 3), run.text()
        assert world.states() == before and world.answers("a")
