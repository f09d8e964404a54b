"""A full or read-only disk refuses injections and stops no undo: on a real, tiny disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from harness.safety.healing.dead_run import heal_all
from harness.safety.state_folders import find_active
from tests.safety.world import Proxy, Run, gone, wait_for

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED HERE: a tiny disk needs root, to mount it")

FULL = """
import sys
from pathlib import Path
from harness.model.errors import SetupError
from harness.safety.journal.journal import Journal
from harness.safety.journal.view import read_journal
sys.path.insert(0, sys.argv[2])
from tests.safety.test_journal import injected, pending, record
folder = Path(sys.argv[1]) / "run"
journal = Journal.create(folder)
injected(journal, 1)
filler = (Path(sys.argv[1]) / "filler").open("wb", buffering=0)
try:
    while True: filler.write(b"x" * 1000)
except OSError: pass
refused = 0
for number in range(2, 80):
    try: journal.record(record(number))
    except SetupError as error:
        assert "nothing is injected" in error.hint
        refused += 1
assert refused > 10, refused
try: journal.intent("redis-latency-2", "inject")
except SetupError: pass
else: sys.exit("the intent to inject was accepted on a full disk")
# Undoing goes on: none of these raises, and the change still counts as pending.
journal.intent(record(1).id, "undo"); journal.outcome(record(1).id, "verified"); journal.closed()
assert journal.trouble
view = read_journal(folder)
assert record(1).id in [one.id for one in view.pending] and not view.damage, view
filler.truncate(0)
journal.outcome(record(1).id, "verified")
view = read_journal(folder)
assert not view.damage and not view.pending, view
print("held")
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"NOT TESTED HERE: no tmpfs can be mounted: {done.stderr}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=False)


def test_a_full_disk_refuses_injections_and_stops_no_undo(disk: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(disk), str(ROOT)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.strip() == "held", done.stderr


@pytest.mark.stack
def test_the_keeper_heals_on_a_full_disk(disk: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(disk, dependency=msgspec.to_builtins(proxy.dependency()), faults=[["down", {}]])
    try:
        run.wait("injected")
        with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(b"x" * 64)
        run.kill()
        wait_for("proxy enabled", proxy.clean)
        wait_for("keeper gone", lambda: gone(run.said["keeper"]))
        # If it could not be written down any more, the record stays, and heal finds the original state.
        (disk / "filler").unlink()
        monkeypatch.setenv("XDG_STATE_HOME", str(disk))
        assert all(healed.left == () for healed in heal_all(lambda _: None))
        assert not run.state.exists() and find_active() == []
    finally:
        run.end()


@pytest.mark.stack
def test_heal_works_from_a_read_only_disk(disk: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(disk, dependency=msgspec.to_builtins(proxy.dependency()), faults=[["down", {}]])
    try:
        run.wait("injected")
        os.kill(run.said["keeper"], 9)
        run.kill()
        run.process.wait(30)
        wait_for("keeper gone", lambda: gone(run.said["keeper"]))
        # What has ended may hold its last files for a moment longer.
        remount = ["mount", "-o", "remount,ro", str(disk)]
        wait_for("nothing writes there any more", lambda: subprocess.run(remount, check=False).returncode == 0)
        monkeypatch.setenv("XDG_STATE_HOME", str(disk))
        said: list[str] = []
        (healed,) = heal_all(said.append)
        assert [outcome.state for outcome in healed.outcomes] == ["verified"] and proxy.clean()
        assert "Read-only" in said[0]
    finally:
        run.end()
