"""What people see, character by character. A change here is a change that users notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.report import junit, markdown
from harness.report.terminal import summary as terminal

from .sample import Kind, plan_of, result

KINDS: tuple[Kind, ...] = ("fail", "pass", "inconclusive", "interrupted", "control", "hostile")
Golden = Callable[[str, str], None]


@pytest.mark.parametrize("kind", KINDS)
def test_summary(kind: Kind, golden: Golden) -> None:
    text = terminal.summary(plan_of(kind), result(kind), "runs/x", width=100, colour=False)
    golden(f"summary-{kind}.txt", text + "\n")


def test_summary_on_a_narrow_terminal(golden: Golden) -> None:
    golden("summary-fail-80.txt", terminal.summary(plan_of("fail"), result("fail"), "runs/x", width=80, colour=False))


def test_summary_in_colour(golden: Golden) -> None:
    golden("summary-fail.ansi", terminal.summary(plan_of("fail"), result("fail"), "runs/x", width=100, colour=True))


@pytest.mark.parametrize("kind", KINDS)
def test_markdown(kind: Kind, golden: Golden) -> None:
    golden(f"report-{kind}.md", markdown.render(plan_of(kind), result(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_junit(kind: Kind, golden: Golden) -> None:
    golden(f"junit-{kind}.xml", junit.render(plan_of(kind), result(kind)))
