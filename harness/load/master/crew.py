"""The generators of a run: brought together, told what to do, watched."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from locust.exception import RPCError
from locust.runners import MasterRunner

from harness.load.ipc.door import Door
from harness.load.ipc.keys import write_key_file
from harness.load.ipc.protocol import (
    COMMAND,
    CONNECTED,
    READY,
    Begin,
    LoadMessage,
    Ready,
    Warned,
    WorkerLost,
    WorkerStart,
)
from harness.load.master.gate import Gate
from harness.load.master.members import Master, Member
from harness.load.record.stats import KEPT_S, forget_old_seconds
from harness.model.clock import monotonic
from harness.model.jsonl import encode_line
from harness.model.records.faults import Address
from harness.model.records.load import LoadPlan, Remote

SET_UP_LIMIT_S = 60.0
"""For import, connection and test_start listeners of every worker."""
SILENCE_S = 5.0
"""A worker that sent no mark for this long is lost."""
STALLED_S = 2.0
"""One that sent none for this long is told."""
_STOOD_STILL_S = 1.0
"""A turn of the main loop that took longer: this process did not run, and what came meanwhile is still to be read."""


class LoadFailed(Exception):
    """The load cannot go on; one line for a person."""


class Crew:
    """children: the local worker processes, started already. Without them and without remote workers this process is
    its own only generator (`alone`). folder: for the keys of remote workers. say: tells the conductor. failure: why the
    load has failed meanwhile, if it has.
    """

    runner: Any

    def __init__(
        self,
        plan: LoadPlan,
        children: list[subprocess.Popen[bytes]],
        folder: Path,
        say: Callable[[LoadMessage], None],
        failure: Callable[[], str | None],
    ) -> None:
        self._plan = plan
        self._folder = folder
        self._key_files: list[Path] = []
        self._say = say
        self._failure = failure
        self._remote = plan.remote
        far = self._remote.workers if self._remote is not None else 0
        self._near = [Member(index, child) for index, child in enumerate(children)]
        self._far = [Member(len(self._near) + index, remote=True) for index in range(far)]
        self.alone = not self._near and not self._far
        self.last_lost = ""
        self.members = self._near + self._far or [Member(0)]
        self._gate: Gate | None = None
        self._joining = True
        self._begun = False
        self._pruned = self._looked = monotonic()

    def make_runner(self, environment: Any) -> Any:
        """Locust's runner: a master for several generators. Raises LoadFailed."""
        self.runner = environment.create_local_runner() if self.alone else self._make_master(environment)
        self.runner.register_message(CONNECTED, self._on_connected)
        self.runner.register_message(READY, self._on_ready)
        return self.runner

    def gather(self) -> None:
        """Until all of them have imported the locustfile and connected. Raises LoadFailed."""
        local = self.members if self.alone else self._near
        self._await("connect to the load process", local, lambda worker: worker.connected, SET_UP_LIMIT_S)
        if self._remote is not None:
            self._await_remote(self._remote)

    def await_ready(self) -> None:
        """Until the test_start listeners of all have run. Raises LoadFailed."""
        what = "run the locustfile's test_start listeners"
        self._await(what, self.members, lambda worker: worker.ready, SET_UP_LIMIT_S)
        self._joining = False
        self._say(
            Ready(
                workers=len(self.members),
                pids=tuple(worker.pid for worker in self._near),
                start_times=tuple(worker.start_time for worker in self._near),
            )
        )

    def begin(self, command: Begin, line: bytes) -> None:
        """The schedule begins: each is told in its own clock. line: the command as it came."""
        self._begun = True
        self._looked = monotonic()
        self._remove_key_files()
        if self._gate is not None:
            self._gate.close("the run has begun, and its load is shared out")
            self._gate.begin()
        for worker in self.members:
            worker.heard = max(command.t0, monotonic())
            if worker.remote and not worker.lost:
                theirs = encode_line(Begin(t0=command.t0 + worker.shift))
                self.runner.send_message(COMMAND, theirs, client_id=worker.node)
            elif not self.alone:
                self.runner.send_message(COMMAND, line, client_id=worker.node)
        if self.alone:
            self.broadcast(line)

    def broadcast(self, line: bytes) -> None:
        self.runner.send_message(COMMAND, line)

    def start_test(self) -> None:
        """test_start everywhere, and no users yet. Listeners may take as long as they are waited for."""
        if self._gate is not None:
            self._gate.expect_silence(SET_UP_LIMIT_S)
        self.start_users(0, 1.0)
        if self._gate is not None:
            self._gate.expect_no_silence()

    def start_users(self, users: int, spawn_rate: float) -> None:
        if isinstance(self.runner, MasterRunner):
            MasterRunner.start(self.runner, users, spawn_rate)
        else:
            self.runner.start(users, spawn_rate)

    def watch(self) -> None:
        """Who has ended is lost; who is silent is told, then lost. Raises LoadFailed when that is the only one."""
        now = monotonic()
        stood_still, self._looked = now - self._looked, now
        if stood_still > _STOOD_STILL_S:
            for worker in self.members:
                worker.heard += stood_still
        if self.alone:
            only = self.members[0]
            if self._begun and not only.final and now - only.heard > SILENCE_S:
                raise LoadFailed(f"no requests were recorded for {SILENCE_S:g} s")
            return
        if now - self._pruned > KEPT_S:
            self._pruned = now
            forget_old_seconds(self.runner.stats)
        for worker in self.members:
            if worker.lost:
                continue
            code = worker.child.poll() if worker.child is not None else None
            if code is not None and not worker.final:
                self._lose(worker, f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}")
            elif code is None and self._begun and not worker.final:
                self._watch_silence(worker, now - worker.heard)

    def heard(self, worker: Member, final: bool) -> None:
        """Its rows have come."""
        now = monotonic()
        if worker.stalled:
            worker.stalled = False
            text = f"load worker {worker.name} reports again after {now - worker.heard:.1f} s: it was late by as much"
            self._say(Warned(text=text))
        worker.heard = max(worker.heard, now)
        worker.final = worker.final or final

    def broken(self, worker: Member, why: str) -> None:
        """One of several records nothing any more."""
        if not worker.lost:
            if worker.child is not None:
                worker.child.kill()
            self._lose(worker, why)

    @property
    def alive(self) -> list[Member]:
        return [worker for worker in self.members if not worker.lost]

    @property
    def ended(self) -> bool:
        """No child runs any more."""
        return all(worker.child is None or worker.child.poll() is not None for worker in self.members)

    def goodbye(self, why: str, code: int) -> None:
        """To those on other machines, who would come back."""
        self._remove_key_files()
        if self._gate is not None:
            self._gate.goodbye(why, code)

    def _make_master(self, environment: Any) -> Master:
        host, port = (self._remote.bind_host, self._remote.port) if self._remote is not None else ("127.0.0.1", 0)
        try:
            door = Door(len(self.members), lambda text: self._say(Warned(text=text)))
            runner: Master = environment._create_runner(Master, host, port, door)
        except (SystemExit, RPCError) as error:
            why = "it is taken" if isinstance(error, SystemExit) else str(error)
            raise LoadFailed(f"cannot listen for load workers on {Address(host, port)}: {why}") from None
        near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        for worker in self._near:
            start = WorkerStart(
                plan=self._plan,
                index=worker.index,
                token=worker.token,
                host=near,
                port=runner.server.port,
                key=door.keys[worker.index],
            )
            assert worker.child is not None and worker.child.stdin is not None
            with suppress(OSError):
                worker.child.stdin.write(encode_line(start))
                worker.child.stdin.flush()
        for worker in self._far:
            path = self._folder / f"{worker.name}.key"
            try:
                write_key_file(path, door.keys[worker.index])
            except OSError as error:
                raise LoadFailed(f"the key of remote worker {worker.name} cannot be written: {error}") from None
            self._key_files.append(path)
        return runner

    def _remove_key_files(self) -> None:
        """Who has joined has read its own, and nobody else may join."""
        for path in self._key_files:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            if self._key_files:
                self._folder.rmdir()

    def _await_remote(self, remote: Remote) -> None:
        far = self._far
        self._gate = Gate(
            self.runner,
            self._plan,
            far,
            say=lambda text: self._say(Warned(text=text)),
            tell=self._say,
            left=self._on_left,
        )
        many = f"{len(far)} remote workers" if len(far) > 1 else "a remote worker"
        where = Address(remote.bind_host, remote.port)
        keys = " ".join(str(path) for path in self._key_files)
        each = "--key-file of each" if len(far) > 1 else "its --key-file"
        self._say(Warned(text=f"waiting for {many} on {where}, {remote.wait_s:g} s at most; {each}: {keys}"))
        self._await("join", far, lambda worker: worker.joined, remote.wait_s)
        for worker in far:
            self._say(Warned(text=f"load worker {worker.name} is on {worker.machine}"))

    def _await(self, what: str, whom: list[Member], done: Callable[[Member], bool], limit_s: float) -> None:
        deadline = monotonic() + limit_s
        while not all(done(worker) for worker in whom):
            for worker in self._near:
                if worker.child is not None and worker.child.poll() is not None:
                    raise LoadFailed(f"load worker {worker.name} ended before it was ready; see the load's log")
            failure = self._failure()
            if failure is not None:
                raise LoadFailed(failure)
            if monotonic() > deadline:
                late = [worker for worker in whom if not done(worker)]
                if late[0].remote:
                    raise LoadFailed(f"{len(late)} of {len(whom)} remote workers did not {what} within {limit_s:g} s")
                names = ", ".join(worker.name for worker in late)
                raise LoadFailed(f"load workers {names} did not {what} within {limit_s:g} s")
            gevent.sleep(0.01)

    def _watch_silence(self, worker: Member, seconds: float) -> None:
        if seconds > SILENCE_S:
            if worker.child is not None:
                worker.child.kill()
            self._lose(worker, f"it was silent for {SILENCE_S:g} s")
        elif seconds > STALLED_S and not worker.stalled:
            worker.stalled = True
            self._say(Warned(text=f"load worker {worker.name} has reported nothing for {STALLED_S:g} s"))

    def _lose(self, worker: Member, reason: str) -> None:
        worker.lost = True
        self.last_lost = reason
        self.runner.dismiss(worker.node)
        if self._gate is not None and worker.remote:
            self._gate.dismiss(worker, f"the run has given this worker up: {reason}")
        self._say(WorkerLost(worker=worker.name, reason=reason, pid=worker.pid if worker.child is not None else None))

    def _on_left(self, worker: Member, why: str) -> None:
        """A remote worker that had joined is gone. While others are waited for, its place is free again."""
        if self._joining:
            self.runner.dismiss(worker.node)
        elif not worker.final:
            self._lose(worker, f"{why} (on {worker.machine})")

    def _on_connected(self, environment: Any, msg: Any, **_: Any) -> None:
        worker = self.members[msg.data["worker"]]
        if msg.data["token"] != worker.token:
            return
        # Of several, Locust's name for it is that of the connection, whatever the message says.
        worker.node = msg.data["node"] if self.alone else msg.node_id
        worker.pid, worker.start_time = msg.data["pid"], msg.data["start_time"]
        if not self.alone:
            self.runner.admit(worker.index, worker.node)
        worker.connected = True

    def _on_ready(self, environment: Any, msg: Any, **_: Any) -> None:
        self.members[msg.data["worker"]].ready = True
