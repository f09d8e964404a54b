"""report.md read by a real Markdown parser."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from harness.report import markdown

from .sample import Kind, plan_of, result


@pytest.mark.parametrize("kind", ["fail", "pass", "inconclusive", "interrupted", "control", "hostile"])
def test_no_outside_text_becomes_markup(kind: Kind) -> None:
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = parser.parse(markdown.render(plan_of(kind), result(kind)))
    inline = [child for token in tokens for child in token.children or []]
    assert not [t for t in [*tokens, *inline] if t.type in ("html_block", "html_inline", "link_open", "image")]
    assert {t.tag for t in tokens if t.type == "heading_open"} == {"h1", "h2"}


def test_every_row_has_as_many_cells_as_its_header() -> None:
    text = markdown.render(plan_of("hostile"), result("hostile"))
    tables = [block for block in text.split("\n\n") if block.startswith("| ")]
    assert len(tables) >= 5
    for table in tables:
        counts = {row.replace("\\|", "").count("|") for row in table.splitlines()}
        assert len(counts) == 1, table


def test_the_command_that_repeats_the_run_has_its_seed() -> None:
    text = markdown.render(plan_of("fail"), result("fail"))
    assert "harness run --fault redis-down --scenario target --seed 1742" in text
