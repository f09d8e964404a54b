"""The load of a session: started once, for one experiment or for many that follow each other."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path

from harness.conductor.finish import import_reports
from harness.conductor.session import Session
from harness.conductor.signals import Signals
from harness.conductor.worker_threads import Inbox
from harness.load.ipc.protocol import Begin, Failed, Limits, LoadMessage, Pause, Ready, Resume, Stop, Warned
from harness.load.process.launcher import LoadProcess
from harness.model.clock import monotonic, step_of, step_start
from harness.model.errors import LoadError
from harness.model.records.load import STEP_S, LoadPlan

START_LEAD_S = 0.3
"""t0 lies this far ahead when it is chosen, so that every load process knows it in time; the same for a change of the
load that holds from a step on."""
READY_S = 60.0
IMPORT_LIMIT_S = 2.0
"""The start waits no longer for what only the end needs."""

Say = Callable[[str], None]


class RunningLoad:
    """process: in its own session. messages: what it says, and its exit code at last. windows: where its rows go. t0:
    CLOCK_MONOTONIC, the zero of its steps; 0.0 before `begin`. run: what its requests call it."""

    def __init__(self, process: LoadProcess, messages: Inbox[LoadMessage | int], windows: Path, run: str) -> None:
        self.process = process
        self.messages = messages
        self.windows = windows
        self.run = run
        self.t0 = 0.0

    @classmethod
    def start(cls, plan: LoadPlan, session: Session, windows: Path, signals: Signals, say: Say) -> RunningLoad | None:
        """Ready to begin; None when a signal came first. Raises LoadError when it dies or takes too long."""
        assert session.keeper is not None and session.journal is not None
        messages: Inbox[LoadMessage | int] = Inbox()
        process = LoadProcess.start(
            plan,
            windows=windows,
            log=session.run_dir / "logs" / "load.log",
            on_message=messages.put,
            on_exit=messages.put,
        )
        load = cls(process, messages, windows, plan.run)
        try:
            session.keeper.adopt("load", process.pid, process.start_time)
            session.journal.load_process("load", process.pid, process.start_time)
            importing = import_reports()
            wait_s = READY_S + (plan.remote.wait_s if plan.remote is not None else 0.0)
            ready = _wait_ready(messages, session, signals, say, wait_s)
            if ready is None:
                load.kill()
                return None
            for number, (pid, started) in enumerate(zip(ready.pids, ready.start_times, strict=True)):
                session.keeper.adopt(f"load-worker-{number}", pid, started)
                session.journal.load_process(f"load-worker-{number}", pid, started)
            # Under load nothing should compete with the main loop. The lease lasts five times as long as this wait.
            importing.join(IMPORT_LIMIT_S)
        except BaseException:
            load.kill()
            raise
        return load

    def begin(self, t0: float) -> None:
        """The schedule starts at t0."""
        self.t0 = t0
        self.process.send(Begin(t0=t0))

    def step_ahead(self) -> int:
        """A step that every load process still knows of in time."""
        return step_of(monotonic() + START_LEAD_S - self.t0) + 1

    def instant(self, step: int) -> float:
        """When it begins, CLOCK_MONOTONIC."""
        return self.t0 + step_start(step)

    def count_limits(self, limits_ms: tuple[float, ...], from_step: int) -> None:
        self.process.send(Limits(limits_ms=limits_ms, from_step=from_step))

    def pause(self) -> float:
        """No arrivals from a moment on, CLOCK_MONOTONIC; what is open goes on."""
        step = self.step_ahead()
        self.process.send(Pause(from_step=step))
        return self.instant(step)

    def resume(self) -> None:
        self.process.send(Resume(at_step=self.step_ahead()))

    def stop(self) -> float:
        """No arrivals any more from a moment on, CLOCK_MONOTONIC: it drains, and ends."""
        step = self.step_ahead()
        self.process.send(Stop(end_step=step))
        return self.instant(step)

    def kill(self) -> None:
        self.process.kill()


def _wait_ready(
    messages: Inbox[LoadMessage | int], session: Session, signals: Signals, say: Say, limit_s: float
) -> Ready | None:
    """The load's Ready; None when a signal came first. Raises LoadError when it dies or takes too long."""
    assert session.keeper is not None
    until = monotonic() + limit_s
    while monotonic() < until:
        session.keeper.renew()
        if signals.count:
            return None
        try:
            message = messages.get(timeout=STEP_S / 2)
        except queue.Empty:
            continue
        match message:
            case Ready():
                return message
            case Failed(text=text):
                raise LoadError(f"the load could not start: {text}", hint="see logs/load.log in the run directory")
            case int():
                raise LoadError(
                    f"the load process ended before it was ready (exit {message})",
                    hint="see logs/load.log in the run directory",
                )
            case Warned(text=text):
                say(text)
            case _:
                continue
    raise LoadError(f"the load was not ready after {limit_s:g} s", hint="see logs/load.log in the run directory")
