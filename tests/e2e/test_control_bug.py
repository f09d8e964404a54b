"""A fault from somebody's package that has a bug ends the run by the one way out; it never hangs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.life import brief_run
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

MODULE = """
from faults.toxiproxy import Down


class Buggy(Down):
    kind = "buggy"

    def capture(self, change, record_id):
        return 1 / 0


BUGGY = Buggy()
"""


def test_a_fault_whose_capture_has_a_bug_ends_the_run_with_nothing_injected(
    stack: StandingStack, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    info = package / "buggy_fault-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "buggy_fault.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: buggy-fault\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness.faults]\nbuggy = buggy_fault:BUGGY\n")
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-buggy", env={"PYTHONPATH": str(package)})
    try:
        assert run.end() == 3, run.text()
        assert any("internal error: ZeroDivisionError" in reason for reason in run.result()["reasons"])
        assert not any(event["event"] == "fault_requested" for event in run.events())
        assert stack.snapshot() == before
    finally:
        run.kill_group()
