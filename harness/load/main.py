"""The load process: Locust's master with its workers, or its local runner; carries out the conductor's commands.

It is the only writer of windows.jsonl: workers send rows ready to be written, one write per 100 ms.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import locust
import locust.log
import msgspec
from gevent.queue import Empty, Queue
from locust.exception import RPCError
from locust.runners import LocalRunner, MasterRunner

from harness.load.gate import Gate
from harness.load.locustfile import BadLocustfile, make_environment
from harness.load.members import Master, Member
from harness.load.pipe import MessagePipe, ParentPipe
from harness.load.protocol import (
    Begin,
    Command,
    Drained,
    Edge,
    Failed,
    Jump,
    Limits,
    LoadMessage,
    Ready,
    Start,
    Stop,
    Warned,
    WorkerLost,
    WorkerStart,
)
from harness.load.worker import COMMAND, CONNECTED, FAILED, NOTED, READY, ROWS, WARNED, Generator, set_up_logging
from harness.model.clock import monotonic, step_start
from harness.model.jsonl import append_line, encode_line
from harness.model.load import STEP_S, Remote

SET_UP_LIMIT_S = 60.0
"""For import, connection and test_start listeners of every worker."""
SILENCE_S = 10.0
"""A worker that sent no mark for this long is lost."""
STALLED_S = 2.0
"""One that sent none for this long is told."""
_GOODBYE_S = 5.0
"""For on_stop and test_stop of the locustfile after everything was recorded."""


class LoadFailed(Exception):
    """The load cannot go on; one line for a person."""


class Load:
    """children: the worker processes, started already; empty: this process is its own worker."""

    def __init__(
        self, start: Start, pipe: ParentPipe, messages: MessagePipe, children: list[subprocess.Popen[bytes]]
    ) -> None:
        self._plan = start.plan
        self._pipe = pipe
        self._messages = messages
        self._windows = os.open(start.windows, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._remote = self._plan.remote
        far = self._remote.workers if self._remote is not None else 0
        near = [Member(index, child) for index, child in enumerate(children)]
        self._workers = near + [Member(len(near) + index, remote=True) for index in range(far)] or [Member(0)]
        self._alone = not near and not far
        self._gate: Gate | None = None
        self._joining = True
        self._acknowledged = Path(start.windows).with_name("acknowledged.jsonl")
        self._rows = bytearray()
        self._commands: Queue[bytes] = Queue()
        self._t0: float | None = None
        self._end_step: int | None = None
        self._failure: str | None = None
        self._users: gevent.Greenlet | None = None

    def run(self) -> int:
        """Exit code: 0 after the drain, 4 when the load failed."""
        set_up_logging()
        self._pipe.listen(self._commands.put_nowait)
        try:
            self._set_up()
            self._conduct()
            code = 0
        except (LoadFailed, BadLocustfile) as error:
            self._say(Failed(text=str(error)))
            code = 4
        with suppress(OSError):
            self._write_rows()
        if code == 0:
            self._say(Drained(end_step=self._end_step or 0))
        self._say_goodbye(code)
        return code

    # Set-up

    def _set_up(self) -> None:
        environment = self._environment = make_environment(self._plan)
        self._runner: Any = environment.create_local_runner() if self._alone else self._make_master(environment)
        for kind, listener in (
            (CONNECTED, self._on_connected),
            (READY, self._on_ready),
            (ROWS, self._on_rows),
            (NOTED, self._on_noted),
            (WARNED, self._on_warned),
            (FAILED, self._on_failed),
        ):
            self._runner.register_message(kind, listener)
        generator = Generator(environment, self._plan, 0, self._workers[0].token) if self._alone else None
        environment.events.init.fire(environment=environment, runner=self._runner, web_ui=None)
        if locust.log.unhandled_greenlet_exception:
            raise LoadFailed("an init listener of the locustfile raised an exception; see the load's log")
        if generator is not None:
            generator.connected()
        local = [worker for worker in self._workers if not worker.remote]
        self._await("connect to the load process", local, lambda worker: worker.connected, SET_UP_LIMIT_S)
        if self._remote is not None:
            self._await_remote(self._remote)
        # Zero users: fires test_start everywhere and sets the host, nothing more. Users come with Begin.
        self._start_users(0, 1.0)
        what = "run the locustfile's test_start listeners"
        self._await(what, self._workers, lambda worker: worker.ready, SET_UP_LIMIT_S)
        self._joining = False
        processes = [] if self._alone else local
        self._say(
            Ready(
                workers=len(self._workers),
                pids=tuple(worker.pid for worker in processes),
                start_times=tuple(worker.start_time for worker in processes),
            )
        )

    def _make_master(self, environment: Any) -> Master:
        host, port = (self._remote.bind_host, self._remote.port) if self._remote is not None else ("127.0.0.1", 0)
        try:
            runner: Master = environment._create_runner(Master, host, port)
        except (SystemExit, RPCError) as error:
            why = "it is taken" if isinstance(error, SystemExit) else str(error)
            raise LoadFailed(f"cannot listen for load workers on {host}:{port}: {why}") from None
        near = "127.0.0.1" if host == "0.0.0.0" else host
        for worker in self._workers:
            if worker.child is not None:
                start = WorkerStart(
                    plan=self._plan, index=worker.index, token=worker.token, host=near, port=runner.server.port
                )
                self._tell_worker(worker, start)
        return runner

    def _await_remote(self, remote: Remote) -> None:
        far = [worker for worker in self._workers if worker.remote]
        self._gate = Gate(
            self._runner,
            self._plan,
            far,
            say=lambda text: self._say(Warned(text=text)),
            tell=self._say,
            left=self._on_left,
        )
        many = f"{len(far)} remote workers" if len(far) > 1 else "a remote worker"
        self._say(Warned(text=f"waiting for {many} on {remote.bind_host}:{remote.port}, {remote.wait_s:g} s at most"))
        self._await("join", far, lambda worker: worker.joined, remote.wait_s)
        for worker in far:
            self._say(Warned(text=f"load worker {worker.name} is on {worker.machine}"))

    def _await(self, what: str, whom: list[Member], done: Callable[[Member], bool], limit_s: float) -> None:
        deadline = monotonic() + limit_s
        while not all(done(worker) for worker in whom):
            for worker in self._workers:
                if worker.child is not None and worker.child.poll() is not None:
                    raise LoadFailed(f"load worker {worker.name} ended before it was ready; see the load's log")
            if self._failure is not None:
                raise LoadFailed(self._failure)
            if monotonic() > deadline:
                late = [worker for worker in whom if not done(worker)]
                if late[0].remote:
                    raise LoadFailed(f"{len(late)} of {len(whom)} remote workers did not {what} within {limit_s:g} s")
                names = ", ".join(worker.name for worker in late)
                raise LoadFailed(f"load workers {names} did not {what} within {limit_s:g} s")
            gevent.sleep(0.01)

    def _tell_worker(self, worker: Member, line: Any) -> None:
        assert worker.child is not None and worker.child.stdin is not None
        with suppress(OSError):
            worker.child.stdin.write(encode_line(line))
            worker.child.stdin.flush()

    # The run

    def _conduct(self) -> None:
        """Carry out commands, write rows, watch workers, until every worker is through its drain."""
        while True:
            self._carry_out_commands()
            self._watch_workers()
            self._write_rows()
            if self._failure is not None:
                raise LoadFailed(self._failure)
            alive = [worker for worker in self._workers if not worker.lost]
            if not alive:
                raise LoadFailed("every load worker is gone")
            if self._end_step is not None and (self._t0 is None or all(worker.final for worker in alive)):
                return
            with suppress(Empty):
                self._commands.peek(timeout=STEP_S)

    def _carry_out_commands(self) -> None:
        while not self._commands.empty():
            line = self._commands.get_nowait()
            command: Command = msgspec.json.decode(line, type=Command)
            if isinstance(command, Begin):
                self._begin(command, line)
                if self._plan.model == "closed":
                    users = self._plan.users if self._plan.jump_from is None else self._plan.jump_from
                    self._users_at(command.t0, users)
            elif isinstance(command, (Limits, Edge)):
                self._broadcast(line)
            elif isinstance(command, Jump) and self._t0 is not None:
                self._users_at(self._t0 + step_start(command.at_step), command.users)
            elif isinstance(command, Stop):
                self._end_step = command.end_step
                self._broadcast(line)

    def _begin(self, command: Begin, line: bytes) -> None:
        self._t0 = command.t0
        if self._gate is not None:
            self._gate.close("the run has begun, and its load is shared out")
            self._gate.begin()
        for worker in self._workers:
            worker.heard = max(command.t0, monotonic())
            if worker.remote and not worker.lost:
                theirs = encode_line(Begin(t0=command.t0 + worker.shift))
                self._runner.send_message(COMMAND, theirs, client_id=worker.node)
            elif not self._alone:
                self._runner.send_message(COMMAND, line, client_id=worker.node)
        if self._alone:
            self._broadcast(line)

    def _broadcast(self, line: bytes) -> None:
        self._runner.send_message(COMMAND, line)

    def _users_at(self, instant: float, users: int) -> None:
        """Closed model: that many users, from that instant on, at the plan's spawn rate."""

        def change() -> None:
            gevent.sleep(max(0.0, instant - monotonic()))
            if self._users is not None:
                self._users.kill()
            self._users = gevent.spawn(self._start_users, users, self._plan.spawn_rate)

        gevent.spawn(change)

    def _start_users(self, users: int, spawn_rate: float) -> None:
        if isinstance(self._runner, MasterRunner):
            MasterRunner.start(self._runner, users, spawn_rate)
        else:
            self._runner.start(users, spawn_rate)

    def _watch_workers(self) -> None:
        now = monotonic()
        for worker in self._workers:
            if worker.lost or self._alone:
                continue
            code = worker.child.poll() if worker.child is not None else None
            if code is not None and not worker.final:
                self._lose(worker, f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}")
            elif code is None and self._t0 is not None and not worker.final:
                self._watch_silence(worker, now - worker.heard)

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
        self._runner.dismiss(worker.node)
        if self._gate is not None and worker.remote:
            self._gate.dismiss(worker, f"the run has given this worker up: {reason}")
        self._say(WorkerLost(worker=worker.name, reason=reason, pid=worker.pid if worker.child is not None else None))

    def _on_left(self, worker: Member, why: str) -> None:
        """A remote worker that had joined is gone. While others are waited for, its place is free again."""
        if self._joining:
            self._runner.dismiss(worker.node)
        elif not worker.final:
            self._lose(worker, f"{why} (on {worker.machine})")

    # From the workers

    def _on_connected(self, environment: Any, msg: Any, **_: Any) -> None:
        worker = self._workers[msg.data["worker"]]
        if msg.data["token"] != worker.token:
            return
        worker.node, worker.pid, worker.start_time = msg.data["node"], msg.data["pid"], msg.data["start_time"]
        if not self._alone:
            self._runner.admit(worker.node)
        worker.connected = True

    def _on_ready(self, environment: Any, msg: Any, **_: Any) -> None:
        self._workers[msg.data["worker"]].ready = True

    def _on_rows(self, environment: Any, msg: Any, **_: Any) -> None:
        worker = self._workers[msg.data["worker"]]
        if worker.lost:
            return
        self._rows += msg.data["rows"]
        now = monotonic()
        if worker.stalled:
            worker.stalled = False
            text = f"load worker {worker.name} reports again after {now - worker.heard:.1f} s: it was late by as much"
            self._say(Warned(text=text))
        worker.heard = max(worker.heard, now)
        worker.final = worker.final or msg.data["final"]

    def _on_noted(self, environment: Any, msg: Any, **_: Any) -> None:
        try:
            append_line(self._acknowledged, msg.data["lines"])
        except OSError as error:
            self._failure = self._failure or f"acknowledged.jsonl cannot be written: {error}"

    def _on_warned(self, environment: Any, msg: Any, **_: Any) -> None:
        self._say(Warned(text=msg.data["text"]))

    def _on_failed(self, environment: Any, msg: Any, **_: Any) -> None:
        self._failure = self._failure or msg.data["text"]

    # Out

    def _write_rows(self) -> None:
        if not self._rows:
            return
        rows, self._rows = self._rows, bytearray()
        view = memoryview(rows)
        try:
            while view:
                view = view[os.write(self._windows, view) :]
        except OSError as error:
            raise LoadFailed(f"windows.jsonl cannot be written: {error}") from error

    def _say(self, message: LoadMessage) -> None:
        self._messages.write(encode_line(message))

    def _say_goodbye(self, code: int) -> None:
        """Let the locustfile's on_stop, test_stop and quitting run, for a limited time."""
        if self._gate is not None:
            self._gate.goodbye("the run has ended" if code == 0 else "the run has failed", code)
        environment = getattr(self, "_environment", None)
        if environment is not None and environment.runner is not None:
            environment.stop_timeout = 0.0
            with gevent.Timeout(_GOODBYE_S, False):
                if isinstance(environment.runner, LocalRunner):
                    environment.runner.stop()
                environment.events.quitting.fire(environment=environment, reverse=True)
                while any(w.child is not None and w.child.poll() is None for w in self._workers):
                    gevent.sleep(0.01)
