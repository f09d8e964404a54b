"""One after the other the operator's browser, the console's process and the conductor are killed, each in another
sort of drill of one game day. All of them in all sorts: benchmarks/game_day_kills.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.e2e.kills import Cases, kill_each, untrue
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

CASES: Cases = (("normal", "browser"), ("blind", "console"), ("aborted before", "conductor"))


def test_whoever_is_killed_everything_is_healed_and_the_record_says_so(stack: StandingStack, tmp_path: Path) -> None:
    with sync_playwright() as playwright:
        found = kill_each(tmp_path / "day", stack, playwright, CASES)
    assert [(one.sort, one.victim) for one in found] == list(CASES)
    for one in found:
        assert untrue(one) == [], (one.sort, one.victim, one.said, one.cautions)
