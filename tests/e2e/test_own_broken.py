"""The user's own system while it breaks: what stays dead, what somebody repairs, a secret that `heal` does not have."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.e2e.control import NOTICED_S, left_about, not_proven, reason_about, wait_all_proven
from tests.e2e.life import BRIEF, keeper_of, state_folders
from tests.e2e.observe import HARNESS, Run, family, wait_until
from tests.e2e.own_system import PASSWORD, VARIABLE, OwnSystem

pytestmark = [pytest.mark.stack, pytest.mark.slow]

LONG = ("--fault-for", "60s")
LAWFUL = (*BRIEF, "--rate", "50", "--baseline", "15s", "--fault-for", "10s", "--hold", "20s", "--recovery-limit", "60s")
"""Phases as long as the command itself asks for, where it is not to run at all."""


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnSystem]:
    folder = tmp_path / "own"
    folder.mkdir()
    system = OwnSystem(folder)
    yield system
    system.close()


def harness(own: OwnSystem, *args: str, secret: str | None = PASSWORD) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "XDG_STATE_HOME": str(own.folder / "state")}
    env.pop(VARIABLE, None)
    if secret is not None:
        env[VARIABLE] = secret
    return subprocess.run(
        [str(HARNESS), *args], cwd=own.folder, env=env, capture_output=True, text=True, timeout=180, check=False
    )


def holders(secret: str, folders: list[Path]) -> list[str]:
    return [
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]


@pytest.mark.timeout(400)
def test_heal_without_the_secret_names_it_and_with_it_heals_and_no_output_shows_it(own: OwnSystem) -> None:
    before = own.snapshot()
    run = Run(own.folder, *BRIEF, "--fault", "redis-latency", *LONG, "--debug", env=own.env, shortened=True)
    try:
        wait_all_proven(run, "redis-latency")
        children = family(run.process.pid)
        lines = [Path(f"/proc/{pid}/cmdline") for pid in children]
        assert not [line for line in lines if line.exists() and PASSWORD.encode() in line.read_bytes()]
        # The run first, and at once: its keeper may not have begun to heal.
        os.kill(keeper := keeper_of(run), signal.SIGSTOP)
        run.process.kill()
        os.kill(keeper, signal.SIGKILL)
        run.process.wait(30)
        assert own.snapshot() != before

        without = harness(own, "heal", "--all", secret=None)
        said = without.stdout + without.stderr
        assert without.returncode == 5 and VARIABLE in said and "harness heal --all" in said, said
        assert "Traceback" not in said and state_folders(own.folder / "state")
        healed = harness(own, "heal", "--all")
        assert healed.returncode == 0, healed.stdout + healed.stderr
        assert own.snapshot() == before and not state_folders(own.folder / "state")

        outputs = [without, healed, harness(own, "stack", "status")]
        outputs += [harness(own, "plan", *LAWFUL, "--fault", "redis-latency"), harness(own, "analyze", str(run.dir))]
        outputs += [harness(own, "report", str(run.dir), "--format", kind) for kind in ("html", "json")]
        for secret in ("open-barley-99", None):
            outputs.append(harness(own, "run", *LAWFUL, "--fault", "redis-down", "--debug", secret=secret))
            assert outputs[-1].returncode == 2, outputs[-1].stderr
        for done in outputs:
            for secret in (PASSWORD, "open-barley"):
                assert secret not in done.stdout + done.stderr, done.args
        assert not holders(PASSWORD, [own.folder / "runs", own.folder / "state"])
    finally:
        run.kill_group()


@pytest.mark.thorough
@pytest.mark.timeout(400)
def test_a_toxiproxy_and_a_postgres_that_stay_dead_are_told_well_enough_to_mend_them(own: OwnSystem) -> None:
    faults = ("redis-latency", "db-connection-limit")
    run = Run(
        own.folder,
        *BRIEF,
        *(word for fault in faults for word in ("--fault", fault)),
        *("--fault-for", "10s"),
        env=own.env,
        shortened=True,
    )
    try:
        wait_all_proven(run, *faults)
        with psycopg.connect(own.postgres.admin) as admin:
            row = admin.execute("SHOW data_directory").fetchone()
            assert row is not None
        postmaster = int((Path(row[0]) / "postmaster.pid").read_text().split()[0])
        os.kill(own.toxiproxy_process.pid, signal.SIGKILL)
        os.kill(postmaster, signal.SIGKILL)
        assert wait_until(lambda: set(not_proven(run)) == set(faults) or run.ended(), NOTICED_S * 2), not_proven(run)
        assert run.end() == 5, run.text()
        latency, limit = (left_about(run, fault) for fault in faults)
        assert own.toxiproxy in latency and "cache" in latency and "harness-" in latency, latency
        assert "ALTER ROLE" in limit and str(own.postgres.address.port) in limit, limit
        for told in (latency, limit):
            assert "harness heal" in told and told.split(": ", 1)[1][:40] in run.text().replace("\n", " "), told
        assert state_folders(own.folder / "state"), "what is left stays on record"
    finally:
        run.kill_group()


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_a_paused_process_that_somebody_continues_is_no_proven_pause(own: OwnSystem) -> None:
    run = Run(own.folder, *BRIEF, "--fault", "redis-pause", "--fault-for", "12s", env=own.env, shortened=True)
    try:
        wait_all_proven(run, "redis-pause")
        os.kill(own.redis_pid(), signal.SIGCONT)
        assert wait_until(lambda: "redis-pause" in not_proven(run), NOTICED_S), run.text()
        assert run.end() == 3, run.text()
        assert "did not last" in reason_about(run, "redis-pause")
        (fault,) = run.result()["faults"]
        assert fault["undo_verified"] is True and fault["proven"] is False
        assert not state_folders(own.folder / "state")
    finally:
        run.kill_group()
