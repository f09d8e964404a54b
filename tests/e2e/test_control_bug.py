"""A fault from somebody's package that has a bug ends the run by the one way out; it never hangs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.life import brief_run
from tests.e2e.standing import StandingStack

pytestmark = [pytest.mark.stack, pytest.mark.slow]

MODULE = """
from faults.proxy.down import Down


class Buggy(Down):
    kind = "buggy"

    def capture(self, change, record_id):
        return 1 / 0


BUGGY = Buggy()
"""


LATER = """
import msgspec

from faults.servers.flush import Flush
from faults.proxy.down import Down


class Lasting(Down):
    kind = "lasting"

    def prove(self, record, stage):
        return super().prove(record, stage) if stage == "injected" else [][0]


class Once(Flush):
    kind = "once"

    def plan(self, dependency, params):
        return msgspec.structs.replace(super().plan(dependency, params), kind="once")

    def prove(self, record, stage):
        return [][0]


LASTING, ONCE = Lasting(), Once()
"""


def installed(tmp_path: Path, module: str, **faults: str) -> dict[str, str]:
    """A user's package with these kinds of fault. Returns the environment in which it is found."""
    package = tmp_path / "package"
    info = package / "buggy_fault-1.0.dist-info"
    info.mkdir(parents=True)
    (package / "buggy_fault.py").write_text(module)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: buggy-fault\nVersion: 1.0\n")
    lines = [f"{kind} = buggy_fault:{name}\n" for kind, name in faults.items()]
    (info / "entry_points.txt").write_text("[harness.faults]\n" + "".join(lines))
    return {"PYTHONPATH": str(package)}


@pytest.mark.parametrize("kind", ["lasting", "once"])
def test_a_fault_whose_proof_has_a_bug_is_undone_and_not_believed(
    stack: StandingStack, tmp_path: Path, kind: str
) -> None:
    env = installed(tmp_path, LATER, lasting="LASTING", once="ONCE")
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", f"redis-{kind}", env=env)
    try:
        assert run.end() == 3, run.text()
        reasons = run.result()["reasons"]
        assert any("could not be checked: IndexError" in reason for reason in reasons), reasons
        assert any("internal error: IndexError" in reason for reason in reasons), reasons
        assert any(event["event"] == "undo_verified" for event in run.events())
        assert stack.snapshot() == before
    finally:
        run.kill_group()


def test_a_fault_whose_capture_has_a_bug_ends_the_run_with_nothing_injected(
    stack: StandingStack, tmp_path: Path
) -> None:
    env = installed(tmp_path, MODULE, buggy="BUGGY")
    before = stack.snapshot()
    run = brief_run(stack, tmp_path, "--fault", "redis-buggy", env=env)
    try:
        assert run.end() == 3, run.text()
        assert any("internal error: ZeroDivisionError" in reason for reason in run.result()["reasons"])
        assert not any(event["event"] == "fault_requested" for event in run.events())
        assert stack.snapshot() == before
    finally:
        run.kill_group()
