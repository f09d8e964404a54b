"""pause, kill and restart where somebody else acts on the same server: what is undone, left alone, and told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from worlds import outside

from harness.dependencies.configuration import load
from harness.fault import registered
from harness.model.errors import OutcomeUnknown, Refused, UndoUnverified
from harness.model.records.faults import Address, Dependency, DependencyProcess, UndoRecord
from harness.safety.healing.undo import Patience, undo_record
from harness.stack.embedded import valkey
from harness.stack.starting.ports import Ports
from harness.testing import assert_held, change_for, held, through_json

pytestmark = pytest.mark.stack

LIMIT_S = 60.0
QUICK = Patience(limit_s=2.0, clean_s=0.2)
PAUSE, KILL, RESTART = (registered()[kind] for kind in ("pause", "kill", "restart"))


class Server:
    """A Valkey of the user's, with its pid file and the start command that harness.toml holds."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.file = folder / "harness.toml"
        self.pid_file = folder / "cache.pid"
        self.argv = [str(valkey.binary()), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        self.port = port
        self.file.write_text(
            f'[target]\nurl = "http://127.0.0.1:1"\n[dependencies.cache]\nkind = "redis"\n'
            f'direct = "127.0.0.1:{port}"\npid_file = "cache.pid"\n'
            f"start = {json.dumps([*self.argv, '--pidfile', str(self.pid_file)])}\n"
        )
        self.started: list[subprocess.Popen[bytes]] = []
        self.start(own=True)

    @property
    def pid(self) -> int:
        return int(self.pid_file.read_text())

    def dependency(self) -> Dependency:
        address = Address("127.0.0.1", self.port)
        return Dependency(
            name="cache",
            kind="redis",
            process=DependencyProcess(
                pid=self.pid,
                pid_file=str(self.pid_file),
                start_config=str(self.file),
                start_sha256=load(self.file).sha256,
            ),
            runtime="process",
            startable=True,
            external=True,
            path=address,
            direct=address,
        )

    def start(self, *, own: bool) -> int:
        """own: as the user's unit would, with the pid file; else somebody else's, on the same port."""
        more = ["--pidfile", str(self.pid_file)] if own else []
        child = subprocess.Popen(
            [*self.argv, *more], cwd=self.folder, stdout=subprocess.DEVNULL, start_new_session=True
        )
        self.started.append(child)
        wait_for("it listens", lambda: outside(self._bare(child.pid))["server"])
        if own:
            wait_for(
                "its pid file", lambda: self.pid_file.exists() and self.pid_file.read_text().strip() == str(child.pid)
            )
        return child.pid

    def _bare(self, pid: int) -> Dependency:
        return Dependency(
            name="cache", kind="redis", process=DependencyProcess(pid=pid), direct=Address("127.0.0.1", self.port)
        )

    def end(self, number: int = signal.SIGKILL) -> None:
        pid = self.pid
        os.kill(pid, number)
        for child in self.started:
            if child.pid == pid:
                child.wait(LIMIT_S)
        wait_for("its end", lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)

    def close(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.pid, signal.SIGKILL)
        for child in self.started:
            child.kill()
            child.wait(LIMIT_S)


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (value := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return value


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Ports() as ports:
        port = ports.take()
    found = Server(tmp_path, port)
    yield found
    found.close()


def captured(kind: str, server: Server, record_id: str = "r", **params: str) -> UndoRecord:
    fault = registered()[kind]
    return through_json(fault.capture(change_for(fault, server.dependency(), **params), record_id))


class TestPause:
    def test_somebody_lets_it_go_on_and_the_fault_did_not_last(self, server: Server) -> None:
        record = captured("pause", server)
        PAUSE.inject(record)
        os.kill(server.pid, signal.SIGCONT)
        assert not held(PAUSE.prove(record, "held"))
        assert undo_record(record).state == "verified"

    def test_it_is_killed_while_paused_and_nobody_starts_it(self, server: Server) -> None:
        record = captured("pause", server)
        PAUSE.inject(record)
        server.end()
        outcome = undo_record(record, patience=QUICK)
        assert outcome.state == "unverified"
        assert "ended while it was paused" in str(outcome.left)
        assert str(server.file) in str(outcome.mend)

    def test_it_is_killed_while_paused_and_a_supervisor_starts_it(self, server: Server) -> None:
        record = captured("pause", server)
        PAUSE.inject(record)
        server.end()
        server.start(own=True)
        outcome = undo_record(record)
        assert outcome.state == "moot"
        assert f"in the place of {record.where['pid']}" in outcome.evidence[0].observed

    def test_one_that_is_stopped_already_is_no_original(self, server: Server) -> None:
        os.kill(server.pid, signal.SIGSTOP)
        wait_for("it to stop", lambda: psutil.Process(server.pid).status() == psutil.STATUS_STOPPED)
        with pytest.raises(Refused, match="already stopped") as refused:
            captured("pause", server)
        assert refused.value.hint == f"let it go on: kill -CONT {server.pid}"

    def test_a_pid_file_that_names_another_process_is_refused(self, server: Server) -> None:
        stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            dependency = server.dependency()
            own = server.pid
            server.pid_file.write_text(str(stranger.pid))
            with pytest.raises(Refused, match=f"process {stranger.pid} .* does not listen on port {server.port}"):
                PAUSE.capture(change_for(PAUSE, dependency), "r")
            assert stranger.poll() is None
            server.pid_file.write_text(str(own))
        finally:
            stranger.communicate()

    def test_a_stranger_that_got_the_pid_meanwhile_is_not_stopped(self, server: Server) -> None:
        record = captured("pause", server)
        where = {**record.where, "ticks": int(str(record.where["ticks"] or 0)) + 5, "start_time": 1e9}
        past = msgspec.structs.replace(
            record, where=where, dependency=record.dependency.but(process={"pid_file": None, "pid": None})
        )
        with pytest.raises(Exception, match="running any more"):
            PAUSE.inject(past)
        assert psutil.Process(server.pid).status() != psutil.STATUS_STOPPED


class TestKill:
    def test_somebody_starts_it_as_it_should_be_and_it_is_not_started_twice(self, server: Server) -> None:
        record = captured("kill", server)
        KILL.inject(record)
        by_hand = server.start(own=True)
        assert not held(KILL.prove(record, "held"))
        assert undo_record(record).state == "verified"
        assert server.pid == by_hand and psutil.pid_exists(by_hand)

    def test_another_server_on_its_port_is_left_alone_and_told(self, server: Server) -> None:
        record = captured("kill", server)
        KILL.inject(record)
        stranger = server.start(own=False)
        outcome = undo_record(record, patience=QUICK)
        assert outcome.state == "unverified"
        assert f"process {stranger}" in str(outcome.left) and "left alone" in str(outcome.left)
        assert outcome.mend
        assert psutil.pid_exists(stranger)

    def test_a_changed_configuration_starts_nothing(self, server: Server) -> None:
        record = captured("kill", server)
        KILL.inject(record)
        with server.file.open("a") as file:
            file.write("# somebody was here\n")
        outcome = undo_record(record, patience=QUICK)
        assert outcome.state == "unverified"
        assert "has changed since the run was planned" in str(outcome.left)
        assert outside(server._bare(0))["server"] is None

    def test_a_server_that_does_not_come_up_is_told(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("faults.path.health.READY_LIMIT_S", 1.0)
        server.file.write_text(server.file.read_text().replace(json.dumps("--save"), json.dumps("--no-such-option")))
        record = captured("kill", server)
        KILL.inject(record)
        with pytest.raises(UndoUnverified, match="cache was started again and does not answer"):
            KILL.undo(record)

    def test_a_run_that_died_between_stopping_and_killing_leaves_it_stopped_until_the_undo(
        self, server: Server
    ) -> None:
        record = captured("kill", server)
        before = server.pid
        os.kill(before, signal.SIGSTOP)
        assert undo_record(record).state == "verified"
        assert server.pid == before and psutil.Process(before).status() != psutil.STATUS_STOPPED

    def test_what_cannot_be_started_again_is_refused_before_it_is_killed(self, server: Server) -> None:
        bare = msgspec.structs.replace(server.dependency(), startable=False)
        with pytest.raises(Refused, match="cache-kill needs a way to start cache again"):
            change_for(KILL, bare)
        record_of = change_for(KILL, server.dependency())
        server.file.unlink()
        with pytest.raises(Refused, match="could not be started again"):
            KILL.capture(record_of, "r")
        assert psutil.pid_exists(server.pid)


class TestAgain:
    def test_flapping_follows_the_process_that_the_undo_started(self, server: Server) -> None:
        """All records are written before the first injection, so later ones name a process that is gone by then."""
        records = [captured("kill", server, "cache-kill"), captured("pause", server, "cache-pause")]
        records.append(captured("kill", server, "cache-kill#2"))
        pids = [server.pid]
        for record in records:
            fault = registered()[record.kind]
            fault.inject(record)
            assert_held(fault.prove(record, "injected"))
            outcome = undo_record(record)
            assert outcome.state == "verified", outcome
            pids.append(server.pid)
        assert pids[0] != pids[1] == pids[2] != pids[3]

    def test_a_restart_that_finds_no_way_back_says_that_the_outcome_is_unknown(self, server: Server) -> None:
        record = captured("restart", server)
        real = server.file.read_text()
        try:
            # It may be started, and then cannot: its program is gone.
            broken = real.replace(json.dumps(server.argv[0]), json.dumps(str(server.folder / "gone")))
            server.file.write_text(broken)
            record = msgspec.structs.replace(
                record, dependency=record.dependency.but(process={"start_sha256": load(server.file).sha256})
            )
            with pytest.raises(OutcomeUnknown, match="stopped and did not come back"):
                RESTART.inject(record)
        finally:
            server.file.write_text(real)
        record = msgspec.structs.replace(
            record, dependency=record.dependency.but(process={"start_sha256": load(server.file).sha256})
        )
        assert undo_record(record).state == "verified"
        assert outside(server.dependency())["server"] is not None
