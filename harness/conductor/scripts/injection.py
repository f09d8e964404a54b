"""Faults that are on while somebody's own code runs: proven, looked at again at the end, undone and verified.

The session's keeper has the undo on disk before anything is changed, so it is undone whatever becomes of this process.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from harness.conductor.fault_runner import FaultRunner
from harness.conductor.prepare import Planned, ground
from harness.conductor.recording.history import History
from harness.conductor.scripts.turn import turn
from harness.conductor.session import Session, make_run_dir, opened
from harness.conductor.signals import Signals
from harness.config.file import ASSUMED, Configuration
from harness.fault import registered
from harness.model.clock import monotonic
from harness.model.errors import NotProven, SetupError, UndoUnverified, UsageError
from harness.model.records.events import FaultEvidence, FaultNotProven, PathUnproven, UndoNotVerified
from harness.model.records.faults import Evidence
from harness.model.records.load import Locustfile, TaskInfo, UserClass
from harness.model.records.plan import Plan
from harness.plan import machine
from harness.plan.experiment import Experiment
from harness.plan.phases import MIN_FAULT_S
from harness.plan.planner import bind
from harness.safety.keeper.client import Keeper

RENEW_S = 0.25
APART_S = 1.0
"""Between the two looks at who uses a dependency."""

Say = Callable[[str], None]


class Injection:
    """Faults that are on, proven. names: of the faults. folder: their records, for whoever wants to look later."""

    def __init__(self, names: tuple[str, ...], folder: Path, history: History) -> None:
        self.names = names
        self.folder = folder
        self._history = history

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """What was seen so far: by the control plane, by a probe, and on the application's path."""
        return tuple(event.evidence for event in self._history.events if isinstance(event, FaultEvidence))


@contextmanager
def injected(
    faults: Sequence[str],
    configuration: Configuration,
    *,
    out: Path,
    longest_s: float,
    wait_s: float,
    prove_path: bool,
    say: Say,
) -> Iterator[Injection]:
    """longest_s: the keeper undoes them on its own half a minute later. wait_s: for others that are at this system.
    prove_path: that the application uses what the faults change.

    Raises NotProven, also where one did not last until the end; UndoUnverified before all else; UsageError and Refused
    for what was refused before anything was touched.
    """
    planned = _planned(faults, configuration, longest_s, prove_path)
    plan = planned.plan
    with turn(plan, wait_s=wait_s, say=say):
        planned.check()
        name = plan.experiment
        with opened(planned, plan, lambda: make_run_dir(out, name), owner=name, view="none") as (session, log):
            history = History(session.run_dir / "history.jsonl", name, log.say)
            try:
                yield from _on_meanwhile(plan, session, history, prove_path, log.say)
            finally:
                for line in session.left:
                    say(line)


def _planned(faults: Sequence[str], configuration: Configuration, longest_s: float, prove_path: bool) -> Planned:
    """A plan like a run's, of which only the faults are carried out. Raises UsageError."""
    if not faults:
        raise UsageError("no fault is named", hint="for example: redis-down")
    for text in faults:
        if "@" in text or "+" in text:
            raise UsageError(
                f"{text}: when it begins and ends is said by the code around it",
                hint=f"{text.partition('@')[0].partition('+')[0]}, and longest_s where that takes long",
            )
    target = configuration.target
    if target is None:
        raise UsageError(f"{configuration.shown}: there is no target", hint="[target] with the url of your service")
    if not prove_path:
        tables = {
            name: msgspec.structs.replace(table, path=ASSUMED) for name, table in configuration.dependencies.items()
        }
        configuration = msgspec.structs.replace(configuration, dependencies=tables)
    # No load is made of it: these are a rate and a length at which a plan has nothing to object.
    asked = Experiment(
        faults=tuple(faults),
        rate=1000.0,
        fault_s=max(longest_s, MIN_FAULT_S),
        stack="external",
        host=target.url,
    )
    nobody = UserClass(name="Nobody", tasks=(TaskInfo(name="nothing", share=1.0),))
    on = ground(asked, configuration)
    plan = on.plan(asked, lambda: Locustfile(path=on.locustfile, sha256="", classes=(nobody,)))
    # Two processes may begin within one second.
    plan = msgspec.structs.replace(plan, experiment=f"{plan.experiment}-{os.getpid()}")
    return Planned(experiment=asked, plan=plan, stack=on.stack, running=None)


def _on_meanwhile(plan: Plan, session: Session, history: History, prove_path: bool, say: Say) -> Iterator[Injection]:
    runner: FaultRunner | None = None
    renewing: _Renewing | None = None
    failed = True
    try:
        with _held_back() as signals:
            up = session.open(signals)
            if up is not None and session.keeper is not None and session.journal is not None:
                renewing = _Renewing(session.keeper)
                plan = bind(plan, up, registered())
                session.lock_shared(
                    plan, [f.spec.dependency for f in plan.faults if "changes_server" in f.change.traits]
                )
                history.start(monotonic())
                runner = FaultRunner(
                    plan,
                    registered(),
                    history,
                    session.journal,
                    session.keeper,
                    say=say,
                    restart_toxiproxy=None,
                    up=up,
                )
                _put_on(plan, runner, history, signals)
        if runner is None or signals.count:
            raise SetupError("stopped before the faults were on")
        yield Injection(tuple(fault.id for fault in plan.faults), session.run_dir, history)
        with _held_back():
            if prove_path:
                runner.look_for_bypass()
            for fault in plan.faults:
                if not fault.change.one_shot:
                    runner.prove(fault.id, "held")
        failed = False
    finally:
        with _held_back():
            if runner is not None:
                runner.undo_rest()
            if renewing is not None:
                renewing.stop()
            left = [event for event in history.events if isinstance(event, UndoNotVerified)]
            session.end([f"{event.fault}: {event.left}; {event.mend}" for event in left])
        if left:
            raise UndoUnverified(left[0].left, left[0].mend)
    if not failed:
        _refuse_unproven(history)


def _put_on(plan: Plan, runner: FaultRunner, history: History, signals: Signals) -> None:
    """Every fault, proven. Raises NotProven, and SetupError for what prevents an injection."""
    runner.snapshot_paths()
    time.sleep(APART_S)
    prepared = runner.prepare()
    _refuse_unproven(history)
    if isinstance(prepared, machine.Prepared) and prepared.problem is not None:
        raise SetupError(prepared.problem)
    for fault in plan.faults:
        if signals.count:
            return
        if isinstance(runner.inject(fault.id), machine.Injected):
            runner.prove(fault.id, "injected")
        _refuse_unproven(history)


def _refuse_unproven(history: History) -> None:
    for event in history.events:
        if isinstance(event, (FaultNotProven, PathUnproven)):
            raise NotProven(
                f"{event.fault} is not proven: {event.missing}",
                hint="an application that is not in use shows nothing: send it requests before, and meanwhile",
            )


@contextmanager
def _held_back() -> Iterator[Signals]:
    """Ctrl-C and its like come when this is over: half an undo helps nobody."""
    signals = Signals()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    try:
        with signals:
            yield signals
    finally:
        if signals.count:
            os.kill(os.getpid(), getattr(signal, signals.name))


class _Renewing:
    """Tells the keeper that this process lives, from a thread: the main one is somebody else's."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="keeper-lease", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._end.wait(RENEW_S):
            self._keeper.renew()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()
