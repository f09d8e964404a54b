"""A page without a mouse."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page

MOST_TABS = 120


def tab_to(page: Page, what: str) -> None:
    """Press Tab until the focus is on what that selector names, from where it is."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if page.evaluate("(what) => document.activeElement.matches(what)", what):
            return
    pytest.fail(f"no Tab reaches {what}")
