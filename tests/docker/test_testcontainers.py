"""The worked project of docs/examples with the containers of testcontainers, run as its owner would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "pytest-project"


@pytest.mark.parametrize("shop", ["shop", "shop_mended"])
def test_faults_on_containers_of_testcontainers_find_the_weakness_and_nothing_in_the_mended_shop(
    tmp_path: Path, stand_in_images: dict[str, str], shop: str
) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    for _ in range(3):  # again where the machine was too busy to tell, by the harness's own word
        done = subprocess.run(
            (
                *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "containers"),
                f"--resilience-out={tmp_path / 'runs'}",
            ),
            cwd=tmp_path / "project",
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
                "XDG_STATE_HOME": str(tmp_path / "state"),
                # Its container that removes what a killed session leaves comes from a registry.
                "TESTCONTAINERS_RYUK_DISABLED": "true",
                "REDIS_IMAGE": stand_in_images["HARNESS_REDIS_IMAGE"],
                "TOXIPROXY_IMAGE": stand_in_images["HARNESS_TOXIPROXY_IMAGE"],
                "SHOP": shop,
            },
            capture_output=True,
            text=True,
            timeout=290,
        )
        said = done.stdout + done.stderr
        assert not any(noise in said for noise in ("Traceback", "plugin.py", "During handling")), said
        if "too few to say" not in said:
            break
    if shop == "shop_mended":
        assert done.returncode == 0 and "2 passed" in said, said
    else:
        assert done.returncode == 1 and "2 failed" in said, said
        assert said.count("which breaks `error_rate < 5%`") >= 2, said
