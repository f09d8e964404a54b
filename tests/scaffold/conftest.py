"""The second Compose, of which `config` needs no engine: the plugin, or the one that .ci/docker keeps in the cache."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.scaffold.compose_config import find_compose

BUILD = Path(__file__).resolve().parents[2] / ".ci" / "images" / "go-program"


@pytest.fixture(scope="session")
def compose_v2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    found = find_compose()
    if found is not None and found.version >= (2,):
        yield
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "harness", "compose")
    built = [one for one in sorted(cache.glob("docker-compose-v2*")) if os.access(one, os.X_OK)]
    if not built and os.environ.get("HARNESS_REQUIRE_DOCKER") == "1":
        done = subprocess.run([str(BUILD), "compose"], capture_output=True, text=True, timeout=1200, check=True)
        built = [Path(done.stdout.strip())]
    if not built:
        pytest.skip("needs a Compose of the second generation (.ci/images/go-program compose builds it)")
    folder = tmp_path_factory.mktemp("compose")
    (folder / "docker-compose").symlink_to(built[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield
