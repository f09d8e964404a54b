"""Golden files: HARNESS_UPDATE_GOLDEN=1 writes them anew; look at the difference before committing it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("golden")


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """golden(name, text): text equals the file of that name."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if os.environ.get("HARNESS_UPDATE_GOLDEN") == "1":
            GOLDEN.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{name} is not there: run with HARNESS_UPDATE_GOLDEN=1"
        assert text == path.read_text(encoding="utf-8")

    return compare
