"""docs/suites.md names every key of a suite file, its example is one; docs/suite-result.md has every field."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from harness.model.records.many_runs import suite as records
from harness.plan.suite.profile import PARAMS, PROFILES, QUICK, STANDARD
from harness.plan.suite.suite_file import _KEYS, _TOP, SHARED, decode, is_suite

DOCS = Path(__file__).resolve().parents[3] / "docs"
PAGE = (DOCS / "suites.md").read_text("utf-8")


def keys(heading: str, page: str = PAGE) -> list[str]:
    """The code spans of a table's first column."""
    _, _, rest = page.partition(f"| {heading} |")
    rows = rest.split("\n\n")[0].splitlines()[2:]
    return [key for row in rows for key in re.findall(r"`([^`]+)`", row.split("|")[1])]


def test_every_key_has_a_row() -> None:
    assert sorted(keys("key at the top")) == sorted(_TOP)
    assert sorted(keys("key of an experiment")) == sorted(_KEYS)


def test_the_example_is_a_suite_with_every_key_of_its_own() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert is_suite(block.encode(), "x")
    file = decode(block.encode(), "x")
    assert file.title and file.profile and file.exclude and file.allow and set(file.settings) <= set(SHARED)
    (_, item) = file.items
    assert item.targets and item.may_fail and item.must_hold and item.weight == 2 and item.settings == {"fault_s": 30}


def test_the_profiles_have_the_faults_of_the_page() -> None:
    rows = {
        row.split("|")[1].split("`")[1]: row
        for row in PAGE.splitlines()
        if row.startswith("| `quick`") or row.startswith("| `standard`")
    }
    assert tuple(rows) == PROFILES and PARAMS == {"latency": "latency=300ms"}
    for name, kinds in (("quick", QUICK), ("standard", STANDARD)):
        said = rows[name].split("|")[2].partition(";")[0].replace(" 300 ms", "").partition(", and")[0]
        assert tuple(said.strip().split(", ")) == kinds


@pytest.mark.parametrize(
    ("heading", "record"),
    [
        ("Top level", records.SuiteResult),
        ("Experiment", records.ExperimentResult),
        ("Attempt", records.Attempt),
        ("Cell", records.Cell),
        ("Score", records.Score),
        ("Excluded", records.Excluded),
    ],
)
def test_every_field_of_suite_json_has_a_row(heading: str, record: type[msgspec.Struct]) -> None:
    page = (DOCS / "suite-result.md").read_text("utf-8")
    section = page.partition(f"\n## {heading}\n")[2].split("\n## ")[0]
    assert sorted(keys("field", section)) == sorted(record.__struct_fields__)


def test_what_is_a_suite_and_what_is_one_experiment() -> None:
    assert is_suite(b"profile: quick", "x") and is_suite(b"experiments: []", "x")
    assert not is_suite(b"faults: [redis-down]", "x") and not is_suite(b"- profile", "x")
