"""`harness init` on invented projects: right, or refused by name; never wrong. Compose itself is asked each time."""

from __future__ import annotations

import pytest

from tests.scaffold.judging import judge
from tests.scaffold.projects import CASES

# With the tests on containers, which have built a Compose by then.
pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("compose_v2")]


@pytest.mark.parametrize("case", CASES, ids=[one.name for one in CASES])
def test_who_is_to_be_led_through_is_and_nobody_else(case) -> None:  # type: ignore[no-untyped-def]
    verdict, why = judge(case)
    assert verdict == ("refused" if case.refused else "right"), why


def test_the_table_has_each_kind_of_trouble_once_and_few_that_cannot_be_led() -> None:
    names = [one.name for one in CASES]
    assert len(names) == len(set(names)) >= 40
    assert sum(not one.refused for one in CASES) >= 36
