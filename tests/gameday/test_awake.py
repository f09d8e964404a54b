"""Sleep is held off while a game day goes on, where the system can."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.gameday.awake import PROGRAM, awake
from tests.e2e.observe import wait_until


def inhibitor(folder: Path, script: str) -> None:
    program = folder / PROGRAM
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_it_is_held_off_until_the_day_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inhibitor(tmp_path, f'echo "$@" > {tmp_path}/asked; cat; echo over > {tmp_path}/over')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with awake("a drill") as held_off:
        assert held_off and wait_until(lambda: (tmp_path / "asked").exists(), 5)
        assert "--what=sleep:idle" in (tmp_path / "asked").read_text() and not (tmp_path / "over").exists()
    assert wait_until(lambda: (tmp_path / "over").exists(), 5)


def test_a_system_that_refuses_is_not_said_to_hold_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inhibitor(tmp_path, "exit 1")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with awake("a drill") as held_off:
        assert not held_off


def test_nor_one_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with awake("a drill") as held_off:
        assert not held_off
