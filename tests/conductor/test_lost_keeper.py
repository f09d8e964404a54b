"""The keeper of somebody else's system dies with a fault on: the run undoes it at once, and waits for nothing."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.conductor import fault_runner as module
from harness.conductor.fault_runner import FaultRunner
from harness.conductor.recording.history import History
from harness.fault import registered
from harness.model.clock import monotonic
from harness.model.paths import state_dir
from harness.model.records.plan import Plan
from harness.safety.journal.journal import Journal
from harness.safety.keeper.client import Keeper
from tests.safety.conftest import proxy, state_home
from tests.safety.world import Proxy, wait_for

__all__ = ["proxy", "state_home"]

pytestmark = pytest.mark.stack

LIMIT_S = 120.0


def test_a_run_whose_keeper_had_no_servers_waits_for_none(
    proxy: Proxy, state_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The wait for the servers of a keeper that had some is made far longer than this test may take.
    monkeypatch.setattr(module, "SERVERS_DIE_S", 100 * LIMIT_S)
    keeper = Keeper.start(state_dir() / "active" / "run-1", lease_s=600)
    journal = Journal.create(keeper.state_dir, owner="run-1")
    fault = registered()["down"]
    change = fault.plan(proxy.dependency(), {})
    planned = SimpleNamespace(id="redis-down", change=change, spec=SimpleNamespace(kind="down"), for_s=5.0)
    history = History(tmp_path / "history.jsonl", "run-1", lambda _: None)
    history.start(monotonic())
    plan = cast(Plan, SimpleNamespace(faults=(planned,)))
    faults = FaultRunner(plan, registered(), history, journal, keeper, say=lambda _: None, restart_toxiproxy=None)
    record = fault.capture(change, planned.id)
    journal.record(record)
    faults._runs[planned.id].record = record
    faults.inject(planned.id)
    assert proxy.state()["enabled"] is False
    os.kill(keeper.pid, signal.SIGKILL)
    wait_for("the run notices", lambda: keeper.lost)

    answers: list[Any] = []
    undo = threading.Thread(target=lambda: answers.append(faults.undo(planned.id, hurry=True)), daemon=True)
    undo.start()
    wait_for("the undo", lambda: not undo.is_alive(), LIMIT_S)
    assert answers[0].verified and proxy.clean()
    journal.closed()
    journal.close()
    assert keeper.finish().left == ()
