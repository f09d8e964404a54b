"""The compose stack as people bring it up, and what a fault may change about it, as the docker CLI shows it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from networks import ends_in, ports_in
from small_container import docker, limits_in

sys.path.insert(0, str(Path(__file__).parent.parent / "faults"))

from worlds import HARNESS, kept_dependency, say

from harness.model.records.faults import Dependency
from harness.stack.compose import ComposeStack
from tests.support.servers.envoy import runtime
from tests.support.servers.proxied import raw


@contextlib.contextmanager
def busy(container: str) -> Iterator[None]:
    """Something in the container that takes all the CPU it can get, as load would."""
    loop = "echo $$ > /tmp/harness-test-busy; while :; do :; done"
    docker("exec", "-d", container, "timeout", "120", "sh", "-c", loop)
    try:
        yield
    finally:
        stop = "kill -9 $(cat /tmp/harness-test-busy); rm /tmp/harness-test-busy"
        docker("exec", container, "sh", "-c", stop, check=False)


class Compose:
    """`harness stack up --stack compose`, and what every process reads that finds it up."""

    declared = ComposeStack().describe()

    def __init__(self, folder: Path, images: dict[str, str]) -> None:
        """images: the variables by which the compose file takes other images than the official ones."""
        # A name of its own: others may be up at the same time.
        self.env = {
            "XDG_STATE_HOME": str(folder),
            "COMPOSE_PROJECT_NAME": f"harness-test-{uuid.uuid4().hex[:8]}",
            **images,
        }
        done = self._harness("up", "--stack", "compose", "--quiet", timeout_s=900)
        assert done.returncode == 0, done.stderr

    def dependency(self, name: str) -> Dependency:
        return kept_dependency(name, self.env, "compose")

    def outside(self, dependency: Dependency) -> dict[str, Any]:
        """Of every container of the project: state, limits, networks, published ports. Of the project: its networks
        and who is on them. Of the dependency: since when it runs, its proxies, its roles, a mark in its data."""
        assert dependency.container.project is not None and dependency.container.id is not None
        label = f"label=com.docker.compose.project={dependency.container.project}"
        found: dict[str, Any] = {}
        containers = docker("ps", "-aq", "--no-trunc", "--filter", label).split()
        for one in json.loads(docker("inspect", *containers)):
            found[one["Id"]] = {
                "state": one["State"]["Status"],
                "limits": limits_in(one),
                "networks": ends_in(one),
                "ports": ports_in(one),
            }
            if one["Id"] == dependency.container.id:
                found["pid"] = one["State"]["StartedAt"]
        networks = docker("network", "ls", "-q", "--no-trunc", "--filter", label).split()
        for one in json.loads(docker("network", "inspect", *networks)):
            found[one["Id"]] = {member: end["IPv4Address"] for member, end in one["Containers"].items()}
        if dependency.proxy.url is not None:
            found["proxies"] = raw(f"{dependency.proxy.url}/proxies")
        if dependency.front is not None:
            found["front"] = runtime(dependency)
        serves = found[dependency.container.id]["state"] == "running" and any(
            found[dependency.container.id]["ports"].values()
        )
        if dependency.kind == "redis" and serves:
            found["mark"] = say(dependency, "GET harness-test-mark")
        if dependency.credentials.admin is not None and serves:
            with psycopg.connect(dependency.credentials.admin) as connection:
                found["roles"] = connection.execute("SELECT * FROM pg_roles ORDER BY oid").fetchall()
                found["mark"] = connection.execute("SELECT text FROM harness_test_mark").fetchall()
                found["sessions of the harness"] = connection.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'harness%hog%'"
                ).fetchone()
        return found

    def close(self) -> None:
        self._harness("down", "--stack", "compose", "--force", timeout_s=180)

    def _harness(self, *words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HARNESS, "stack", *words],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
