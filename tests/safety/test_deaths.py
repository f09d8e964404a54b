"""Whoever dies, the change is gone: seen through Toxiproxy's raw API, from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.model.errors import Refused
from harness.model.paths import state_dir
from harness.safety.healing.dead_run import heal_all, heal_run
from harness.safety.journal.view import read_journal
from harness.safety.locks.local import acquire
from harness.safety.state_folders import find_active
from tests.safety.world import Proxy, call, gone, stop, wait_for

pytestmark = pytest.mark.stack

LATENCY = ["latency", {"latency": 0.2, "jitter": 0.0, "direction": "both"}]
DOWN = ["down", {}]
SLEEP = {"name": "sleeper", "argv": ["sleep", "600"], "env": {"PATH": os.environ["PATH"]}}


def quiet(_: str) -> None:
    pass


def on(proxy: Proxy, *faults: Any, **more: Any) -> dict[str, Any]:
    return {"dependency": msgspec.to_builtins(proxy.dependency()), "faults": list(faults), **more}


def test_a_killed_run_has_its_faults_undone_in_the_right_order(proxy: Proxy, start_run: Any, tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "run-1"
    run_dir.mkdir(parents=True)
    run = start_run(**on(proxy, LATENCY, DOWN, run_dir=str(run_dir), locks=["target"]))
    run.wait("injected")
    assert len(proxy.toxics()) == 2 and proxy.state()["enabled"] is False
    run.kill()
    wait_for("toxics removed and proxy enabled", proxy.clean)
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    # Nothing is left in the state directory; the record went to the run's directory.
    assert not run.state.exists()
    view = read_journal(run_dir)
    assert [view.states[record.id] for record in view.records] == ["verified", "verified"]
    acquire(["target"], "next").release()


def test_a_stopped_run_loses_its_lease_and_cannot_come_back(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY, lease_s=4.0))
    run.wait("injected")
    run.kill(signal.SIGSTOP)
    wait_for("toxics removed", proxy.clean)
    # It was ended while it was stopped: waking it up changes nothing.
    run.kill(signal.SIGCONT)
    assert run.process.wait(30) == -signal.SIGKILL
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    assert proxy.clean()


def test_a_run_that_renews_its_lease_is_left_alone(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY, lease_s=4.0))
    run.wait("injected")
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(6)
    assert len(proxy.toxics()) == 2
    run.kill(signal.SIGTERM)
    assert run.wait("undone") == ["verified"]
    assert run.process.wait(30) == 0


def test_a_run_without_its_keeper_undoes_everything_itself(proxy: Proxy, start_run: Any, tmp_path: Path) -> None:
    server = {**SLEEP, "cwd": str(tmp_path), "log": str(tmp_path / "log")}
    run = start_run(**on(proxy, LATENCY, DOWN, servers=[server]))
    run.wait("injected")
    os.kill(run.said["keeper"], signal.SIGKILL)
    wait_for("the keeper's server gone", lambda: gone(run.said["sleeper"]))
    assert run.wait("ending") == "the keeper died"
    assert run.wait("undone") == ["verified", "verified"]
    assert proxy.clean()
    assert run.wait("finished")["left"] == []
    assert run.process.wait(30) == 0


def test_a_silent_keeper_is_ended_before_the_run_undoes(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY, lease_s=4.0))
    run.wait("injected")
    stop(run.said["keeper"])
    assert "silent" in run.wait("ending")
    assert run.wait("undone") == ["verified"]
    assert gone(run.said["keeper"])
    assert run.process.wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_keeper_makes_the_run_end_well(
    proxy: Proxy, start_run: Any, number: int, tmp_path: Path
) -> None:
    server = {**SLEEP, "cwd": str(tmp_path), "log": str(tmp_path / "log")}
    run = start_run(**on(proxy, LATENCY, servers=[server]))
    run.wait("injected")
    os.kill(run.said["keeper"], number)
    assert run.wait("ending") == "the keeper was told to stop"
    assert run.wait("undone") == ["verified"]
    report = run.wait("finished")
    assert (report["stopped"], report["hard"], report["outcomes"], report["left"]) == (["sleeper"], [], [], [])
    assert run.process.wait(30) == 0
    assert gone(run.said["keeper"]) and gone(run.said["sleeper"]) and proxy.clean()


def test_both_killed_then_heal_in_another_process(
    proxy: Proxy, start_run: Any, tmp_path: Path, state_home: Path
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    server = {**SLEEP, "cwd": str(folder), "log": str(tmp_path / "log")}
    run = start_run(**on(proxy, LATENCY, DOWN, servers=[server], folder=str(folder), locks=["target"]))
    run.wait("injected")
    stop(run.said["keeper"])  # it must not get a chance
    run.kill()
    os.kill(run.said["keeper"], signal.SIGKILL)
    run.process.wait(30)
    wait_for("the keeper's server gone", lambda: gone(run.said["sleeper"]))
    assert proxy.state()["enabled"] is False

    # The lock files are free for the kernel, but what is broken still stands in the way of the next run.
    with pytest.raises(Refused, match="ended and left changes behind"):
        acquire(["target"], "next")
    (left,) = find_active()
    assert left.folder == run.state and len(left.pending) == 2

    done = subprocess.run(
        [sys.executable, "-c", "from harness.cli import main; main()", "heal", run.name],
        env={**os.environ, "XDG_STATE_HOME": str(state_home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("undone and verified") == 2 and str(folder) in done.stdout
    assert proxy.clean() and not folder.exists() and not run.state.exists()
    assert find_active() == [] and heal_all(quiet) == []
    acquire(["target"], "next").release()


def test_killed_between_intent_and_answer_it_is_read_back_until_it_stays_clean(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY, stop_after="inject"))
    run.wait("injected")
    os.kill(run.said["keeper"], signal.SIGKILL)
    run.kill()
    run.process.wait(30)
    said: list[str] = []
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    view = read_journal(run.state)
    assert view.unsure
    healed = heal_run(run.state, said.append)
    assert [outcome.state for outcome in healed.outcomes] == ["verified"] and proxy.clean()
    assert any("outcome was unknown" in line for line in said)


def test_a_record_without_its_injection_needs_no_undo(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY, stop_after="record"))
    run.wait("injected")
    run.kill()
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    assert not run.state.exists() and proxy.clean()


def test_past_its_deadline_a_fault_is_taken_off_by_the_keeper(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY, deadline_s=2.0))
    run.wait("injected")
    wait_for("toxics removed", proxy.clean)
    # The run that overslept is the other writer: it is gone.
    assert run.process.wait(30) == -signal.SIGKILL


def test_the_lock_outlives_the_run_until_its_keeper_has_healed(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY, locks=["target", "redis"]))
    run.wait("injected")
    with pytest.raises(Refused, match=rf"redis is in use by run run-1 .*pid {run.process.pid}"):
        acquire(["redis"], "second")
    stop(run.said["keeper"])
    run.kill()
    run.process.wait(30)
    with pytest.raises(Refused, match="in use by run run-1"):
        acquire(["redis"], "second")
    os.kill(run.said["keeper"], signal.SIGCONT)
    wait_for("keeper gone", lambda: gone(run.said["keeper"]))
    assert proxy.clean()
    acquire(["redis"], "second").release()


def test_a_repair_by_somebody_else_is_left_alone_and_told(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY))
    run.wait("injected")
    os.kill(run.said["keeper"], signal.SIGKILL)
    run.kill()
    run.process.wait(30)
    name = proxy.toxics()[0]
    call("POST", f"{proxy.url}/toxics/{name}", {"attributes": {"latency": 7, "jitter": 0}})
    (healed,) = heal_all(quiet)
    assert [outcome.state for outcome in healed.outcomes] == ["unverified"]
    assert name in healed.left[0] and "curl -X DELETE" in healed.left[0]
    assert run.state.exists() and name in proxy.toxics()
    # Once it is mended by hand, heal sees it and clears up.
    call("DELETE", f"{proxy.url}/toxics/{name}")
    (healed,) = heal_all(quiet)
    assert healed.left == () and not run.state.exists() and proxy.clean()


def test_heal_refuses_a_living_run_and_leaves_it_alone(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY))
    run.wait("injected")
    with pytest.raises(Refused, match=rf"still running \(pid {run.process.pid}\)"):
        heal_run(run.state, quiet)
    assert heal_all(quiet) == [] and len(proxy.toxics()) == 2
    assert find_active() == []


def test_heal_waits_for_a_keeper_that_is_healing(proxy: Proxy, start_run: Any) -> None:
    run = start_run(**on(proxy, LATENCY))
    run.wait("injected")
    stop(run.said["keeper"])
    run.kill()
    run.process.wait(30)
    said: list[str] = []

    def told(text: str) -> None:
        said.append(text)
        os.kill(run.said["keeper"], signal.SIGCONT)

    assert heal_run(run.state, told).left == ()
    assert "is healing it" in said[0] and proxy.clean()


def test_what_the_run_forgot_the_keeper_undoes_at_the_end(proxy: Proxy, state_home: Path) -> None:
    from harness.fault import registered
    from harness.safety.journal.journal import Journal
    from harness.safety.keeper.client import Keeper

    folder = state_dir() / "active" / "forgetful"
    keeper = Keeper.start(folder, lease_s=600)
    journal = Journal.create(folder)
    fault = registered()["down"]
    record = fault.capture(fault.plan(proxy.dependency(), {}), "redis-down-1")
    journal.record(record)
    keeper.armed(record.id)
    journal.intent(record.id, "inject")
    fault.inject(record)
    journal.closed()
    report = keeper.finish()
    assert [outcome.state for outcome in report.outcomes] == ["verified"] and report.left == ()
    assert proxy.clean()
    journal.close()
