"""SIGKILL of a run with a paused, a killed and a disconnected container: its keeper puts all three back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from life_world import Docker, World, healed_after, running, wait_on

from tests.e2e.life import state_folders
from tests.e2e.observe import wait_until

pytestmark = pytest.mark.docker

ALL = ("--fault", "a-pause", "--fault", "b-kill", "--fault", "c-disconnect", "--fault-for", "60s")


def test_the_keeper_puts_back_what_a_killed_run_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with World(tmp_path, Docker(), "a", "b", "c") as world:
        before = world.states()
        with running(world.run(*ALL)) as run:
            wait_on(run, 3)
            assert world.state("a")["paused"] and not world.state("b")["running"] and not world.state("c")["networks"]
            run.process.kill()
            killed = time.monotonic()
            run.process.wait()
            seconds = healed_after(world, before, killed)
            assert wait_until(lambda: not state_folders(tmp_path / "state"), 60)
        with capsys.disabled():
            print(f"\nhealed after SIGKILL of the run, seconds seen from outside: {seconds}")
        assert world.states() == before
        assert all(world.answers(name) for name in before)


def test_one_of_two_runs_on_the_same_container_is_turned_away(tmp_path: Path) -> None:
    with World(tmp_path, Docker(), "a") as world:
        before = world.states()
        with running(world.run("--fault", "a-pause", "--fault-for", "20s")) as first:
            wait_on(first, 1)
            # Its own folder for what it says, the first one's state folder, where the locks are.
            other = tmp_path / "second"
            other.mkdir()
            for name in ("harness.toml", "locustfile.py"):
                (other / name).write_text((tmp_path / name).read_text())
            state = {"XDG_STATE_HOME": str(tmp_path / "state")}
            with running(world.run("--fault", "a-kill", env=state, folder=other)) as second:
                assert second.end() == 2, second.text()
            assert world.state("a")["paused"], "the second one has touched nothing"
            first.process.send_signal(2)
            assert first.end() == 130
        assert world.states() == before
