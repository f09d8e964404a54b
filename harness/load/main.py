"""The load process: Locust's master with local workers, or its local runner; carries out the conductor's commands.

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
from locust.runners import LocalRunner, MasterRunner

from harness.load.locustfile import BadLocustfile, make_environment
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
from harness.model.load import STEP_S

SET_UP_LIMIT_S = 60.0
"""For import, connection and test_start listeners of every worker."""
SILENCE_S = 10.0
"""A worker that sent no mark for this long is lost."""
_GOODBYE_S = 5.0
"""For on_stop and test_stop of the locustfile after everything was recorded."""


class LoadFailed(Exception):
    """The load cannot go on; one line for a person."""


class _Worker:
    def __init__(self, index: int, child: subprocess.Popen[bytes] | None) -> None:
        self.name = f"w{index}"
        self.child = child
        self.node = ""
        self.pid = 0
        self.start_time = 0.0
        self.connected = self.ready = self.final = self.lost = False
        self.heard = monotonic()


class _Master(MasterRunner):  # type: ignore[misc]
    """Locust's master restarts the test when a worker that it missed is heard again, with its last number of users:
    in the open model that would stop every user. Only the load starts users, through MasterRunner.start itself."""

    def start(self, *_arguments: Any, **_options: Any) -> None:
        pass


class Load:
    """children: the worker processes, started already; empty: this process is its own worker."""

    def __init__(
        self, start: Start, pipe: ParentPipe, messages: MessagePipe, children: list[subprocess.Popen[bytes]]
    ) -> None:
        self._plan = start.plan
        self._pipe = pipe
        self._messages = messages
        self._windows = os.open(start.windows, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._acknowledged = Path(start.windows).with_name("acknowledged.jsonl")
        self._workers = [_Worker(i, child) for i, child in enumerate(children)] or [_Worker(0, None)]
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
        self._say_goodbye()
        return code

    # Set-up

    def _set_up(self) -> None:
        environment = self._environment = make_environment(self._plan)
        self._runner: Any
        if self._workers[0].child is None:
            self._runner = environment.create_local_runner()
        else:
            self._runner = environment._create_runner(_Master, "127.0.0.1", 0)
            for index, worker in enumerate(self._workers):
                self._tell_worker(worker, WorkerStart(plan=self._plan, index=index, port=self._runner.server.port))
        for kind, listener in (
            (CONNECTED, self._on_connected),
            (READY, self._on_ready),
            (ROWS, self._on_rows),
            (NOTED, self._on_noted),
            (WARNED, self._on_warned),
            (FAILED, self._on_failed),
        ):
            self._runner.register_message(kind, listener)
        generator = Generator(environment, self._plan, 0) if self._workers[0].child is None else None
        environment.events.init.fire(environment=environment, runner=self._runner, web_ui=None)
        if locust.log.unhandled_greenlet_exception:
            raise LoadFailed("an init listener of the locustfile raised an exception; see the load's log")
        if generator is not None:
            generator.connected()
        self._await("connect to the load process", lambda worker: worker.connected)
        # Zero users: fires test_start everywhere and sets the host, nothing more. Users come with Begin.
        self._start_users(0, 1.0)
        self._await("run the locustfile's test_start listeners", lambda worker: worker.ready)
        own = self._workers[0].child is None
        self._say(
            Ready(
                workers=len(self._workers),
                pids=() if own else tuple(worker.pid for worker in self._workers),
                start_times=() if own else tuple(worker.start_time for worker in self._workers),
            )
        )

    def _await(self, what: str, done: Callable[[_Worker], bool]) -> None:
        deadline = monotonic() + SET_UP_LIMIT_S
        while not all(done(worker) for worker in self._workers):
            for worker in self._workers:
                if worker.child is not None and worker.child.poll() is not None:
                    raise LoadFailed(f"load worker {worker.name} ended before it was ready; see the load's log")
            if self._failure is not None:
                raise LoadFailed(self._failure)
            if monotonic() > deadline:
                late = ", ".join(worker.name for worker in self._workers if not done(worker))
                raise LoadFailed(f"load workers {late} did not {what} within {SET_UP_LIMIT_S:g} s")
            gevent.sleep(0.01)

    def _tell_worker(self, worker: _Worker, line: Any) -> None:
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
                self._t0 = command.t0
                for worker in self._workers:
                    worker.heard = command.t0
                self._broadcast(line)
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
            if worker.lost or worker.child is None:
                continue
            code = worker.child.poll()
            if code is not None and not worker.final:
                self._lose(worker, f"it was ended by signal {-code}" if code < 0 else f"it ended with code {code}")
            elif code is None and self._t0 is not None and not worker.final and now - worker.heard > SILENCE_S:
                worker.child.kill()
                self._lose(worker, f"it was silent for {SILENCE_S:g} s")

    def _lose(self, worker: _Worker, reason: str) -> None:
        worker.lost = True
        node = self._runner.clients._worker_nodes.pop(worker.node, None)
        dispatcher = self._runner._users_dispatcher
        if node is not None and dispatcher is not None:
            dispatcher.remove_worker(node)
        self._say(WorkerLost(worker=worker.name, reason=reason, pid=worker.pid))

    # From the workers

    def _on_connected(self, environment: Any, msg: Any, **_: Any) -> None:
        worker = self._workers[msg.data["worker"]]
        worker.node, worker.pid, worker.start_time = msg.data["node"], msg.data["pid"], msg.data["start_time"]
        worker.connected = True

    def _on_ready(self, environment: Any, msg: Any, **_: Any) -> None:
        self._workers[msg.data["worker"]].ready = True

    def _on_rows(self, environment: Any, msg: Any, **_: Any) -> None:
        worker = self._workers[msg.data["worker"]]
        if worker.lost:
            return
        self._rows += msg.data["rows"]
        worker.heard = max(worker.heard, monotonic())
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

    def _say_goodbye(self) -> None:
        """Let the locustfile's on_stop, test_stop and quitting run, for a limited time."""
        environment = getattr(self, "_environment", None)
        if environment is not None and environment.runner is not None:
            environment.stop_timeout = 0.0
            with gevent.Timeout(_GOODBYE_S, False):
                if isinstance(environment.runner, LocalRunner):
                    environment.runner.stop()
                environment.events.quitting.fire(environment=environment, reverse=True)
                while any(w.child is not None and w.child.poll() is None for w in self._workers):
                    gevent.sleep(0.01)
