"""Experiments one after the other on one session: its stack, its load, its keeper.

The load goes on from one to the next. Each has its own run directory, with its history, samples and log written as it
goes, against its own t0; its windows are cut out of the session's once they are final, and it is judged from its own
files like any other run.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.adapters.keeper.protocol import KEEPER_JOURNAL
from harness.analysis.live import restless
from harness.analysis.record.cut import cut, settled
from harness.analysis.record.spans import spans
from harness.analysis.record.window_reader import WINDOWS
from harness.analysis.record.windows import WindowStore
from harness.analysis.rules.signatures import not_back
from harness.analysis.run_directory import SAMPLES, analyze, write_result
from harness.conductor.after_load import Before, ask_again
from harness.conductor.fault_runner import FaultRunner
from harness.conductor.finish import write_reports
from harness.conductor.loop import Conduct
from harness.conductor.readback import NOTED, read_back
from harness.conductor.recording.annotations import Annotations
from harness.conductor.recording.history import History
from harness.conductor.recording.log import RunLog
from harness.conductor.run import write_plan
from harness.conductor.running_load import RunningLoad
from harness.conductor.session import Session
from harness.conductor.signals import Signals
from harness.conductor.target_reset import reset_target
from harness.conductor.worker_threads import renewing
from harness.fault import Fault
from harness.model.clock import monotonic, step_of, step_start
from harness.model.errors import HarnessError
from harness.model.jsonl import LineReader, encode_line, read_lines
from harness.model.records.acknowledged import Noted
from harness.model.records.events import Event, LoadEnded, LoadLost, PhaseStarted, Stopped, StopWhy, UndoNotVerified
from harness.model.records.live import LiveState
from harness.model.records.plan import Plan, Provenance
from harness.model.records.result import Result
from harness.model.records.samples import Sample
from harness.model.records.stack import StackUp
from harness.model.records.windows import Row
from harness.plan.decide import STOPPING
from harness.plan.phases import sharing
from harness.plan.planner import bind
from harness.safety.journal.log import JOURNAL

CUT_EVERY_S = 0.5
STILL_TO_COME_S = 30.0
"""Rows come 0.1 s after what they tell of; later than this they do not come any more."""
SAMPLES_EVERY_S = 1.0

Say = Callable[[str], None]


class Carried(msgspec.Struct, kw_only=True):
    """One experiment that was carried out. first, end: its steps of the load. since: byte of the session's windows
    from which its rows are. reset: what was done to the target afterwards."""

    plan: Plan
    folder: Path
    history: History
    first: int
    end: int
    since: int
    reset: str = ""

    @property
    def recovered(self) -> bool:
        """It came to the hold after recovery, as far as could be seen while it went on."""
        return any(isinstance(event, PhaseStarted) and event.phase == "after" for event in self.events)

    @property
    def events(self) -> list[Event]:
        return self.history.events

    @property
    def stopped(self) -> StopWhy | None:
        return next((event.why for event in self.events if isinstance(event, Stopped)), None)

    @property
    def ends_session(self) -> str:
        """Why no other experiment can follow; "" where one can."""
        stopped = next((event for event in self.events if isinstance(event, Stopped)), None)
        if stopped is not None and stopped.why in STOPPING:
            return stopped.text
        lost = next((event for event in self.events if isinstance(event, LoadLost)), None)
        if lost is not None:
            return f"part of the load was lost: {lost.reason}"
        left = next((event for event in self.events if isinstance(event, UndoNotVerified)), None)
        return f"an undo could not be verified: {left.left}" if left is not None else ""


class Series:
    """faults: the registered kinds. done: called in another thread with each experiment's result, in order."""

    def __init__(
        self,
        session: Session,
        up: StackUp,
        load: RunningLoad,
        faults: Mapping[str, Fault],
        *,
        provenance: Provenance,
        log: RunLog,
        show: Callable[[LiveState], None],
        signals: Signals,
        done: Callable[[Carried, Result], None],
    ) -> None:
        self._session = session
        self._up = up
        self._load = load
        self._faults = faults
        self._provenance = provenance
        self._log = log
        self._show = show
        self._signals = signals
        self._before: Carried | None = None
        self._held_s = 0.0
        self._resets = 0
        self._finisher = _Finisher(session, load, done, log.say)

    def carry_out(self, plan: Plan, folder: Path, ended: Callable[[Carried], None]) -> Carried:
        """One experiment, from a target at rest to its hold or its early end, and what has to be done before the next.
        Blocks. folder: made for it, inside the session's. ended: called before it is judged.

        Raises HarnessError where it cannot begin at all; nothing was changed then.
        """
        with self._log.also_in(folder):
            carried = self._conduct(plan, folder)
            self._interlude(carried)
        ended(carried)
        self._finisher.add(carried)
        self._before = carried
        return carried

    def close(self) -> None:
        """Stop the load, in order, and finish every experiment's records. Returns when all are judged."""
        if self._load.process.running and not self._signals.count:
            stopped = self._load.stop()
            timeout_s = self._load_timeout_s
            while self._load.process.running and monotonic() < stopped + timeout_s and not self._signals.count:
                self._renew()
                time.sleep(CUT_EVERY_S / 10)
        self._load.kill()
        renewing(self._session.keeper, self._finisher.close)

    @property
    def _load_timeout_s(self) -> float:
        plan = self._before.plan if self._before is not None else None
        return 15.0 + (plan.load.request_timeout_s if plan is not None else 10.0)

    def _renew(self) -> None:
        if self._session.keeper is not None:
            self._session.keeper.renew()

    def _conduct(self, plan: Plan, folder: Path) -> Carried:
        session, load, say = self._session, self._load, self._log.say
        assert session.keeper is not None and session.journal is not None
        plan = bind(plan, self._up, self._faults)
        first = load.step_ahead()
        since = load.windows.stat().st_size if load.windows.exists() else 0
        plan = replace(
            plan,
            load=replace(plan.load, first_step=first),
            phases=sharing(plan.phases),
            provenance=self._provenance,
        )
        load.count_limits(plan.load.limits_ms, first)
        write_plan(folder, plan)
        history = History(folder / "history.jsonl", plan.experiment, say)
        store = WindowStore(plan)
        before = Before(plan, store)
        history.listen(before.note)
        history.start(load.instant(first))
        session.sample_into(history.t0, folder)
        grafana = self._up.grafana
        annotations = Annotations(grafana, plan.experiment, history, say) if grafana is not None else None
        try:
            runner = FaultRunner(
                plan,
                self._faults,
                history,
                session.journal,
                session.keeper,
                say=say,
                restart_toxiproxy=session.restart_toxiproxy if session.owns_stack else None,
                up=self._up,
                prefix=f"{folder.name}/",
            )
            Conduct(
                plan,
                history=history,
                faults=runner,
                keeper=session.keeper,
                load=load.process,
                messages=load.messages,
                store=store,
                windows=load.windows,
                signals=self._signals,
                say=say,
                show=self._show,
                since=since,
                restless=_Restless(plan, folder, history, self._before, self._held_s),
            ).run()
        finally:
            if annotations is not None:
                renewing(session.keeper, annotations.close)
        ended = next((event.end_s for event in reversed(history.events) if isinstance(event, LoadEnded)), None)
        end = first + step_of(history.since_t0() if ended is None else ended)
        self._last_look = before
        return Carried(plan=plan, folder=folder, history=history, first=first, end=end, since=since)

    def _interlude(self, carried: Carried) -> None:
        """What belongs to an experiment after its end: is the target still dead, or only under this load; is what it
        had acknowledged still there. A target that did not come back is started again, where the stack is ours."""
        self._held_s = carried.plan.phases.hold_s if carried.recovered and carried.stopped is None else 0.0
        if carried.ends_session or self._signals.count:
            return
        _noted_of(carried, self._session.run_dir, carried.folder)
        came_back = carried.recovered or carried.stopped in ("baseline_broken", "nothing_works")
        if not came_back:
            self._load.pause()
            ask_again(carried.plan, self._session, carried.history, self._last_look, self._signals, self._log.say)
        read_back(carried.plan, self._session, carried.history, self._signals, self._log.say, carried.folder)
        if not came_back or carried.stopped == "not_calm":
            carried.reset = self._reset()
        if not came_back:
            self._load.resume()

    def _reset(self) -> str:
        session = self._session
        if not session.owns_stack or session.journal is None or self._signals.count:
            return ""
        self._resets += 1
        journal, record_id, found = session.journal, f"reset-{self._resets}", [""]

        def work() -> None:
            found[0] = reset_target(self._up.dependencies, self._faults, journal, record_id, self._log.say)

        try:
            renewing(session.keeper, work)
        except HarnessError as error:
            self._log.say(f"the target could not be reset: {error}")
            return ""
        self._log.say(f"it had not come back: {found[0]}")
        return found[0]


class _Restless:
    """What keeps the target from being at rest: its own targets, and what the fault before left in the
    dependencies."""

    def __init__(self, plan: Plan, folder: Path, history: History, before: Carried | None, held_s: float) -> None:
        self._plan = plan
        self._folder = folder
        self._history = history
        self._before = before
        self._held_s = held_s
        self._looked = -SAMPLES_EVERY_S
        self._left: tuple[str, ...] = ()

    def __call__(self, store: WindowStore, now_s: float) -> str:
        found = restless(store, self._plan, now_s, self._held_s)
        if not found and self._before is not None and self._before.recovered:
            if now_s - self._looked >= SAMPLES_EVERY_S:
                self._looked = now_s
                self._left = self._of_dependencies(self._before)
            found = "; ".join(self._left)
        return found

    def _of_dependencies(self, before: Carried) -> tuple[str, ...]:
        later_s = self._history.t0 - before.history.t0
        samples = [*_samples(before.folder), *(_moved(one, later_s) for one in _samples(self._folder))]
        phases = spans(before.events, before.end - before.first)
        return not_back(before.plan, before.events, phases, samples)


def _samples(folder: Path) -> list[Sample]:
    try:
        return list(read_lines(folder / SAMPLES, Sample))
    except (OSError, ValueError):
        return []


def _moved(sample: Sample, seconds: float) -> Sample:
    counters = {
        name: {**row, "at": row["at"] + seconds} if "at" in row else row for name, row in sample.counters.items()
    }
    return replace(sample, at=sample.at + seconds, counters=counters)


class _Finisher:
    """Cuts the rows of each experiment out of the session's once they are final, and judges it, in a thread of its own:
    the next one has begun by then."""

    def __init__(self, session: Session, load: RunningLoad, done: Callable[[Carried, Result], None], say: Say) -> None:
        self._session = session
        self._load = load
        self._done = done
        self._say = say
        self._todo: queue.Queue[Carried | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="finish experiments", daemon=True)
        self._thread.start()

    def add(self, carried: Carried) -> None:
        self._todo.put(carried)

    def close(self) -> None:
        self._todo.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (carried := self._todo.get()) is not None:
            try:
                result = self._finish(carried)
            except Exception as error:
                self._say(f"{carried.folder.name} could not be judged: {type(error).__name__}: {error}")
                continue
            self._done(carried, result)

    def _finish(self, carried: Carried) -> Result:
        plan, folder = carried.plan, carried.folder
        write_cut(self._rows(carried), carried, folder / WINDOWS)
        for name in (JOURNAL, KEEPER_JOURNAL):
            _own_entries(self._session.state_dir / name, folder / name, f"{folder.name}/")
        result = analyze(folder)
        write_result(folder, result)
        write_reports(folder, self._say)
        assert plan.experiment == result.experiment
        return result

    def _rows(self, carried: Carried) -> list[Row]:
        """Those of the session since the experiment began, as soon as they are final."""
        plan = carried.plan
        rows: list[Row] = []
        until = self._load.instant(carried.end) + plan.load.request_timeout_s + STILL_TO_COME_S
        with closing(LineReader[Row](self._load.windows, Row, since=carried.since)) as reader:
            while True:
                over = not self._load.process.running
                rows += reader.poll()
                final = settled(rows, plan.load.workers, carried.end, plan.load.request_timeout_s)
                if final or over or monotonic() > until:
                    return rows
                time.sleep(CUT_EVERY_S)


def write_cut(rows: list[Row], carried: Carried, path: Path) -> None:
    """windows.jsonl of one experiment. Raises OSError."""
    own = cut(rows, carried.first, carried.end, carried.plan.load.request_timeout_s)
    path.write_bytes(b"".join(map(encode_line, own)))


def _noted_of(carried: Carried, session_dir: Path, folder: Path) -> None:
    """acknowledged.jsonl of one experiment: the seconds that begin in it."""
    first_s, end_s = step_start(carried.first), step_start(carried.end)
    try:
        noted: list[Noted] = list(read_lines(session_dir / NOTED, Noted))
    except (OSError, ValueError):
        return
    own = [replace(row, at=round(row.at - first_s, 1)) for row in noted if first_s <= row.at < end_s]
    if own:
        (folder / NOTED).write_bytes(b"".join(map(encode_line, own)))


def _own_entries(path: Path, out: Path, prefix: str) -> None:
    """The entries of one experiment's undo records, under the names that they have in it."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    mark = prefix.encode()
    own = [line.replace(b'"' + mark, b'"') for line in lines if b'"' + mark in line or b'"id"' not in line]
    out.write_bytes(b"".join(line + b"\n" for line in own))
