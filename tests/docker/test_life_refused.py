"""No engine, an engine that may not be used, two that disagree: one clear line, and nothing is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from life_world import Docker, World, running

pytestmark = pytest.mark.docker


def test_no_engine_at_the_address(tmp_path: Path) -> None:
    with World(tmp_path, Docker(), "a") as world:
        before = world.states()
        with running(world.run("--fault", "a-pause", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})) as run:
            assert run.end() in (2, 4), run.text()
        assert f"no Docker engine answers at unix://{tmp_path}/none.sock" in run.text()
        assert "Traceback" not in run.text()
        assert world.states() == before


def test_a_user_who_may_not_use_the_socket(tmp_path: Path) -> None:
    """The adapter is asked as `nobody`, in a process that has given its rights up."""
    code = (
        "import os; from harness.adapters.docker.engine import connect; from harness.model.errors import HarnessError;"
        "import docker; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: connect('unix:///var/run/docker.sock')\n"
        "except HarnessError as error: print(type(error).__name__, error, error.hint)"
    )
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/").stdout
    assert said.startswith("EngineDenied this user (uid 65534) may not use the Docker engine"), said
    assert "usermod -aG" in said


def test_a_context_and_docker_host_that_disagree(tmp_path: Path) -> None:
    """DOCKER_HOST wins, as it does for the docker command, and the difference is told."""
    config = tmp_path / "docker"
    config.mkdir()
    env = {**os.environ, "DOCKER_CONFIG": str(config)}
    elsewhere = f"host=unix://{tmp_path}/other.sock"
    subprocess.run(["docker", "context", "create", "other", "--docker", elsewhere], env=env, check=True)
    (config / "config.json").write_text(json.dumps({"currentContext": "other"}))
    with World(tmp_path, Docker(), "a") as world:
        before = world.states()
        chosen = {"DOCKER_CONFIG": str(config)}
        with running(world.run("--fault", "a-pause", env=chosen)) as run:
            assert run.end() in (2, 4), run.text()
        assert f"unix://{tmp_path}/other.sock" in run.text(), "the context is what the docker command would use"
        both = {**chosen, "DOCKER_HOST": "unix:///var/run/docker.sock"}
        with running(world.run("--fault", "a-pause", "--fault-for", "3s", env=both)) as run:
            assert run.end() in (0, 1, 3), run.text()
        assert "other" in run.text(), run.text()
        assert world.states() == before
