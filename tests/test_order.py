"""The suite's own order: every test runs once, the long files first on each worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.suite.order import SECONDS, SINGLY, TOGETHER, WHOLE_RUNS, group, longest_first

ROOT = Path(__file__).parent.parent


def suite(short: int) -> list[str]:
    tests = [f"{file}::test_{number}" for file in SECONDS for number in range(5)]
    return sorted(tests + [f"tests/plan/test_short.py::test_{number}" for number in range(short)])


@pytest.mark.parametrize("workers", [2, 3, 4])
@pytest.mark.parametrize("short", [0, 7, 2000])
def test_every_test_runs_once(workers: int, short: int) -> None:
    tests = suite(short)
    assert sorted(longest_first(tests, workers)) == list(range(len(tests)))


def test_each_worker_begins_with_its_share_of_the_long_files() -> None:
    tests = suite(3000 - 5 * len(SECONDS))
    order = [tests[place].partition("::")[0] for place in longest_first(tests, 3)]
    share = len(tests) // 3
    stretches = order[:share], order[share : 2 * share], order[2 * share :]
    work = []
    for stretch in stretches:
        files = list(dict.fromkeys(stretch))
        bundles = list(dict.fromkeys(next((one for one in TOGETHER if file in one), (file,)) for file in files))
        assert files == [file for one in bundles for file in files if file in one], "a bundle stays in one piece"
        lengths = [sum(SECONDS.get(file, 0) for file in one) for one in bundles]
        assert lengths[-1] == 0 and lengths == sorted(lengths, reverse=True), files
        work.append(sum(SECONDS[file] for file in files[:-1]))
    assert max(work) - min(work) < 0.1 * max(work), work
    assert sum(len(set(stretch)) - 1 for stretch in stretches) == len(SECONDS), "a file stays in one stretch"
    for bundle in TOGETHER:
        assert sum(not set(bundle).isdisjoint(stretch) for stretch in stretches) == 1, bundle


def test_a_file_is_in_one_bundle_and_its_length_is_known() -> None:
    bundled = [file for bundle in TOGETHER for file in bundle]
    assert len(bundled) == len(set(bundled)) and set(bundled) <= SECONDS.keys()


def test_tests_that_share_servers_are_dealt_together() -> None:
    one = "tests/docker/test_compose_contract.py::test_a_fault[compose-redis-down]"
    assert group(one) == group(one.replace("redis-down", "db-pause"))
    file = "tests/docker/test_compose_headline.py"
    assert group(f"{file}::test_a") == group(f"{file}::test_b[x]") != group(one)
    file = "tests/docker/test_compose_stack.py"
    whole = {group(test) for test in (f"{file}::{name}" for name in WHOLE_RUNS)}
    assert whole == {group(f"{file}::{WHOLE_RUNS[0]}_and_more")} != {group(f"{file}::test_kill_9[starting]")}
    assert all(f"def {name}" in (ROOT / file).read_text("utf-8") for name in WHOLE_RUNS)
    assert group(f"{file}::test_kill_9[starting]") == group(f"{file}::test_kill_9[fault]")
    for file in SINGLY:
        assert group(f"{file}::test_a") != group(f"{file}::test_b")
    assert group("tests/plan/test_a.py::test_a") != group("tests/plan/test_a.py::test_b")


def test_what_lies_with_the_tests_on_an_engine_is_run_with_them() -> None:
    """`.ci/test` looks nowhere in there, and `.ci/docker` for this mark."""
    unmarked = [
        path.name for path in (ROOT / "tests/docker").glob("test_*.py") if "mark.docker" not in path.read_text()
    ]
    assert unmarked == []


def test_the_long_files_exist() -> None:
    assert [file for file in SECONDS.keys() | SINGLY if not (ROOT / file).is_file()] == []
