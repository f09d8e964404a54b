"""One generator of load: the users of a Locust worker (or of the only process), and what they report.

It speaks to the main process through Locust's own messages, so local and remote workers and the only process are
one code path.

    harness.command    main to worker: one Command of protocol.py, encoded
    harness.connected  worker to main: {worker, token, pid, start_time, node}; after the file's init listeners ran
    harness.ready      worker to main: {worker}; after its test_start listeners ran
    harness.rows       worker to main: {worker, rows, final}; lines for windows.jsonl
    harness.noted      worker to main: {worker, lines}; lines for acknowledged.jsonl
    harness.warned, harness.failed    worker to main: {worker, text}
    harness.broken     worker to main: {worker, text}; this generator records nothing any more
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from typing import Any

import gevent
import locust.log
import msgspec
import psutil
from gevent.event import Event
from locust.runners import WorkerRunner

from harness.load.allowed_hosts.enforce import hold_to
from harness.load.allowed_hosts.traceparent import Tracer
from harness.load.generator.clients import hook_clients, hook_headers
from harness.load.generator.closed import ClosedModel, Cycles
from harness.load.generator.dispatcher import Dispatcher
from harness.load.generator.hooks import install
from harness.load.generator.locustfile import make_environment, stopped_by
from harness.load.generator.tracker import Tracker
from harness.load.ipc.door import hold_key
from harness.load.ipc.pipe import ParentPipe
from harness.load.ipc.protocol import (
    BROKEN,
    COMMAND,
    CONNECTED,
    FAILED,
    NOTED,
    READY,
    ROWS,
    WARNED,
    Begin,
    Command,
    Edge,
    Limits,
    Pause,
    Resume,
    Stop,
    WorkerStart,
)
from harness.load.record.failures import told
from harness.load.record.recorder import Recorder, writable
from harness.load.record.stats import StatsBatch
from harness.load.writes.acknowledged import PER_SECOND, Notes
from harness.model.clock import monotonic, step_start
from harness.model.records.load import STEP_S, LoadPlan

_COLLECT = (10_000, 20, 20)
"""gc.set_threshold: a collection every so many new objects (700 by default), of older ones every so many of those."""
_LAST_WORDS_MS = 2000
"""For a worker's last statistics to get to the master, which may have gone."""
_DRAIN_SLACK_S = 0.5
"""The drain outlasts the request time-out by this, so that the last time-outs are seen as what they are."""


class Generator:
    """Makes `environment.runner` generate its share of the plan. index: number of this worker; token: its ticket."""

    def __init__(self, environment: Any, plan: LoadPlan, index: int, token: str) -> None:
        self._environment = environment
        self._runner = environment.runner
        self._plan = plan
        self._index = index
        self._token = token
        self._offset = STEP_S * index / max(1, plan.workers)
        self._finishing = self._frozen = False
        self._finisher: Any = None
        self._unhandled = False
        self.recorder = Recorder(f"w{index}", plan.limits_ms)
        self._notes = Notes(f"w{index}", PER_SECOND // max(1, plan.workers))
        self._notes.install(environment)
        self._cycles = Cycles() if plan.model == "closed" else None
        self._stats = StatsBatch(environment)
        self._stats.take_over()
        tracer = Tracer(plan.run) if plan.trace else None
        self._tracker = Tracker(self.recorder, plan.request_timeout_s, self._stats, self._cycles, tracer)
        self.recorder.open_names = self._tracker.open_names
        self._model: Dispatcher | ClosedModel
        if self._cycles is not None:
            self._model = ClosedModel(self.recorder, self._cycles)
        else:
            self._model = Dispatcher(environment, self._runner, plan, index, self.recorder, self._tracker, self._warn)
        hook_clients(self._tracker, environment)
        if tracer is not None:
            hook_headers(tracer)
        hold_to(plan.host, plan.addresses, plan.allow_hosts)
        install(self._model, self.recorder, self._tracker)
        self._runner.register_message(COMMAND, self._on_command)

    def connected(self) -> None:
        """The locustfile's init listeners ran; so ours are the last of every kind."""
        events = self._environment.events
        events.test_start.add_listener(self._on_test_start)
        events.test_stopping.add_listener(self._on_test_stopping)
        start_time = psutil.Process().create_time()
        node = self._runner.client_id
        self._send(CONNECTED, token=self._token, pid=os.getpid(), start_time=start_time, node=node)

    def _on_test_start(self, **_: Any) -> None:
        self._send(READY)

    def _on_test_stopping(self, **_: Any) -> None:
        if not self._finishing:
            self._send(FAILED, text=stopped_by(self._plan.locustfile), by_file=True)

    def _on_command(self, environment: Any, msg: Any, **_: Any) -> None:
        command: Command = msgspec.json.decode(msg.data, type=Command)
        if isinstance(command, Begin):
            # What was imported lives as long as the process: keep it out of every later collection.
            gc.collect()
            gc.freeze()
            # Objects of a request end with it, without the collector, which would only look at thousands of users.
            gc.set_threshold(*_COLLECT)
            self.recorder.begin(command.t0)
            self._model.begin(command.t0)
            self._notes.begin(command.t0)
            gevent.spawn(self._flush_regularly).link_exception(self._on_blind)
        elif isinstance(command, Limits):
            self.recorder.set_limits(command.limits_ms, command.from_step)
        elif isinstance(command, Pause):
            self._model.fall_silent(command.from_step)
        elif isinstance(command, Resume):
            self._model.resume(command.at_step)
        elif isinstance(command, Edge):
            if command.phase == "baseline" and not self._frozen:
                # The users and connections of the ramp stay: with thousands of them one collection takes 0.3 s.
                self._frozen = True
                gc.freeze()
            if self._cycles is not None:
                self._cycles.entered(command.phase)
        elif isinstance(command, Stop) and not self._finishing:
            # A later stop replaces the one before: a run that is to end early need not wait for its planned end.
            if self._finisher is not None:
                self._finisher.kill()
            self._finisher = gevent.spawn(self._finish, command.end_step)
            self._finisher.link_exception(self._on_blind)

    def _flush_regularly(self) -> None:
        flushes = 0
        gevent.sleep(max(0.0, self.recorder.t0 - monotonic()))
        while True:
            # On a grid, so that rows come in step whatever the flush itself takes; each worker on its own, for a flush
            # takes milliseconds of a core, and all at once would make every worker's arrivals late.
            gevent.sleep(STEP_S - (monotonic() - self.recorder.t0 - self._offset) % STEP_S)
            if self._finishing:
                break
            self._flush()
            flushes += 1
            if self._cycles is not None and flushes % 10 == 0:
                self._cycles.update()

    def _flush(self, *, final: bool = False) -> None:
        self._stats.flush()
        rows = self.recorder.flush(self._model.done, self._runner.user_count, final=final)
        if lines := self._notes.take(final=final):
            self._send(NOTED, lines=lines)
        self._send(ROWS, rows=rows, final=final)
        for text in self.recorder.warnings:
            self._warn(text)
        self.recorder.warnings.clear()
        if locust.log.unhandled_greenlet_exception and not self._unhandled:
            self._unhandled = True
            self._warn("a listener or the start of a user raised an exception; see the load's log")

    def _finish(self, end_step: int) -> None:
        """No arrivals from end_step on, let what is open end, call the rest unfinished, say so."""
        self._model.stop(end_step)
        end = max(self.recorder.t0 + step_start(end_step), monotonic())
        gevent.sleep(end - monotonic())
        deadline = end + self._plan.request_timeout_s + _DRAIN_SLACK_S
        while (self.recorder.open or not self._model.idle) and monotonic() < deadline:
            gevent.sleep(0.01)
        self._finishing = True
        self._tracker.abandon()
        self.recorder.abandon()
        self._flush(final=True)
        self._environment.stop_timeout = 0.0

    def _on_blind(self, recording: Any) -> None:
        """Load that nobody records is worse than none: the main process ends this generator. In the event loop."""
        text = f"the recording of its requests failed: {writable(told(recording.exception))}"
        gevent.spawn(self._send, BROKEN, text=text)

    def _warn(self, text: str) -> None:
        self._send(WARNED, text=writable(text))

    def _send(self, kind: str, **data: Any) -> None:
        self._runner.send_message(kind, {"worker": self._index, **data})


class _Worker(WorkerRunner):  # type: ignore[misc]
    """Locust's worker, without what hangs on the wall clock: the end of a pipe or silence on a channel says that the
    master is gone, and messages of one connection keep their order."""

    def heartbeat_timeout_checker(self) -> None:
        pass

    def handle_message(self, msg: Any) -> None:
        if msg.type == "spawn":
            self.last_received_spawn_timestamp = 0
        super().handle_message(msg)


def run_local(pipe: ParentPipe) -> int:
    """The program of a local worker process: exit code."""
    started = Event()
    lines: list[bytes] = []

    def on_line(line: bytes) -> None:
        lines.append(line)
        started.set()

    pipe.listen(on_line)
    started.wait()
    return run(msgspec.json.decode(lines[0], type=WorkerStart))


def run(start: WorkerStart) -> int:
    """Work until the master says that the run is over: exit code."""
    set_up_logging()
    environment = make_environment(start.plan)
    if start.key is not None:
        hold_key(start.key)
    runner = environment._create_runner(_Worker, start.host, start.port)
    generator = Generator(environment, start.plan, start.index, start.token)
    environment.events.init.fire(environment=environment, runner=runner, web_ui=None)
    generator.connected()
    runner.greenlet.join()
    environment.events.quitting.fire(environment=environment, reverse=True)
    environment.events.quit.fire(exit_code=0)
    # The process ends without waiting for anything (start.leave), so what was sent last has to be on its way by now.
    socket = runner.client.socket
    socket.close(linger=_LAST_WORDS_MS)
    socket.context.term()
    return 0


def set_up_logging() -> None:
    """Locust's and the locustfile's log lines to stderr, which is the load's log file; a flood is cut off."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s {os.getpid()} %(levelname)s %(name)s: %(message)s"))
    handler.addFilter(_Flood())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Flood(logging.Filter):
    """At most 20 lines a second: Locust logs a traceback for every task that raises."""

    def __init__(self) -> None:
        super().__init__()
        self._second = 0
        self._lines = 0

    def filter(self, record: logging.LogRecord) -> bool:
        second = int(record.created)
        if second != self._second:
            if self._lines > 20:
                record.msg = f"({self._lines - 20} lines of the second before were left out) {record.msg}"
            self._second, self._lines = second, 0
        self._lines += 1
        return self._lines <= 20
