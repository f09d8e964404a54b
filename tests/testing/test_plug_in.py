"""The worked plug-in of docs/examples, installed as its author would: its tests pass, and the harness lists it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers.real import ValkeyServer

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "redis-read-only"
BIN = Path(sys.executable).parent


def call(*words: str | Path, **env: str) -> str:
    done = subprocess.run(words, env={**os.environ, **env}, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the package's source, and the folder that it is installed in."""
    folder = tmp_path_factory.mktemp("plug-in")
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    site = folder / "site"
    install = (BIN / "uv", "pip", "install", "--quiet", "--offline", "--python", sys.executable)
    call(*install, "--no-deps", "--no-build-isolation", "--target", site, source)
    return source, site


def test_the_harness_lists_it(installed: tuple[Path, Path]) -> None:
    said = call(BIN / "harness", "faults", "read-only", PYTHONPATH=str(installed[1]))
    assert "redis-read-only" in said and "replicas=100" in said


def test_it_imports_nothing_of_the_harness_but_the_api(installed: tuple[Path, Path]) -> None:
    ours = "sorted(m for m in sys.modules if m.startswith('harness.') and not m.startswith('harness.model'))"
    said = call(sys.executable, "-c", f"import sys, redis_read_only; print({ours})", PYTHONPATH=str(installed[1]))
    assert said.strip() == "['harness.api', 'harness.fault']"


@pytest.mark.stack
def test_its_own_tests_pass(installed: tuple[Path, Path], valkey_server: ValkeyServer) -> None:
    source, site = installed
    said = call(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", source, source / "tests"),
        PYTHONPATH=str(site),
        TEST_REDIS=str(valkey_server.address),
    )
    assert "6 passed" in said
