"""The second Compose, of which `config` needs no engine: the plugin, or the one that .ci/docker keeps in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.scaffold.compose_config import find_compose


@pytest.fixture(scope="session")
def compose_v2(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    found = find_compose()
    if found is not None and found.version >= (2,):
        yield
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "harness", "compose")
    built = sorted(path for path in cache.glob("docker-compose-v2*") if os.access(path, os.X_OK) and not path.suffix)
    built = built or sorted(path for path in cache.glob("docker-compose-v2*") if os.access(path, os.X_OK))
    if not built:
        if os.environ.get("HARNESS_REQUIRE_SERVERS") == "1":
            pytest.fail("there is no Compose of the second generation")
        pytest.skip("there is no Compose of the second generation")
    folder = tmp_path_factory.mktemp("compose")
    (folder / "docker-compose").symlink_to(built[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        yield
