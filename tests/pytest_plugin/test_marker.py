"""What the marker makes of a result, and what the plug-in costs those who do not use it. No run: results are given."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

CONFTEST = """
import pytest
from pathlib import Path
from harness import api
from harness.analysis.run_directory import write_result
from harness.conductor.run import write_plan
from harness.pytest_plugin.plugin import System
from tests.report.sample import plan_of, result


def given(experiment, *, config, out, wait_s):
    "The result that the test's scenario names."
    found = result(experiment.scenario)
    folder = out / found.experiment
    folder.mkdir(parents=True, exist_ok=True)
    write_plan(folder, plan_of(experiment.scenario))
    write_result(folder, found)
    assert experiment.faults == ("redis-down",) and wait_s == 5
    return found


api.run = given


@pytest.fixture(scope="session")
def harness_stack(tmp_path_factory):
    return System(Path("harness.toml"), tmp_path_factory.mktemp("out"), 5)
"""

TESTS = """
import pytest
mark = pytest.mark.resilience

@mark(fault="redis-down", scenario="pass")
def test_passed(resilience_result):
    assert resilience_result().verdict == "pass"

@mark(fault="redis-down", scenario="fail")
def test_failed():
    print("the body ran")

@mark(fault=["redis-down"], scenario="inconclusive")
def test_cannot_say():
    print("the body ran")

@mark(fault="redis-down", scenario="inconclusive", inconclusive="skip")
def test_skipped():
    print("the body ran")

@mark(fault="redis-down", rats=3)
def test_misspelt():
    pass

@mark(fault="redis-down", inconclusive="pass")
def test_no_such_choice():
    pass

def test_without_marker(resilience_result):
    resilience_result()

def test_assert_resilient(assert_resilient):
    from tests.report.sample import result
    assert_resilient(result("pass"))
    assert_resilient(result("fail"))
"""


def call(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "--strict-markers", "-p", "no:cacheprovider", *words],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout + done.stderr


def test_a_result_that_is_no_pass_fails_the_test_with_the_reports_first_sentence(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_marked.py").write_text(TESTS)
    said = call(tmp_path)
    assert "1 passed, 1 skipped" in said and "6 failed" in said, said
    assert "the body ran" not in said
    failed = said.partition("test_failed __")[2].partition("\n___")[0]
    assert "FAIL: with redis-down, " in failed and "report.html" in failed, said
    assert "INCONCLUSIVE: " in said.partition("test_cannot_say __")[2].partition("\n___")[0]
    assert "no option 'rats'" in said and "one of 'fail' and 'skip'" in said and "has no marker resilience" in said
    failures = said.partition("= FAILURES =")[2].partition("= short test summary")[0]
    assert not any(noise in failures for noise in ("Traceback", "traceback", "plugin.py", "During handling")), said


def test_who_does_not_use_it_does_not_load_it(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import sys\ndef test_it():\n"
        "    assert sorted(m for m in sys.modules if m.partition('.')[0] in ('harness', 'faults', 'msgspec')) == [\n"
        "        'harness', 'harness.pytest_plugin', 'harness.pytest_plugin.plugin']\n"
    )
    said = call(tmp_path, "-p", "no:locust", "-W", "error")
    assert "1 passed" in said, said


def test_a_system_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(harness_stack):\n    pass\n")
    said = call(tmp_path)
    assert "harness.toml: cannot be read: No such file or directory" in said and "Traceback" not in said, said


def test_it_is_made_of_the_public_api_alone() -> None:
    tree = ast.parse((ROOT / "harness" / "pytest_plugin" / "plugin.py").read_text(encoding="utf-8"))
    found = {one.module for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)}
    assert {name for name in found if name and name.startswith("harness")} == {"harness", "harness.api"}


@pytest.mark.parametrize("flag", ["--resilience-config", "--resilience-out", "--resilience-wait", "resilience(fault"])
def test_the_page_has_every_option(flag: str) -> None:
    assert flag in (ROOT / "docs" / "pytest.md").read_text(encoding="utf-8")
