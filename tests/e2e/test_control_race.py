"""Two runs that start at the same moment: exactly one goes on, the other names it and touches nothing."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.e2e.life import BRIEF, state_folders
from tests.e2e.observe import Run, proxies, wait_until
from tests.e2e.own_system import OwnSystem

pytestmark = [pytest.mark.stack, pytest.mark.slow]

TRIES = 5


def started(run: Run) -> bool:
    return any(event["event"] == "phase" for event in run.events())


@pytest.mark.thorough
@pytest.mark.timeout(400)
def test_of_two_runs_started_at_the_same_moment_exactly_one_goes_on(tmp_path: Path) -> None:
    """In turn with one state folder, as on one machine, and with two, as from two machines on one Toxiproxy."""
    folder = tmp_path / "own"
    folder.mkdir()
    own = OwnSystem(folder)
    try:
        before = proxies(own.toxiproxy)
        for number in range(TRIES):
            one_race(own, tmp_path / f"try{number}", machines=2 if number % 2 == 0 else 1)
            assert proxies(own.toxiproxy) == before, "neither a lock nor anything else is left"
    finally:
        own.close()


def one_race(own: OwnSystem, folder: Path, *, machines: int) -> None:
    runs = []
    states = [folder / f"state{machine}" for machine in range(machines)]
    for number in range(2):
        place = folder / f"run{number}"
        place.mkdir(parents=True)
        env = {
            **own.env,
            "HARNESS_CONFIG": str(own.folder / "harness.toml"),
            "XDG_STATE_HOME": str(states[number % machines]),
        }
        runs.append(Run(place, *BRIEF, "--fault", "redis-down", "--fault", "db-latency", env=env, shortened=True))
    try:
        assert wait_until(lambda: any(run.process.poll() is not None for run in runs), 120)
        (loser, winner) = sorted(runs, key=lambda run: run.process.poll() is None)
        assert loser.process.returncode == 2, loser.text()
        lines = loser.text().strip().splitlines()
        assert any("run" in line and str(winner.process.pid) in line for line in lines), lines
        assert not list((loser.cwd / "runs").glob("*/history.jsonl")), "it recorded nothing"
        assert wait_until(lambda: started(winner), 60), winner.text()
        time.sleep(0.2)
        assert winner.process.poll() is None, winner.text()
        winner.process.send_signal(signal.SIGINT)
        assert winner.end() == 130, winner.text()
        for state in states:
            assert wait_until(lambda state=state: not state_folders(state)), state_folders(state)
    finally:
        for run in runs:
            run.kill_group()
