"""The command that carries one experiment of a suite out again."""

from __future__ import annotations

import shlex

import pytest

from harness.plan.experiment import Experiment
from harness.plan.suite.suite_file import decode
from harness.suite.outcome import command_for
from harness.suite.prepare import PlannedItem, plan_suite

FILE = b"""
experiments:
  - redis-down
  - {name: "away [1]", faults: [redis-down], may_fail: ["GET /health"]}
"""


@pytest.fixture(scope="module")
def planned() -> tuple[PlannedItem, ...]:
    return plan_suite(Experiment(stack="embedded", recovery_limit_s=70.0), None, file=decode(FILE, "suite.yaml")).items


def test_a_run_says_all_that_the_experiment_says(planned: tuple[PlannedItem, ...]) -> None:
    words = shlex.split(command_for(planned[0], "harness suite suite.yaml"))
    assert words[:4] == ["harness", "run", "--fault", "redis-down"]
    assert words[words.index("--recovery-limit") + 1] == "1m10s"


@pytest.mark.parametrize(
    ("whole", "again"),
    [
        ("harness suite suite.yaml --seed 7", "harness suite suite.yaml --seed 7 --only 'away [[]1]'"),
        (
            "harness suite s.yaml --only 'a*' --only=b --time-limit 1h --rate 9",
            "harness suite s.yaml --rate 9 --only 'away [[]1]'",
        ),
        ("harness gameday plan.yaml", ""),
        ("harness suite 'never closed", ""),
        ("harness suite s.yaml; rm -rf x", ""),
        ("", ""),
    ],
)
def test_what_may_fail_is_said_by_no_option_of_a_run(planned: tuple[PlannedItem, ...], whole: str, again: str) -> None:
    assert command_for(planned[1], whole) == again
