"""One standing stack for all tests of a process, one after the other, that only need some stack which outlives their
runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.standing import StandingStack


class _Kept:
    stack: StandingStack | None = None
    original: dict[str, Any] | None = None

    def drop(self) -> None:
        stack, self.stack = self.stack, None
        if stack is not None:
            stack.harness("heal", "--all")  # what a failed test left must not keep the stack up
            stack.down()


KEPT = _Kept()


@pytest.fixture(scope="session")
def _kept() -> Iterator[_Kept]:
    yield KEPT
    KEPT.drop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Where the next test is none of these, the stack goes: one that nobody uses costs a twentieth of a processor."""
    yield
    if nextitem is None or nextitem.path.parent != item.path.parent:
        KEPT.drop()


@pytest.fixture
def stack(_kept: _Kept, tmp_path_factory: pytest.TempPathFactory) -> StandingStack:
    """A standing stack as it was when it came up; one that a failed test left broken is replaced."""
    if _kept.stack is not None:
        try:
            sound = _kept.stack.snapshot() == _kept.original and _kept.stack.healthy()
        except Exception:
            sound = False
        if not sound:
            _kept.drop()
    if _kept.stack is None:
        _kept.stack = StandingStack(tmp_path_factory.mktemp("stack"))
        _kept.original = _kept.stack.snapshot()
    return _kept.stack
