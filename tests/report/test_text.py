"""Outside text cannot act in any place it is shown in."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.report.sentences import text

ANY = st.text(st.characters(), max_size=60)


@given(ANY)
def test_visible_leaves_no_control_or_format_character(outside: str) -> None:
    shown = text.visible(outside)
    assert shown.isprintable() or all(c.isprintable() or c.isspace() for c in shown)
    assert not {"\n", "\r", "\x1b", "\u202e", "\u2028", "\x9b"} & set(shown)


@pytest.mark.parametrize(
    "name",
    [
        "##vso[task.complete result=Succeeded;]",
        "x ##[error]y",
        "###[add-mask]y",
        "##teamcity[testFinished name='y']",
        "::add-mask::PASS",
        "a ::error file=b.py,line=1::c",
    ],
)
def test_a_name_is_no_command_to_the_runner_of_a_ci_job(name: str) -> None:
    command = re.compile(r"##[\w.]*\[|::[a-z-]+( .*)?::")
    assert command.search(name)
    assert not command.search(text.visible(name)) and not command.search(text.visible_lines(name))
    printed = text.visible_lines(json.dumps({name: [name]}))
    assert not command.search(printed) and json.loads(printed) == {name: [name]}


@pytest.mark.parametrize("name", ["http://[::1]:8000/", "fe80::1::", "## Targets", "a::b", "GET /a#b[c]", "x: y"])
def test_what_is_no_command_is_left_as_it_is(name: str) -> None:
    assert text.visible(name) == text.visible_lines(name) == name


def test_long_text_says_how_much_is_missing() -> None:
    assert text.visible("x" * 10_000, 10) == "xxxxxxxxxx... (9,990 more characters)"
    assert text.visible("x" * 12, 10) == "x" * 12, "no shorter with the words for what is missing"
    assert text.visible("x" * 34, 10) == "x" * 34 and text.visible("x" * 35, 10).endswith("... (25 more characters)")


@given(ANY)
def test_markdown_cells_stay_one_cell_of_plain_text(outside: str) -> None:
    page = f"| a | b |\n| --- | --- |\n| x{text.markdown_escape(outside)}x | end |\n"
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)
    cells = [t for t in tokens if t.type == "inline" and t.map and t.map[0] == 2]
    assert len(cells) == 2
    children = cells[0].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert (
        "".join(c.content for c in children) == html.unescape(f"x{text.visible(outside)}x").rstrip() or "&" in outside
    )


@pytest.mark.parametrize("link", ["http://evil.example", "www.evil.example"])
def test_markdown_makes_no_link_of_an_address(link: str) -> None:
    shown = text.markdown_escape(link)
    assert link not in shown
    assert MarkdownIt("commonmark").render(shown) == f"<p>{link}</p>\n"


@given(ANY)
def test_markdown_code_shows_the_text_itself(outside: str) -> None:
    page = f"| a | b |\n| --- | --- |\n| {text.markdown_code(outside)} | end |\n"
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(page)
    cells = [t for t in tokens if t.type == "inline" and t.map and t.map[0] == 2]
    assert len(cells) == 2
    if text.visible(outside).strip():
        assert [c.type for c in cells[0].children or []] == ["code_inline"]


@given(ANY)
def test_xml_takes_anything(outside: str) -> None:
    node = ET.Element("a", {"name": text.xml_clean(outside)})
    node.text = text.xml_clean(outside)
    assert ET.fromstring(ET.tostring(node, encoding="unicode")).text == (text.xml_clean(outside) or None)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "n/a"), (0.0, "0%"), (0.00001, "0.001%"), (0.9999, "99.99%"), (1.0, "100%"), (0.124, "12.4%")],
)
def test_percent_neither_hides_a_failure_nor_claims_all(value: float | None, shown: str) -> None:
    assert text.percent(value) == shown


def test_clock() -> None:
    assert [text.clock(v) for v in (0, 7.9, 83, 3723)] == ["0:00", "0:07", "1:23", "1:02:03"]


@pytest.mark.parametrize(("width", "name"), [(20, "short"), (20, "/a/very/long/path/to/a/thing/{id}"), (3, "abcdef")])
def test_shorten_fits(width: int, name: str) -> None:
    assert len(text.shorten(name, width)) <= width
