"""The shipped locustfiles under plain Locust: no harness needed."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from load_run import ANOMALY
from load_target import Target

CUSTOM = ANOMALY.parent / "custom_example.py"


def locust(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "locust", *map(str, arguments)],
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        check=False,
    )


def table(path: Path) -> dict[str, dict[str, str]]:
    return {row["Name"]: row for row in csv.DictReader(path.read_text().splitlines())}


@pytest.mark.parametrize("file", [ANOMALY, CUSTOM], ids=lambda f: f.name)
def test_plain_locust_runs_it_headless_and_writes_csv(file: Path, tmp_path: Path) -> None:
    target = Target().start()
    try:
        done = locust(
            "-f", file, "--host", target.url, "--headless", "-u", "40", "-r", "40", "-t", "8s", "--csv", "out",
            cwd=tmp_path,
        )  # fmt: skip
    finally:
        target.stop()
    assert done.returncode == 0, done.stdout[-3000:]
    rows = table(tmp_path / "out_stats.csv")
    assert int(rows["Aggregated"]["Failure Count"]) == 0
    assert int(rows["Aggregated"]["Request Count"]) >= 12
    assert all("?" not in name and "0x" not in name for name in rows), "grouped by route"
    assert "/api/v1/predict" in rows


def test_a_batch_that_loses_a_transaction_is_a_failure(tmp_path: Path) -> None:
    target = Target().start()
    target.modes["/api/v1/batch/predict"] = "short"
    try:
        done = locust(
            "-f", ANOMALY, "--host", target.url, "--headless", "-u", "40", "-r", "40", "-t", "8s", "--csv", "out",
            "AnomalyDetectionUser",
            cwd=tmp_path,
        )  # fmt: skip
    finally:
        target.stop()
    assert done.returncode == 1
    failures = table(tmp_path / "out_failures.csv")
    assert set(failures) == {"/api/v1/batch/predict"}
    rows = table(tmp_path / "out_stats.csv")
    assert rows["/api/v1/batch/predict"]["Failure Count"] == rows["/api/v1/batch/predict"]["Request Count"]


@pytest.mark.parametrize("file", [ANOMALY, CUSTOM], ids=lambda f: f.name)
def test_it_needs_nothing_of_the_harness(file: Path, tmp_path: Path) -> None:
    program = (
        "import sys, importlib.abc, runpy\n"
        "class Block(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('harness', 'faults'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Block())\n"
        f"runpy.run_path({str(file)!r})\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=60)
