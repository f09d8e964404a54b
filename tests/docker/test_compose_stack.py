"""The compose stack from outside: the command line on one side, the docker command on the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_container import docker

from tests.e2e.observe import Run, wait_until

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

CODE = [sys.executable, "-c", "from harness.cli import main; main()"]
SHORT = ("--spawn-rate", "1000", "--warmup", "2s", "--baseline", "3s", "--fault-for", "4s", "--recovery-limit", "60s")
LOOSE = ("--target", "p95 < 60s", "--target", "error_rate < 100%", "--target", "rps >= 1% of plan")


def of_project(name: str) -> list[str]:
    label = f"label=com.docker.compose.project={name}"
    kinds = (("ps", "-aq"), ("network", "ls", "-q"), ("volume", "ls", "-q"))
    return [one for kind in kinds for one in docker(*kind, "--filter", label).split()]


def project_in(text: str) -> str:
    """The project that a run said it made."""
    return text.split("Compose project ", 1)[1].split(",", 1)[0].split()[0]


class Kept:
    """`harness stack` with a state folder and a project of its own."""

    def __init__(self, folder: Path) -> None:
        self.project = f"harness-test-{os.getpid()}"
        self.env = {"XDG_STATE_HOME": str(folder / "state"), "COMPOSE_PROJECT_NAME": self.project}

    def harness(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **self.env, **more}
        return subprocess.run([*CODE, *arguments], env=env, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    found = Kept(tmp_path)
    yield found
    found.harness("stack", "down", "--stack", "compose", "--force")
    assert of_project(found.project) == []


def test_a_stack_that_stays_up_is_shown_used_by_runs_and_taken_down(kept: Kept, tmp_path: Path) -> None:
    done = kept.harness("stack", "up", "--stack", "compose")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")
    shown = kept.harness("stack", "status", "--stack", "compose")
    until = time.monotonic() + 60
    while "starting" in shown.stdout and time.monotonic() < until:  # the engine's own health check comes every 10 s
        time.sleep(0.5)
        shown = kept.harness("stack", "status", "--stack", "compose")
    assert shown.returncode == 0, shown.stdout
    for part in ("redis", "kafka", "db", "risk", "envoy", "toxiproxy", "api"):
        assert any(line.split()[0] == part and "healthy" in line for line in shown.stdout.splitlines()), shown.stdout
    said = kept.harness("stack", "logs", "redis", "--stack", "compose", "-n", "3")
    assert said.returncode == 0 and 1 <= len(said.stdout.splitlines()) <= 3, said.stdout + said.stderr
    assert kept.harness("stack", "logs", "reddis", "--stack", "compose").returncode == 2

    # A second one of the same name is somebody else's business.
    other = {"XDG_STATE_HOME": str(tmp_path / "other")}
    refused = kept.harness("stack", "up", "--stack", "compose", **other)
    assert refused.returncode == 2 and "already" in refused.stderr, refused.stderr

    run = Run(tmp_path, "--stack", "compose", "--fault", "redis-pause", "--scenario", "baseline", *SHORT, *LOOSE,
              env=kept.env, shortened=True)  # fmt: skip
    try:
        assert run.end(400) in (0, 1, 3), run.text()
    finally:
        run.kill_group()
    fault = run.result()["faults"][0]
    assert (fault["proven"], fault["undo_verified"]) == (True, True), run.text()
    assert kept.harness("stack", "status", "--stack", "compose").returncode == 0

    redis = next(line.split()[1] for line in shown.stdout.splitlines() if line.startswith("redis "))
    docker("kill", redis)
    broken = kept.harness("stack", "status", "--stack", "compose")
    assert broken.returncode == 4 and "exited with code 137" in broken.stdout, broken.stdout
    down = kept.harness("stack", "down", "--stack", "compose")
    assert down.returncode == 0 and kept.project in down.stdout, down.stdout + down.stderr
    assert of_project(kept.project) == []


def test_a_run_of_its_own_leaves_nothing_but_its_directory(tmp_path: Path) -> None:
    run = Run(tmp_path, "--stack", "compose", "--fault", "redis-pause", "--scenario", "baseline", *SHORT, *LOOSE,
              shortened=True)  # fmt: skip
    try:
        assert run.end(600) in (0, 1, 3), run.text()
    finally:
        run.kill_group()
    fault = run.result()["faults"][0]
    assert (fault["proven"], fault["undo_verified"]) == (True, True), run.text()
    logs = {path.name for path in (run.dir / "logs").glob("*.log")}
    services = {f"{one}.log" for one in ("redis", "kafka", "db", "risk", "envoy", "toxiproxy", "api")}
    assert {*services, "compose-up.log"} <= logs
    versions = json.loads((run.dir / "plan.json").read_text())["provenance"]["versions"]
    assert "sha256:" in versions["redis"] and versions["docker engine"]
    assert of_project(project_in(run.text())) == []


@pytest.mark.parametrize("moment", ["starting", "fault"])
def test_kill_9_of_the_run_leaves_nothing_on_the_engine(tmp_path: Path, moment: str) -> None:
    run = Run(tmp_path, "--stack", "compose", "--fault", "redis-pause", "--scenario", "baseline", *SHORT, *LOOSE,
              "--fault-for", "60s", shortened=True)  # fmt: skip
    try:
        assert wait_until(lambda: "Compose project " in run.text(), 60), run.text()
        project = project_in(run.text())
        if moment == "starting":
            assert wait_until(lambda: of_project(project) != [], 200), run.text()
        else:
            run.wait_proven(400)
        run.process.send_signal(signal.SIGKILL)
        assert wait_until(lambda: of_project(project) == [] and not any((tmp_path / "state").rglob("keeper.sock")), 120)
        time.sleep(1)  # what Compose had asked for just before would come now
        assert of_project(project) == []
    finally:
        run.kill_group()


@pytest.mark.thorough
def test_two_stacks_at_once_on_one_engine_keep_to_their_own(tmp_path: Path) -> None:
    """Each run has a stack and a state folder of its own. One is killed while its fault is on: what heals it leaves the
    other alone, whose own fault is proven and undone."""
    runs = []
    try:
        for name, fault, lasting in (("killed", "redis-pause", "60s"), ("ending", "redis-disconnect", "8s")):
            (tmp_path / name).mkdir()
            runs.append(
                Run(tmp_path / name, "--stack", "compose", "--fault", fault, "--scenario", "baseline", *SHORT, *LOOSE,
                    "--fault-for", lasting, shortened=True)
            )  # fmt: skip
        killed, ending = runs
        ending.wait_phase("warmup", 400)
        killed.wait_proven(400)
        theirs, ours = project_in(killed.text()), project_in(ending.text())
        assert theirs != ours
        killed.process.send_signal(signal.SIGKILL)
        assert ending.end(400) in (0, 1, 3), ending.text()
        fault = ending.result()["faults"][0]
        assert (fault["proven"], fault["undo_verified"]) == (True, True), ending.text()
        assert wait_until(lambda: of_project(theirs) == [], 120)
    finally:
        for run in runs:
            run.kill_group()
    assert of_project(ours) == []


def test_a_signal_while_it_starts_leaves_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path, "--stack", "compose", "--fault", "none", "--scenario", "baseline")
    try:
        assert wait_until(lambda: "Compose project " in run.text(), 60), run.text()
        project = project_in(run.text())
        assert wait_until(lambda: of_project(project) != [], 200), run.text()
        run.process.send_signal(signal.SIGINT)
        assert run.end(120) == 130, run.text()
    finally:
        run.kill_group()
    assert of_project(project) == []


def test_an_image_that_cannot_be_had_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    missing = {"HARNESS_KAFKA_IMAGE": "127.0.0.1:1/no-such-image:1"}
    run = Run(tmp_path, "--stack", "compose", "--fault", "none", "--scenario", "baseline", env=missing)
    try:
        assert run.end(300) == 4, run.text()
    finally:
        run.kill_group()
    assert "Compose: starting failed" in run.text(), run.text()
    assert "not on the engine: 127.0.0.1:1/no-such-image:1 (HARNESS_KAFKA_IMAGE)" in run.text(), run.text()
    assert of_project(project_in(run.text())) == []


def test_a_server_that_dies_while_it_starts_is_named_with_its_last_lines(tmp_path: Path) -> None:
    run = Run(tmp_path, "--stack", "compose", "--fault", "none", "--scenario", "baseline",
              env={"HARNESS_KAFKA_HEAP": "-Xmx1z"})  # fmt: skip
    try:
        assert run.end(300) == 4, run.text()
    finally:
        run.kill_group()
    assert "kafka exited with code" in run.text() and "-Xmx1z" in run.text(), run.text()
    assert of_project(project_in(run.text())) == []
