"""docs/faults.md is true: every kind is on it with its parameters and defaults."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.fault import registered
from harness.plan.fault_text import NONE

PAGE = (Path(__file__).parent.parent.parent / "docs" / "faults.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", registered())
def test_every_kind_is_in_the_table_with_its_parameters(kind: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{kind}` |")]
    for info in registered()[kind].params:
        assert f"`{info.name}` ({info.default or 'must be given'}" in row


def test_the_table_has_no_kind_that_does_not_exist() -> None:
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == {*registered(), NONE}
