"""After a reboot nothing of a run lives: whoever has an old pid's number, session or folder now is left alone.

A reboot cannot be made here. So the journal, the record, the file are given the id of another boot, as they have when
they were written before one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from faults.runtime.processes import current
from harness.adapters.keeper import starter
from harness.adapters.processes import control as process_control
from harness.adapters.processes.control import ServerProcesses, as_scalars, look_at
from harness.adapters.processes.family import MARKER, Root, stop_family
from harness.adapters.processes.identity import ProcessId, alive, identify, link, same, send
from harness.adapters.toxiproxy.lock import LockHolder, read_holder
from harness.model.clock import wall
from harness.model.paths import state_dir
from harness.model.records.faults import Address, Dependency, DependencyProcess, UndoRecord
from harness.safety.healing.dead_run import heal_all
from harness.safety.journal.entries import KeeperOpened, Process, encode
from harness.safety.journal.folders import describe
from harness.safety.journal.log import KEEPER
from harness.stack import registry
from tests.safety.world import gone, wait_for

BEFORE = "00000000-0000-4000-8000-000000000000"
"""The id of the boot before."""
MARK = "run-1/valkey/1"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which boot it is")


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody's process: by chance with a server's pid, its session, its program, its folder and its mark."""
    folder = tmp_path / "folder"
    folder.mkdir()
    process = subprocess.Popen(["sleep", "600"], cwd=folder, env={**os.environ, MARKER: MARK}, start_new_session=True)
    wait_for("its program", lambda: "sleep" in (link(process.pid, "exe") or ""))
    yield process
    process.kill()
    process.wait()


def of_before(pid: int, /, **more: Any) -> ProcessId:
    """Who had this pid, to the tick, in the boot before."""
    found = identify(pid)
    assert found is not None
    return msgspec.structs.replace(found, boot=BEFORE, **more)


def root_of(process: ProcessId, folder: Path) -> Root:
    return Root(name="valkey", process=process, cwd=str(folder), exe=link(process.pid, "exe"), marker=MARK)


@pytest.mark.parametrize("ticks", [True, False])
def test_a_pid_of_another_boot_is_nobody(stranger: subprocess.Popen[bytes], ticks: bool) -> None:
    old = of_before(stranger.pid, **({} if ticks else {"ticks": None}))
    now = identify(stranger.pid)
    assert now is not None and not same(old, now) and not alive(old)
    assert send(old, signal.SIGKILL) is False
    assert stranger.poll() is None


def test_heal_after_a_reboot_ends_nobody(stranger: subprocess.Popen[bytes], tmp_path: Path, state_home: Path) -> None:
    """By pid, by session, by the mark in the environment, by program and folder: each of them was enough."""
    folder = state_dir() / "active" / "run-1"
    folder.mkdir(mode=0o700, parents=True)
    temporary = tmp_path / "folder"
    elsewhere = of_before(stranger.pid, pid=4_000_000)
    entries = [
        KeeperOpened(keeper=of_before(os.getpid()), host="here", run=of_before(os.getppid())),
        Process(root=root_of(of_before(stranger.pid), temporary), server=True),
        Process(
            root=msgspec.structs.replace(root_of(elsewhere, temporary), exe=link(stranger.pid, "exe")), server=True
        ),
    ]
    entries[0] = msgspec.structs.replace(entries[0], host=os.uname().nodename)
    (folder / KEEPER).write_bytes(b"".join(map(encode, [*entries, describe(str(temporary))])))
    (folder / KEEPER).chmod(0o600)
    (healed,) = heal_all(lambda _: None)
    assert stranger.poll() is None
    assert healed.stopped == () and healed.left == ()


def test_the_session_of_a_server_of_before_is_somebody_elses(tmp_path: Path) -> None:
    """The number of a session stays in use while one of its members lives, also when its leader has gone."""
    leader = subprocess.Popen(
        ["sh", "-c", "sleep 600 & echo $!"], stdout=subprocess.PIPE, start_new_session=True, text=True
    )
    assert leader.stdout is not None
    member = int(leader.stdout.readline())
    leader.wait()
    leader.stdout.close()
    try:
        old = of_before(member, pid=leader.pid, ticks=1, start_time=1.0)
        stop_family(Root(name="valkey", process=old), number=None, grace_s=0)
        server = ServerProcesses(first=old, uid=os.geteuid(), leads=True)
        assert process_control.members(server) == []
        process_control.kill(server)
        assert not gone(member)
    finally:
        os.kill(member, signal.SIGKILL)


def test_a_database_in_the_same_folder_is_not_the_one_of_before(
    stranger: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """PostgreSQL runs in its data folder, after a reboot too; clearing away what remained must not end it."""
    now = look_at(stranger.pid, own_folder=True)
    old = msgspec.structs.replace(now, first=of_before(stranger.pid, pid=4_000_000))
    assert len(process_control.members(msgspec.structs.replace(now, first=now.first))) == 1
    assert process_control.members(old) == []
    process_control.kill(old)
    assert stranger.poll() is None


def record(dependency: Dependency, server: ServerProcesses) -> UndoRecord:
    return UndoRecord(
        id="api-pause",
        kind="pause",
        dependency=dependency,
        params={},
        where={**as_scalars(server), "address": "127.0.0.1:1"},
        original={"state": "running"},
        ours={"state": "stopped"},
    )


def test_a_pid_without_an_owner_leads_to_nobody_after_a_reboot(stranger: subprocess.Popen[bytes]) -> None:
    api = Dependency(
        name="api",
        kind="http",
        process=DependencyProcess(pid=stranger.pid),
        runtime="process",
        direct=Address("127.0.0.1", 1),
    )
    now = look_at(stranger.pid)
    assert current(record(api, now)) == now
    assert current(record(api, msgspec.structs.replace(now, first=of_before(stranger.pid)))) is None


def test_a_pid_file_that_is_older_than_the_process_means_another_one(
    stranger: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """A file outlives the server and the boot; its number is somebody else's by then."""
    file = tmp_path / "api.pid"
    file.write_text(f"{stranger.pid}\n")
    api = Dependency(
        name="api",
        kind="http",
        process=DependencyProcess(pid_file=str(file)),
        runtime="process",
        direct=Address("127.0.0.1", 1),
    )
    found = starter.serving(api)
    assert found is not None and found.pid == stranger.pid
    old = record(api, msgspec.structs.replace(look_at(stranger.pid), first=of_before(stranger.pid)))
    before = time.time() - 3600
    os.utime(file, (before, before))
    assert starter.serving(api) is None
    assert current(old) is None


def test_a_lock_of_another_boot_has_a_dead_holder() -> None:
    holder = LockHolder(owner="run-1", host=os.uname().nodename, pid=os.getpid(), keeper=1, since=wall())
    mine = msgspec.structs.replace(holder, boot=identify(os.getpid()).boot)  # type: ignore[union-attr]
    assert holder.alive() and mine.alive()
    old = read_holder(msgspec.structs.replace(holder, boot=BEFORE).text())
    assert old is not None and old.boot == BEFORE and not old.alive()


def test_a_stack_that_stayed_up_did_not_outlive_its_boot() -> None:
    kept = registry.Kept(
        since=wall(), keeper=os.getpid(), keeper_start=psutil.Process().create_time(), state="/nowhere"
    )
    assert registry.keeper_alive(kept)
    assert not registry.keeper_alive(msgspec.structs.replace(kept, boot=BEFORE))
