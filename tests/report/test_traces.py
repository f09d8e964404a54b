"""Trace ids in the reports: shown, links where somebody said where, and no markup or script by either."""

from __future__ import annotations

import msgspec
import pytest

from harness.model.records.plan import Plan
from harness.model.records.result import ErrorResult, Result, SlowRequest
from harness.report import markdown
from harness.report.html import tables

from .sample import plan_of, result

SLOW, FAILED = "ab" * 16, "0123456789abcdef" * 2


def told(trace_url: str = "") -> tuple[Plan, Result]:
    errors = (ErrorResult(kind="timeout", name="<b>|x", count=9, first_s=1, last_s=2, example="e", traces=(FAILED,)),)
    slowest = (SlowRequest(name="[GET](x)", phase="fault", at_s=70.1, ms=1234.5, trace_id=SLOW),)
    plan = msgspec.structs.replace(plan_of("fail"), trace_url=trace_url)
    return plan, msgspec.structs.replace(result("fail"), errors=errors, slowest=slowest)


def test_ids_are_there_without_links() -> None:
    rows = tables.traces(*told()).rows
    assert [row.cells[-1].text for row in rows] == [FAILED, SLOW]
    assert not any(cell.link for row in rows for cell in row.cells)
    text = markdown.render(*told())
    assert f"| \\[GET\\](x) | among the slowest | fault | 1.23s | {SLOW} |" in text
    assert f"| {FAILED} |" in text


def test_the_template_makes_them_links() -> None:
    plan, found = told("https://tempo.example/trace/{trace_id}")
    assert tables.traces(plan, found).rows[0].cells[-1].link == f"https://tempo.example/trace/{FAILED}"
    assert f"[{SLOW}](https://tempo.example/trace/{SLOW})" in markdown.render(plan, found)


def test_without_ids_there_is_no_table() -> None:
    assert not tables.traces(plan_of("fail"), result("fail")).rows
    assert "## Trace ids" not in markdown.render(plan_of("fail"), result("fail"))


@pytest.mark.parametrize("url", ["javascript:alert(1)//{trace_id}", 'https://x/{trace_id}"onclick="', "https://x/"])
def test_a_plan_with_another_kind_of_link_is_damaged(url: str) -> None:
    plan = msgspec.structs.replace(plan_of("fail"), trace_url=url)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(plan), type=Plan)


@pytest.mark.parametrize("trace_id", ["<b>" + "a" * 29, "A" * 32, "a" * 33, "a" * 32 + "\n"])
def test_a_result_with_another_kind_of_id_is_damaged(trace_id: str) -> None:
    _, found = told()
    found = msgspec.structs.replace(found, slowest=(msgspec.structs.replace(found.slowest[0], trace_id=trace_id),))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(found), type=Result)
