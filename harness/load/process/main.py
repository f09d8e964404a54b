"""The load process: Locust's master with its workers, or its local runner; carries out the conductor's commands.

It is the only writer of windows.jsonl: workers send rows ready to be written, one write per 100 ms.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import locust
import locust.log
import msgspec
from gevent.queue import Empty, Queue
from locust.runners import LocalRunner

from harness.load.generator.locustfile import BadLocustfile, make_environment, stopped_by
from harness.load.generator.worker import Generator, set_up_logging
from harness.load.ipc.pipe import MessagePipe, ParentPipe
from harness.load.ipc.protocol import (
    BROKEN,
    FAILED,
    NOTED,
    ROWS,
    WARNED,
    Begin,
    Command,
    Drained,
    Edge,
    Failed,
    Jump,
    Limits,
    LoadMessage,
    Pause,
    Resume,
    Start,
    Stop,
    Warned,
)
from harness.load.master.crew import Crew, LoadFailed
from harness.load.master.members import Member
from harness.model.clock import monotonic, step_start
from harness.model.jsonl import append_line, encode_line
from harness.model.records.acknowledged import Noted
from harness.model.records.load import STEP_S
from harness.model.records.windows import Row

_GOODBYE_S = 5.0
"""For on_stop and test_stop of the locustfile after everything was recorded; as long again for quitting."""
_LAST_REPORTS_S = 1.0
"""For the last statistics of workers that have ended, or are ending on other machines: at most."""

_ROW: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Row)
_NOTED: msgspec.json.Decoder[Any] = msgspec.json.Decoder(Noted)


class Load:
    """children: the worker processes, started already; empty: this process is its own worker."""

    def __init__(
        self, start: Start, pipe: ParentPipe, messages: MessagePipe, children: list[subprocess.Popen[bytes]]
    ) -> None:
        self._plan = start.plan
        self._pipe = pipe
        self._messages = messages
        self._windows = os.open(start.windows, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        folder = Path(start.windows).parent
        self._crew = Crew(start.plan, children, folder / "keys", self._say, lambda: self._failure)
        self._acknowledged = folder / "acknowledged.jsonl"
        self._rows = bytearray()
        self._commands: Queue[bytes] = Queue()
        self._t0: float | None = None
        self._end_step: int | None = None
        self._failure: str | None = None
        self._by_file = self._over = False
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
            self._say(Failed(text=str(error), by_file=self._by_file))
            code = 4
        with suppress(OSError):
            self._write_rows()
        if code == 0:
            self._say(Drained(end_step=self._end_step or 0))
        self._say_goodbye(code)
        return code

    def _set_up(self) -> None:
        environment = self._environment = make_environment(self._plan)
        crew = self._crew
        runner = crew.make_runner(environment)
        for kind, listener in (
            (ROWS, self._on_rows),
            (NOTED, self._on_noted),
            (WARNED, self._on_warned),
            (FAILED, self._on_failed),
            (BROKEN, self._on_broken),
        ):
            runner.register_message(kind, listener)
        generator = Generator(environment, self._plan, 0, crew.members[0].token) if crew.alone else None
        environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
        if locust.log.unhandled_greenlet_exception:
            raise LoadFailed("an init listener of the locustfile raised an exception; see the load's log")
        if generator is not None:
            generator.connected()
        else:
            environment.events.test_stopping.add_listener(self._on_test_stopping)
        crew.gather()
        # Sets the host, too. Users come with Begin.
        crew.start_test()
        crew.await_ready()

    # The run

    def _conduct(self) -> None:
        """Carry out commands, write rows, watch workers, until every worker is through its drain."""
        while True:
            self._carry_out_commands()
            self._crew.watch()
            self._write_rows()
            if self._failure is not None:
                raise LoadFailed(self._failure)
            alive = self._crew.alive
            if not alive:
                raise LoadFailed(f"every load worker is gone; the last: {self._crew.last_lost}")
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
                self._crew.begin(command, line)
                if self._plan.model == "closed":
                    users = self._plan.users if self._plan.jump_from is None else self._plan.jump_from
                    self._users_at(command.t0, users)
            elif isinstance(command, (Limits, Edge, Pause, Resume)):
                self._crew.broadcast(line)
                if self._plan.model == "closed" and self._t0 is not None:
                    if isinstance(command, Pause):
                        self._users_at(self._t0 + step_start(command.from_step), 0)
                    elif isinstance(command, Resume):
                        self._users_at(self._t0 + step_start(command.at_step), self._plan.users)
            elif isinstance(command, Jump) and self._t0 is not None:
                self._users_at(self._t0 + step_start(command.at_step), command.users)
            elif isinstance(command, Stop):
                self._end_step = command.end_step
                self._crew.broadcast(line)

    def _users_at(self, instant: float, users: int) -> None:
        """Closed model: that many users, from that instant on, at the plan's spawn rate."""

        def change() -> None:
            gevent.sleep(max(0.0, instant - monotonic()))
            if self._users is not None:
                self._users.kill()
            self._users = gevent.spawn(self._crew.start_users, users, self._plan.spawn_rate)

        gevent.spawn(change)

    # From the workers

    def _on_rows(self, environment: Any, msg: Any, **_: Any) -> None:
        worker = self._crew.members[msg.data["worker"]]
        if not worker.lost and self._are_its_own(worker, msg.data["rows"], _ROW):
            self._rows += msg.data["rows"]
            self._crew.heard(worker, msg.data["final"])

    def _are_its_own(self, worker: Member, lines: bytes, decoder: msgspec.json.Decoder[Any]) -> bool:
        """Whether whole lines of that kind came, all of them of this worker. What this process made itself is."""
        if self._crew.alone:
            return True
        try:
            whole = lines.endswith(b"\n")
            good = whole and all(decoder.decode(line).worker == worker.name for line in lines[:-1].split(b"\n"))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            good = False
        if not good:
            self._crew.runner.dropped(worker.index, "it has lines that are no record of this worker")
        return good

    def _on_noted(self, environment: Any, msg: Any, **_: Any) -> None:
        worker = self._crew.members[msg.data["worker"]]
        if worker.lost or not self._are_its_own(worker, msg.data["lines"], _NOTED):
            return
        try:
            append_line(self._acknowledged, msg.data["lines"])
        except OSError as error:
            self._failure = self._failure or f"acknowledged.jsonl cannot be written: {error}"

    def _on_warned(self, environment: Any, msg: Any, **_: Any) -> None:
        self._say(Warned(text=msg.data["text"]))

    def _on_failed(self, environment: Any, msg: Any, **_: Any) -> None:
        self._fail(msg.data["text"], by_file=msg.data.get("by_file", False))

    def _on_test_stopping(self, **_: Any) -> None:
        """Of several processes this one has no generator that would notice."""
        if not self._over:
            self._fail(stopped_by(self._plan.locustfile), by_file=True)

    def _fail(self, text: str, *, by_file: bool) -> None:
        if self._failure is None:
            self._failure, self._by_file = text, by_file

    def _on_broken(self, environment: Any, msg: Any, **_: Any) -> None:
        if self._crew.alone:
            self._failure = self._failure or msg.data["text"]
        else:
            self._crew.broken(self._crew.members[msg.data["worker"]], msg.data["text"])

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
        self._crew.goodbye("the run has ended" if code == 0 else "the run has failed", code)
        self._over = True
        environment = getattr(self, "_environment", None)
        if environment is not None and environment.runner is not None:
            environment.stop_timeout = 0.0
            # What listens to quitting may look at the statistics of the whole run, so the workers report first.
            with gevent.Timeout(_GOODBYE_S, False):
                if isinstance(environment.runner, LocalRunner):
                    environment.runner.stop()
                else:
                    environment.runner.release()
                    while not self._crew.ended:
                        gevent.sleep(0.01)
                    with gevent.Timeout(_LAST_REPORTS_S, False):
                        while environment.runner.clients.all:  # each goes with its last word
                            gevent.sleep(0.01)
            with gevent.Timeout(_GOODBYE_S, False):
                environment.events.quitting.fire(environment=environment, reverse=True)
                environment.events.quit.fire(exit_code=code)
