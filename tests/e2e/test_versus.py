"""`harness run --repeat 2 --versus NAME` on the embedded stack: four real runs in pairs, and what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.life import state_folders
from tests.e2e.observe import HARNESS, SHORTENED, Run

pytestmark = [pytest.mark.stack, pytest.mark.slow]

FILE = '[versions.slow]\nenv = { ANOMALY_API_DEFECT = "sync-kafka" }\n'
EXPERIMENT = (
    *("--fault", "kafka-latency:latency=2s", "--rate", "50", "--spawn-rate", "100000", "--warmup", "1s"),
    *("--locustfile", str(Path(__file__).with_name("locustfile_predict.py"))),
    *("--baseline", "4s", "--fault-for", "4s", "--hold", "2s", "--recovery-limit", "30s", "--request-timeout", "5s"),
    *("--target", "p95 < 1s", "--target", "error_rate < 90%", "--target", "rps >= 1% of plan", "--no-extend"),
)
MANY = ("--repeat", "2", "--versus", "slow")


def command(*words: str | Path, cwd: Path, shortened: bool = False) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", SHORTENED] if shortened else [str(HARNESS)]
    env = {**os.environ, "XDG_STATE_HOME": str(cwd / "state")}
    return subprocess.run([*program, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_pairs_of_two_versions_of_the_sample_api(tmp_path: Path) -> None:
    (tmp_path / "harness.toml").write_text(FILE)
    run = Run(tmp_path, *EXPERIMENT, *MANY, "--seed", "7", shortened=True)
    try:
        code = run.end(600)
    finally:
        run.kill_group()
    said, group = run.text(), read(run.dir / "group.json")
    assert code == 3, said  # two pairs never tell
    assert "not known yet" not in said and "2 pairs cannot show that it is worse: that takes 7 at least" in said
    assert (group["kind"], group["version"], group["seed"]) == ("versus", "slow", 7)
    assert group["declared"] == "ANOMALY_API_DEFECT=sync-kafka"
    assert sorted((one["pair"], one["label"]) for one in group["runs"]) == [(1, "A"), (1, "B"), (2, "A"), (2, "B")]
    seeds: dict[int, set[int]] = {1: set(), 2: set()}
    for one in group["runs"]:
        assert one["directory"].startswith({"A": "a/", "B": "b/"}[one["label"]])
        seeds[one["pair"]].add(read(run.dir / one["directory"] / "plan.json")["load"]["seed"])
        assert read(run.dir / one["directory"] / "result.json")["faults"][0]["undo_verified"]
    assert len(seeds[1]) == len(seeds[2]) == 1 and seeds[1] != seeds[2]

    results = [read(run.dir / one["directory"] / "result.json") for one in group["runs"]]
    busy = any(
        result["generator"]["saturated"] for result in results
    )  # the machine, for the load: such runs are left out
    for words in ((run.dir,), (run.dir / "a", run.dir / "b")):
        again = command("compare", *words, "--json", cwd=tmp_path)
        if busy and again.returncode == 2:
            assert "could not keep up" in again.stderr and not (run.dir / "comparison.json").exists()
            continue
        assert again.returncode == 3, again.stderr
        found = json.loads(again.stdout)
        assert found["method"] == "pairs" and (busy or found["pairs"] == 2), said
        assert "seed of the arrivals, within pairs" not in {one["what"] for one in found["differs"]}
        assert found["change"] == read(run.dir / "comparison.json")["change"]
        sides = zip(found["base"], found["new"], strict=True)
        # Only B waits for the broker.
        assert all(a["left_out"] or b["harm"] > a["harm"] + 20 for a, b in sides), found
    unpaired = command("compare", run.dir / "b", run.dir / "b", cwd=tmp_path)
    assert unpaired.returncode == 2 and "is on both sides" in unpaired.stderr

    plan = command("plan", *EXPERIMENT, "--repeat", "10", "--versus", "slow", cwd=tmp_path, shortened=True)
    assert plan.returncode == 0 and "10 pairs find" in plan.stdout, plan.stdout + plan.stderr
    assert busy or "from the spread of 2 pairs in runs" in plan.stdout, plan.stdout
    assert not state_folders(tmp_path / "state")
