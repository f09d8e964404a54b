"""The workflows of docs/ci.md: whole YAML, and the steps that need no server do on a copy what the page says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from harness.model.records.many_runs.suite import SuiteResult
from tests.analysis.suite.suites import attempt, experiment, suite

DOCS = Path(__file__).resolve().parents[2] / "docs"
BAD = attempt("broken", {"GET /": "broken"})


def workflows() -> dict[str, dict[str, Any]]:
    blocks = re.findall(r"^```yaml\n(.*?)^```", (DOCS / "ci.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return {(made := yaml.safe_load(block))["name"]: made for block in blocks}


def play(workflow: str, step: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """One step's script, by the shell and in the folder in which GitHub runs it."""
    (job,) = workflows()[workflow]["jobs"].values()
    (found,) = (one for one in job["steps"] if one.get("name") == step)
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-c", found["run"]],
        cwd=folder / found.get("working-directory", "."),
        env={**os.environ, "PATH": path, "XDG_STATE_HOME": str(folder / "state"), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the files of the page on an own service."""
    folder = tmp_path / "resilience"
    folder.mkdir()
    page = (DOCS / "own-service.md").read_text("utf-8")
    for language, name in (("json", "proxies.json"), ("toml", "harness.toml"), ("python", "locustfile.py")):
        (block,) = re.findall(rf"^```{language}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
        (folder / name).write_text(block)
    (folder / "quick.yaml").write_text("profile: quick\n")
    (folder / "nightly.yaml").write_text("profile: standard\n")
    return tmp_path


def found(folder: Path, made: SuiteResult) -> None:
    there = folder / "runs" / "20261123-160000-suite"
    there.mkdir(parents=True, exist_ok=True)
    (there / "suite.json").write_bytes(msgspec.json.encode(made))


@pytest.mark.parametrize("name", ["quick", "nightly"])
def test_the_suites_of_the_page_plan_as_they_are(checkout: Path, name: str) -> None:
    done = play("resilience-suite", "What will be tried", checkout, SUITE=name)
    assert done.returncode == 0, done.stderr
    assert "redis-down" in done.stdout and "control" in done.stdout


def test_comment_and_summary_without_a_base_with_one_and_without_a_suite(checkout: Path) -> None:
    def play_it() -> str:
        summary = checkout / "summary.md"
        summary.unlink(missing_ok=True)
        done = play(
            "resilience-suite", "Comment and summary", checkout, SUITE="quick", GITHUB_STEP_SUMMARY=str(summary)
        )
        assert done.returncode == 0, done.stderr
        return summary.read_text() if summary.exists() else ""

    assert play_it() == "" and not (checkout / "comment.md").exists()
    found(checkout, suite(experiment("redis-down", BAD)))
    assert "no base to compare with" in play_it()
    # What the page says to do with the first suite.
    (command,) = re.findall(r"`harness suite (accept .*?)`", (DOCS / "ci.md").read_text("utf-8"))
    words = [*command.replace("runs/", "../runs/").split(), "--reason", "no fallback", "--until", "2999-01-01"]
    refused = subprocess.run(
        [Path(sys.executable).with_name("harness"), "suite", *words],
        cwd=checkout / "resilience",
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2 and "180 days" in refused.stderr
    found(checkout, suite(experiment("redis-down", attempt("held", {"GET /": "held"}))))
    subprocess.run(
        [Path(sys.executable).with_name("harness"), "suite", *words[:-4]],
        cwd=checkout / "resilience",
        check=True,
        capture_output=True,
    )
    found(checkout, suite(experiment("redis-down", BAD, BAD)))
    assert "1 newly broken" in play_it() and "1 newly broken" in (checkout / "comment.md").read_text()


def test_the_comment_goes_to_the_pull_request_of_the_branch_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    gh = tmp_path / "bin" / "gh"
    gh.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "open('calls', 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        "if sys.argv[1] == 'api': print(os.environ['NUMBER'])\n"
    )
    gh.chmod(0o755)
    (tmp_path / "comment.md").write_text("x" * 100_000)
    evil = "me:a;touch${IFS}gone;$(touch gone)"

    def calls(number: str) -> list[list[str]]:
        (tmp_path / "calls").unlink(missing_ok=True)
        done = play("resilience-comment", "Comment", tmp_path, GH_REPO="o/r", HEAD=evil, NUMBER=number)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]

    (asked, wrote) = calls("7")
    assert f"head={evil}" in asked and wrote[:3] == ["pr", "comment", "7"]
    assert (tmp_path / "body.md").stat().st_size == 60_000
    assert len(calls("")) == 1 and not (tmp_path / "gone").exists()


def test_the_workflow_with_a_fork_s_code_has_no_right_to_write() -> None:
    made = workflows()
    assert made["resilience-suite"]["permissions"] == {"contents": "read"}
    comment = made["resilience-comment"]
    assert True in comment and list(comment[True]) == ["workflow_run"]  # YAML 1.1 reads `on` as true
    text = json.dumps(comment["jobs"])
    assert "checkout" not in text
    (job,) = comment["jobs"].values()
    assert all("${{" not in step.get("run", "") for step in job["steps"])
