"""Dropping raw records: of old runs only, and nothing that is not theirs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.analysis import run_directory
from harness.model.errors import UsageError
from harness.report.files import render
from harness.safety.state_folders import active_dir
from tests.analysis.histories import Scene
from tests.history.folders import add_raw, ago, experiment, run, settle, suite
from tests.history.test_history import typed

KEPT = ["history.jsonl", "plan.json", "pruned.json", "report.html", "result.json"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_raw_records_of_old_runs_go_and_results_stay(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    old, new = run(runs, "old", ago(days=31), raw=True), run(runs, "new", ago(days=29), raw=True)
    before = files(new)
    said = typed(runs, "--prune", "--older-than", "30d", "--dry-run")[1]
    assert said == "would drop the raw records of 1 run directories: 4KB\n" and "windows.jsonl" in files(old)
    assert typed(runs, "--prune", "--older-than", "30d")[1] == "dropped the raw records of 1 run directories: 4KB\n"
    assert files(old) == KEPT and files(new) == before
    assert "(raw records pruned)" in typed(runs)[1].splitlines()[2] and "pruned" not in typed(runs)[1].splitlines()[1]
    assert typed(runs, "--prune", "--older-than", "30d")[1].endswith("0 run directories: 0B\n")


def test_a_suite_goes_with_its_experiments(tmp_path: Path) -> None:
    made = suite(tmp_path / "runs", "s", ago(days=31), experiment("redis-down", "held"))
    add_raw(made)
    below = run(made, "01-redis-down", ago(days=31), raw=True)
    assert "of 2 run directories: 8KB" in typed(tmp_path / "runs", "--prune", "--older-than", "30d")[1]
    assert files(below) == KEPT and "suite.json" in files(made) and "windows.jsonl" not in files(made)


def test_what_a_suites_sessions_and_loads_recorded_goes_with_it(tmp_path: Path) -> None:
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    made = suite(runs, "s", ago(days=31), experiment("redis-down", "held"))
    sessions = ("load-02", "session-on", "session-on-2", "session-on-2/load-02")
    others = ("photos", "load-x", "session-on-2/01-x", "session-on/load-02/load-03")
    for name in (*sessions, *others):
        (made / name).mkdir(parents=True, exist_ok=True)
        (made / name / "windows.jsonl").write_text("x" * 1000)
    elsewhere.mkdir()
    (elsewhere / "windows.jsonl").write_text("x")
    (made / "load-03").symlink_to(elsewhere)
    (made / "session-on" / "acknowledged.jsonl").write_text("x" * 1000)
    settle(made)
    (active_dir() / "s-on-4").mkdir(parents=True)
    assert "left alone: s: it is going on" in typed(runs, "--prune", "--older-than", "30d")[1]
    (active_dir() / "s-on-4").rmdir()
    assert "of 4 run directories: 5KB" in typed(runs, "--prune", "--older-than", "30d")[1]
    left = {path.parent for path in made.rglob("windows.jsonl")}
    assert left == {made / name for name in others}
    assert (elsewhere / "windows.jsonl").exists()


def test_what_is_going_on_is_left_alone(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    made = [run(runs, name, ago(days=31), raw=True) for name in ("going", "going-2", "fresh", "unjudged")]
    (active_dir() / "going").mkdir(parents=True)
    (made[2] / "windows.jsonl").write_text("x")  # just now
    (made[3] / "result.json").unlink()
    below = run(suite(runs, "s", ago(days=31)), "01-a", ago(days=31), raw=True)
    (active_dir() / "s").mkdir()
    said = typed(runs, "--prune", "--older-than", "30d")[1].splitlines()
    typed(runs / "s", "--prune", "--older-than", "30d")
    assert said[0].endswith("0 run directories: 0B")
    assert "left alone: going: it is going on, or something of it is left to undo" in said
    assert any(line.startswith("left alone: going-2: ") for line in said)
    assert "left alone: fresh: its records were written to within the last hour" in said
    assert all("windows.jsonl" in files(one) for one in [*made, below])


def test_links_and_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    runs, elsewhere = tmp_path / "runs", tmp_path / "elsewhere"
    other = run(elsewhere, "other", ago(days=31), raw=True)
    linked = run(runs, "linked", ago(days=31))
    (linked / "logs").symlink_to(elsewhere)
    (linked / "windows.jsonl").symlink_to(other / "windows.jsonl")
    (runs / "link").symlink_to(other)
    within = run(runs, "within", ago(days=31), raw=True)
    (within / "logs" / "out").symlink_to(elsewhere)
    (runs / "photos").mkdir()
    (runs / "photos" / "windows.jsonl").write_text("x")
    before = files(elsewhere)
    settle(runs)
    assert "of 1 run directories" in typed(runs, "--prune", "--older-than", "30d")[1]
    assert files(elsewhere) == before and "windows.jsonl" in files(linked) and files(within) == KEPT
    assert (runs / "photos" / "windows.jsonl").exists()


def test_only_what_the_filters_name(tmp_path: Path) -> None:
    kept = run(tmp_path, "a", ago(days=31), kind="fail", raw=True)
    run(tmp_path, "b", ago(days=31), raw=True)
    assert "of 1 run directories" in typed(tmp_path, "--prune", "--older-than", "30d", "--verdict", "pass")[1]
    assert "windows.jsonl" in files(kept)


def test_a_pruned_run_is_reported_and_says_why_it_cannot_be_judged_again(tmp_path: Path) -> None:
    made = Scene(rate=50.0).build().write(tmp_path / "a")
    run_directory.write_result(made, run_directory.analyze(made))
    settle(tmp_path)
    typed(tmp_path, "--prune", "--older-than", "1s")
    assert not (made / "windows.jsonl").exists()
    assert json.loads((made / "pruned.json").read_text())["dropped"] == ["windows.jsonl", "samples.jsonl"]
    assert "PASS" in render(made, "md") and "<testsuite" in render(made, "junit")
    for again in (run_directory.analyze, lambda path: render(path, "html")):
        with pytest.raises(UsageError, match=r"a: the raw records of this run were pruned$"):
            again(made)
