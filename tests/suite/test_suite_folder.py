"""What a suite leaves in its folder, and the one exit code of many experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.analysis.suite.suite_file import GATE, SUITE, read_suite
from harness.model.errors import SetupError
from harness.model.exit_codes import ExitCode
from harness.model.records.many_runs.gate import GateResult
from harness.suite.outcome import exit_code
from harness.suite.run import folder_name, write_suite
from tests.analysis.suite.suites import attempt, experiment, suite


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("redis-latency", "03-redis-latency"),
        ("slow database", "03-slow-database"),
        ("../../etc/passwd", "03-etc-passwd"),
        ("..", "03-experiment"),
        ("\x1b[31mé\n", "03-31m"),
        ("x" * 300, "03-" + "x" * 60),
    ],
)
def test_a_folder_is_named_for_its_experiment_and_lies_in_the_suites(name: str, folder: str) -> None:
    assert folder_name(3, name) == folder


def test_a_comparison_of_before_does_not_stay(tmp_path: Path) -> None:
    told: list[str] = []
    found = suite(experiment("redis-down", attempt("held")))
    write_suite(tmp_path, found, GateResult(exit_code=0, sentence="passed"), told.append)
    assert (tmp_path / GATE).exists() and read_suite(tmp_path) == found
    write_suite(tmp_path, found, None, told.append)
    assert sorted(path.name for path in tmp_path.iterdir()) == [SUITE] and not told


def test_the_worst_that_occurs_is_the_exit_code() -> None:
    held, broken = experiment("a", attempt("held")), experiment("b", attempt("broken"))
    unknown, not_run = experiment("c", attempt("unknown")), experiment("d", why="the time was up")
    assert exit_code([held], None, interrupted=False, left=False) == ExitCode.PASS
    assert exit_code([held, not_run], None, interrupted=False, left=False) == ExitCode.INCONCLUSIVE
    assert exit_code([held, unknown, broken], None, interrupted=False, left=False) == ExitCode.FAIL
    mostly = experiment("e", attempt("held"), attempt("held"), attempt("broken"))
    assert exit_code([mostly], None, interrupted=False, left=False) == ExitCode.PASS
    failed = SetupError("no stack")
    assert exit_code([broken, not_run], failed, interrupted=False, left=False) == ExitCode.HARNESS_FAILED
    assert exit_code([broken], failed, interrupted=True, left=False) == ExitCode.INTERRUPTED
    assert exit_code([broken], failed, interrupted=True, left=True) == ExitCode.UNDO_UNVERIFIED
