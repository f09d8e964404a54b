"""The worked project of docs/examples, run as its owner would: red for the right reason, then green."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers.proxied import raw
from tests.support.servers.real import ValkeyServer

pytestmark = [pytest.mark.stack, pytest.mark.slow]
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "pytest-project"
both = pytest.mark.parametrize("shop", ["shop", "shop_mended"])


class Project:
    """A copy of it, with the servers of this session."""

    def __init__(self, folder: Path, toxiproxy: str, valkey: ValkeyServer) -> None:
        self.folder, self._toxiproxy, self._valkey = folder, toxiproxy, valkey
        shutil.copytree(EXAMPLE, folder / "project", ignore=shutil.ignore_patterns("__pycache__"))

    def run(self, shop: str, test: str) -> tuple[int, str]:
        """Again where the machine was too busy to tell, by the harness's own word."""
        before = raw(f"{self._toxiproxy}/proxies")
        for _ in range(3):
            done = subprocess.run(
                (
                    *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", test),
                    f"--resilience-out={self.folder / 'runs'}",
                ),
                cwd=self.folder / "project",
                env={
                    **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
                    "XDG_STATE_HOME": str(self.folder / "state"),
                    "TEST_REDIS": str(self._valkey.address),
                    "TEST_TOXIPROXY": self._toxiproxy,
                    "SHOP": shop,
                },
                capture_output=True,
                text=True,
                timeout=290,
            )
            said = done.stdout + done.stderr
            assert raw(f"{self._toxiproxy}/proxies") == before, "nothing is left"
            assert not any(noise in said for noise in ("Traceback", "plugin.py", "During handling")), said
            if "INCONCLUSIVE: " not in said and "too few to say" not in said:
                break
        return done.returncode, said


@pytest.fixture
def project(tmp_path: Path, toxiproxy_server: str, valkey_server: ValkeyServer) -> Project:
    return Project(tmp_path, toxiproxy_server, valkey_server)


@both
def test_a_fault_around_a_load_finds_the_weakness_and_nothing_in_the_mended_shop(project: Project, shop: str) -> None:
    code, said = project.run(shop, "prices")
    if shop == "shop_mended":
        assert code == 0 and "1 passed" in said, said
        return
    assert code == 1 and "1 failed" in said, said
    assert re.search(r"requests failed \(\d+ of them: status 500\), which breaks `error_rate < 5%`", said), said


@pytest.mark.calm
@pytest.mark.timeout(900)
@both
def test_the_marked_experiment_fails_with_its_first_sentence_and_passes_mended(project: Project, shop: str) -> None:
    code, said = project.run(shop, "survives")
    if shop == "shop_mended":
        assert code == 0 and "1 passed" in said, said
        return
    assert code == 1 and "1 failed" in said, said
    assert re.search(r"FAIL: with redis-down, .*of requests failed", said), said
    report = re.search(r"report: (\S+report\.html)", said)
    assert report is not None and Path(report[1]).exists()
