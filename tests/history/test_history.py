"""`harness history` as it is typed: the list, its filters, the watchdog, and folders that are none."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.cli.commands.many_runs.history import history
from harness.model.errors import HarnessError
from tests.history.folders import ago, experiment, run, suite


def typed(*words: object) -> tuple[int, str]:
    """Exit code and stdout; a HarnessError is raised as it is."""
    done = CliRunner().invoke(history, [str(word) for word in words], standalone_mode=False)
    if done.exception is not None:
        raise done.exception
    return int(done.return_value or 0), done.stdout


def refused(*words: object) -> str:
    with pytest.raises(HarnessError) as caught:
        typed(*words)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    run(tmp_path, "b", ago(hours=2), kind="fail")
    run(tmp_path, "a", ago(hours=1))
    run(tmp_path, "c", ago(hours=3), kind="control")
    broken = experiment("redis-hang", "broken")
    suite(tmp_path, "d-suite", ago(hours=4), experiment("redis-down", "held"), broken, experiment("db-down", "not_run"))
    return tmp_path


def test_newest_first_with_verdict_recovery_and_the_first_reason(runs: Path) -> None:
    code, said = typed(runs)
    rows = [line.split("  ") for line in said.splitlines()]
    assert code == 0 and len(rows) == 5
    assert [[cell.strip() for cell in row if cell.strip()][1:] for row in rows[1:3]] == [
        ["redis-down", "target 2 %", "PASS", "no impact"],
        [
            "redis-down",
            "target 2 %",
            "FAIL",
            "1.3s",
            "fault: error_rate < 1% is broken: 12.4% of 12,140 requests failed",
        ],
    ]
    assert "no fault" in said.splitlines()[3]
    assert "suite standard" in said.splitlines()[4] and "held 1, broken 1, unknown 1 of 3" in said.splitlines()[4]
    assert "shown" not in said and "unreadable" not in said and "other folder" not in said


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--fault", "redis-down"], ["a", "b", "d-suite"]),
        (["--fault", "redis-*", "--verdict", "fail"], ["b", "d-suite"]),
        (["--fault", "redis-down", "--verdict", "pass"], ["a", "d-suite"]),  # that experiment of it held
        (["--fault", "db-down"], []),  # it was not run
        (["--fault", "none"], ["c"]),
        (["--scenario", "spike"], []),
        (["--since", "150m"], ["a", "b"]),
        (["--limit", "1"], ["a"]),
    ],
)
def test_filters(runs: Path, words: list[str], wanted: list[str]) -> None:
    _, said = typed(runs, "--json", *words)
    assert [entry["directory"] for entry in json.loads(said)["entries"]] == wanted


def test_what_is_not_shown_is_said(runs: Path) -> None:
    assert "1 of 4 shown; --limit 0 shows all" in typed(runs, "--limit", "1")[1]
    assert typed(runs, "--scenario", "spike")[1] == "nothing matches\n"


def test_damaged_foreign_and_newer_folders_are_one_line_at_the_end(runs: Path, tmp_path: Path) -> None:
    (run(runs, "e1", ago(hours=5)) / "result.json").write_text('{"verdict": "pa')
    (run(runs, "e2", ago(hours=5)) / "result.json").write_text('{"schema": 9}')
    (run(runs, "e3", ago(hours=5)) / "result.json").unlink()
    run(runs, "e4", "2999-01-01T00:00:00Z")
    run(runs, "e5", "yesterday")
    (runs / "photos").mkdir()
    (runs / "notes.txt").write_text("x")
    (runs / "latest").symlink_to(runs / "a")
    code, said = typed(runs)
    assert code == 0 and len(said.splitlines()) == 6
    last = said.splitlines()[-1]
    assert last.startswith("unreadable: e1 (result.json is damaged: ") and "; 2 more; 1 other folder" in last
    assert "e2 (result.json is of schema 9, of another version of the harness)" in last
    found = json.loads(typed(runs, "--json")[1])
    assert [one["directory"] for one in found["unreadable"]] == ["e1", "e2", "e3", "e4", "e5"]
    assert [one["directory"] for one in found["entries"]] == ["a", "b", "c", "d-suite"]


def test_a_pipe_or_a_link_in_place_of_a_file_is_unreadable(runs: Path) -> None:
    made = run(runs, "e", ago(hours=5))
    (made / "result.json").unlink()
    os.mkfifo(made / "result.json")
    linked = run(runs, "f", ago(hours=5))
    (linked / "result.json").unlink()
    (linked / "result.json").symlink_to(runs / "a" / "result.json")
    last = typed(runs)[1].splitlines()[-1]
    assert "result.json is a pipe, not a file" in last and "result.json is a link, not a file" in last


def test_text_from_a_run_obeys_nobody(tmp_path: Path) -> None:
    run(tmp_path, "a\x1b[2J", ago(hours=1), edit_result={"reasons": ("::error ::x\x1b[31m\n::stop",)})
    (tmp_path / "b\x1b]0;x\x07").mkdir()
    (tmp_path / "b\x1b]0;x\x07" / "plan.json").write_text("{")
    run(tmp_path, "c", ago(hours=2)).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe"))  # no UTF-8
    said = "".join(typed(tmp_path, *words)[1] for words in ([], ["--newer-than", "36h"], ["--trend", "recovery"]))
    assert "\x1b" not in said and "\x07" not in said and "::error ::" not in said and "\\x1b[31m" in said
    assert [one["name"] for one in json.loads(typed(tmp_path, "--json")[1])["entries"]] == ["redis-down"] * 2


def test_the_watchdog(runs: Path, tmp_path: Path) -> None:
    code, said = typed(runs, "--newer-than", "90m")
    assert code == 0 and re.fullmatch(r"newer than 90m: the newest is a, .* ago\n", said), said
    code, said = typed(runs, "--fault", "none", "--newer-than", "90m")
    assert code == 3 and said.startswith("older than 90m: the newest is c, ")
    assert typed(runs, "--fault", "redis-hang", "--newer-than", "5h")[0] == 0
    code, said = typed(runs, "--fault", "db-down", "--newer-than", "90d")
    assert (code, said) == (3, "older than 90d: nothing matches\n")


def test_a_run_from_the_future_keeps_no_gate_green(tmp_path: Path) -> None:
    run(tmp_path, "a", "2999-01-01T00:00:00Z")
    assert typed(tmp_path, "--newer-than", "36h")[0] == 3


def test_what_is_refused(runs: Path) -> None:
    assert refused(runs / "gone") == f"{runs / 'gone'}: no such folder of runs"
    assert "is a file, not a folder of runs" in refused(runs / "a" / "plan.json")
    assert "are two commands" in refused(runs, "--prune", "--newer-than", "1h")
    assert "--prune needs --older-than" in refused(runs, "--prune")
    assert "--out is for --trend" in refused(runs, "--out", "x.svg")
    assert "--dry-run is for --prune" in refused(runs, "--dry-run")
    assert "--json is for the list" in refused(runs, "--newer-than", "1h", "--json")
    assert "--limit is for the list" in refused(runs, "--newer-than", "1h", "--limit", "1")
    assert "a chart is written as .svg or .html" in refused(runs, "--trend", "p95", "--out", "x.png")
    assert "unit is missing" in refused(runs, "--newer-than", "36")
