"""Whole experiments on containers: what is harmless on the hardened API, and what finds each defect.

One stack for each defect, as `harness stack up` leaves it; the runs on it are people's runs.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.observe import HARNESS, Run
from tests.e2e.test_headline import DECIDED, INCONCLUSIVE

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.calm, pytest.mark.timeout(900)]

EVERY_CONTAINER_FAULT = """
faults:
  - {fault: redis-pause, at: 0s, for: 4s}
  - {fault: kafka-cpu, cpus: 0.05, at: 5s, for: 4s}
  - {fault: redis-kill, at: 10s, for: 4s}
  - {fault: kafka-pause, at: 16s, for: 4s}
  - {fault: redis-disconnect, at: 22s, for: 4s}
  - {fault: kafka-disconnect, at: 28s, for: 4s}
  - {fault: redis-restart, at: 38s}
"""
"""One at a time, and in turns: while one of them has a fault, the other comes back. Of the CPU time it is Kafka that is
kept short: at this load Valkey needs so little that no limit would bite."""


class Stack:
    """A compose stack of its own, with one known defect in the API or none."""

    def __init__(self, folder: Path, defect: str, images: dict[str, str]) -> None:
        self.folder = folder
        self.env = {
            **images,
            "ANOMALY_API_DEFECT": defect,
            "XDG_STATE_HOME": str(folder / "state"),
            "COMPOSE_PROJECT_NAME": f"harness-test-{uuid.uuid4().hex[:8]}",
        }
        done = self._harness("up", "--quiet")
        assert done.returncode == 0, done.stderr

    def run(self, *args: str) -> tuple[int, Run]:
        """The exit code and the run; one that says INCONCLUSIVE, because the machine was too busy to tell, is
        repeated."""
        for _ in range(3):
            place = self.folder / uuid.uuid4().hex[:8]
            place.mkdir()
            run = Run(place, "--stack", "compose", *args, env=self.env, shortened=True, every_write=True)
            try:
                code = run.end(400)
            finally:
                run.kill_group()
            if code != INCONCLUSIVE:
                break
        return code, run

    def close(self) -> None:
        done = self._harness("down", "--force")
        assert done.returncode == 0, done.stderr

    def _harness(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(HARNESS), "stack", *words, "--stack", "compose"],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=900,
        )


@pytest.fixture(scope="module")
def stack_of(
    tmp_path_factory: pytest.TempPathFactory, stand_in_images: dict[str, str]
) -> Iterator[Callable[[str], Stack]]:
    """Gives the stack with a defect ("" for none), one at a time: tests on the same one come one after the other."""
    up: dict[str, Stack] = {}

    def give(defect: str) -> Stack:
        if defect not in up:
            while up:
                up.popitem()[1].close()
            up[defect] = Stack(tmp_path_factory.mktemp("headline"), defect, stand_in_images)
        return up[defect]

    yield give
    while up:
        up.popitem()[1].close()


def proven_and_undone(run: Run) -> bool:
    return all(fault["proven"] and fault["undo_verified"] for fault in run.result()["faults"])


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param("redis-down", marks=pytest.mark.thorough),
        pytest.param("redis-hang", marks=pytest.mark.thorough),
        pytest.param("kafka-latency", marks=pytest.mark.thorough),
        pytest.param("db-connection-limit", marks=pytest.mark.thorough),
    ],
)
def test_the_hardened_service_is_not_accused(stack_of: Callable[[str], Stack], fault: str) -> None:
    code, run = stack_of("").run("--fault", fault, *DECIDED)
    assert code == 0, run.text()
    assert proven_and_undone(run)


def test_no_container_fault_hurts_the_hardened_service(stack_of: Callable[[str], Stack]) -> None:
    stack = stack_of("")
    file = stack.folder / "containers.yaml"
    file.write_text(f"scenario: target\n{EVERY_CONTAINER_FAULT}")
    code, run = stack.run(str(file), *DECIDED[2:])
    assert code == 0, run.text()
    assert len(run.result()["faults"]) == 7 and proven_and_undone(run)


def test_the_target_itself_is_missed_and_comes_back(stack_of: Callable[[str], Stack]) -> None:
    code, run = stack_of("").run("--fault", "api-pause", *DECIDED, "--hold", "15s")
    assert code == 1, run.text()
    recovery = run.result()["recovery"]
    # All that the pause has held back comes at once; where that was too much for the generator, it says so.
    blind = recovery["outcome"] == "undecided" and run.result()["generator"]["saturated"]
    assert proven_and_undone(run) and (recovery["outcome"] == "recovered" or blind), recovery


@pytest.mark.parametrize(
    ("defect", "fault"),
    [
        pytest.param("no-fallback", "redis-down", marks=pytest.mark.thorough),
        pytest.param("no-fallback", "redis-kill", marks=pytest.mark.thorough),
        pytest.param("no-timeout", "redis-hang", marks=pytest.mark.thorough),
        pytest.param("no-timeout", "redis-pause", marks=pytest.mark.thorough),
        pytest.param("no-timeout", "redis-disconnect", marks=pytest.mark.thorough),
        pytest.param("sync-kafka", "kafka-latency", marks=pytest.mark.thorough),
        pytest.param("sync-kafka", "kafka-pause", marks=pytest.mark.thorough),
        pytest.param("small-pool", "db-connection-limit", marks=pytest.mark.thorough),
        pytest.param("small-pool", "db-cpu:cpus=0.02", marks=pytest.mark.thorough),
    ],
)
def test_the_defect_is_found(stack_of: Callable[[str], Stack], defect: str, fault: str) -> None:
    code, run = stack_of(defect).run("--fault", fault, *DECIDED)
    assert code == 1, run.text()
    assert proven_and_undone(run)
    broken = [t for t in run.result()["targets"] if t["outcome"] == "broken" and t["primary"]]
    assert any(t["phase"] == "fault" and t["observed"] is not None for t in broken), broken
    assert not any(t["phase"] == "baseline" for t in broken), broken
