"""The removal of a Compose project meets what the engine makes only afterwards."""

from __future__ import annotations

import subprocess
import threading
import uuid

import pytest

from harness.adapters.docker.context import choose_engine
from harness.adapters.docker.engine import connect
from harness.adapters.docker.project import OURS, QUIET_S, belongings, remove_project
from harness.adapters.docker.records import PROJECT_LABEL

pytestmark = pytest.mark.docker


def make_network(project: str) -> None:
    labels = (f"{PROJECT_LABEL}={project}", "=".join(OURS))
    subprocess.run(
        ["docker", "network", "create", *(f"--label={one}" for one in labels), f"{project}-{uuid.uuid4().hex[:6]}"],
        check=True,
        timeout=60,
        stdout=subprocess.DEVNULL,
    )


def test_what_comes_after_a_look_that_found_nothing_is_removed_as_well(docker_engine: None) -> None:
    """A killed Compose had asked for it; the engine lists a container or network only when it is made."""
    project = f"harness-late-{uuid.uuid4().hex[:6]}"
    make_network(project)
    late = threading.Timer(QUIET_S / 3, make_network, (project,))
    late.start()
    with connect(choose_engine().url) as engine:
        try:
            assert str(remove_project(engine, project)) == "1 network"
            late.join()
            assert not belongings(engine, project)
        finally:
            late.join()
            remove_project(engine, project)
