"""Tests on a real Docker engine. Without one they are skipped, and under HARNESS_REQUIRE_DOCKER=1 they fail.

`.ci/docker` makes the stand-in images that they run (the official ones come from a registry), and runs them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

IMAGES = {
    f"HARNESS_{name.upper()}_IMAGE": f"harness-stand-in/{name}"
    for name in ("redis", "postgres", "kafka", "toxiproxy", "envoy", "prometheus", "python")
}


def docker(*arguments: str, timeout: float = 120) -> str:
    """What the docker command printed. Raises CalledProcessError."""
    return subprocess.run(
        ["docker", *arguments], capture_output=True, text=True, timeout=timeout, check=True, stdin=subprocess.DEVNULL
    ).stdout


def _why_not() -> str | None:
    if shutil.which("docker") is None:
        return "no docker command on PATH"
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout=30)
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        return f"no Docker engine answers: {said[-1] if said else error}"
    return None


@pytest.fixture(scope="session", autouse=True)
def docker_engine() -> None:
    """An engine answers; else the test is skipped and says why, or fails where an engine is required."""
    reason = _why_not()
    if reason is None:
        lowest = docker("version", "--format", "{{.Server.MinAPIVersion}}").strip()
        if tuple(map(int, lowest.split("."))) > (1, 38):
            # As a user must for docker-compose 1.29, which asks for 1.38 otherwise.
            os.environ["COMPOSE_API_VERSION"] = lowest
        return
    if os.environ.get("HARNESS_REQUIRE_DOCKER") == "1":
        pytest.fail(f"HARNESS_REQUIRE_DOCKER=1, and {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def stand_in_images(docker_engine: None) -> dict[str, str]:
    """The variables by which compose/compose.yaml takes the stand-in images; all of them are on the engine."""
    there = set(docker("images", "--format", "{{.Repository}}").split())
    missing = sorted(image for image in IMAGES.values() if image not in there)
    if missing:
        reason = f"the stand-in images {', '.join(missing)} are not on the engine: .ci/images/build makes them"
        if os.environ.get("HARNESS_REQUIRE_DOCKER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return dict(IMAGES)


def _on_engine() -> set[str]:
    found = set()
    for line in docker("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Ports}}").splitlines():
        identity, name, *ports = line.split(" ", 2)
        found.add(f"container {name} {identity[:12]}")
        found |= {f"port {port.strip()} of {name}" for port in "".join(ports).split(",") if "->" in port}
    found |= {f"network {line}" for line in docker("network", "ls", "--format", "{{.Name}} {{.ID}}").splitlines()}
    found |= {f"volume {name}" for name in docker("volume", "ls", "--quiet").split()}
    return found


@pytest.fixture(scope="module", autouse=True)
def nothing_left(docker_engine: None) -> Iterator[None]:
    """Containers, networks, volumes and published ports are after a module as they were before it.

    HARNESS_SHARED_ENGINE=1 switches it off, for an engine on which others work at the same time.
    """
    if os.environ.get("HARNESS_SHARED_ENGINE") == "1":
        yield
        return
    before = _on_engine()
    yield
    after = _on_engine()
    left, lost = sorted(after - before), sorted(before - after)
    assert not left, "left on the engine: " + "; ".join(left)
    assert not lost, "gone from the engine: " + "; ".join(lost)
