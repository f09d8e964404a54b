"""One experiment on a session: feeds the phase machine, carries out its effects, and has one way out.

The main loop owns the clock, the lease and the machine. Whatever blocks runs in a worker thread and posts its
result back on one queue, where signals, the load's messages and a lost keeper arrive as well.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

import msgspec

from harness.analysis import live as live_rules
from harness.analysis.record.window_reader import WindowReader
from harness.analysis.record.windows import WindowStore
from harness.conductor.after_load import Before
from harness.conductor.fault_runner import FaultRunner
from harness.conductor.orders import People
from harness.conductor.recording.annotations import Annotations
from harness.conductor.recording.history import History
from harness.conductor.running_load import RunningLoad
from harness.conductor.session import Session
from harness.conductor.signals import Signals
from harness.conductor.status import TOLD, StatusBoard
from harness.conductor.worker_threads import Inbox, Pool, renewing
from harness.fault import Fault
from harness.load.ipc import protocol
from harness.load.ipc.protocol import Drained, Failed, LoadMessage, Warned, WorkerLost
from harness.load.process.launcher import LoadProcess
from harness.model.clock import monotonic, next_step, step_of
from harness.model.errors import UsageError
from harness.model.records.events import (
    ClockDoubt,
    LoadEnded,
    LoadLost,
    Note,
    Ordered,
    PhaseExtended,
    PhaseStarted,
    Stopped,
    StopWhy,
    UndoNotVerified,
    ZeroFound,
)
from harness.model.records.live import LiveState
from harness.model.records.plan import Plan
from harness.model.records.targets import PhaseName
from harness.model.records.windows import Row
from harness.plan.decide import begin, decide, may_look, refused, will_look
from harness.plan.machine import (
    BaselineJudged,
    Check,
    Effect,
    EnterPhase,
    Extend,
    Finish,
    HandOn,
    Inject,
    Injected,
    InjectFailed,
    Input,
    JudgeBaseline,
    Jump,
    LoadOver,
    Order,
    Prepare,
    Prepared,
    RecordOrder,
    RecordStop,
    State,
    StopLoad,
    StopRequest,
    Tick,
    Undo,
    Undone,
)
from harness.safety.keeper.client import Keeper

TICK_S = 0.02
ABORTABLE: tuple[PhaseName, ...] = ("fault", "recovery", "after")
"""Where abort conditions are watched: a service that does badly before the fault is baseline's to judge."""
FORGETTING: tuple[PhaseName, ...] = ("fault", "recovery", "after", "tail")
FORGET_EVERY_S = 10.0
"""Where the main loop keeps only what its rules still need. The result is made from the files."""
STALL_S = 2.0
"""A main loop that stood still for longer than this (somebody stopped the process) says so in the history."""
LIVE_EVERY_S = 0.25
SILENT_AFTER_S = 5.0
"""No window for this long ends the run, fault or not: nobody is watching the service any more."""
FRESH_S = 1.0
"""Nothing is injected while the last window is older than this."""
WORKS_EVERY_S = 0.5
CALM_EVERY_S = 0.2
MOST_BUGS = 20
"""A loop that fails this often cannot even find its way out; the undo is then done without it."""
LOOK_EVERY_S = 3.0
"""How often it is looked whether somebody goes past a proxy with a fault on it: a look costs more than a probe."""
DRAIN_SLACK_S = 15.0
"""A load that has not ended this long after its own time-out is killed."""


def conduct(
    plan: Plan,
    session: Session,
    load: RunningLoad,
    history: History,
    *,
    t0: float,
    faults: Mapping[str, Fault],
    store: WindowStore,
    signals: Signals,
    say: Callable[[str], None],
    show: Callable[[LiveState], None],
    prefix: str = "",
    since: int = 0,
    restless: Callable[[WindowStore, float], str] = lambda store, now: "",
    people: People | None = None,
) -> Before:
    """Carry one experiment out on an open session whose load runs, with its marks in a Grafana; blocks until it is
    over. t0: CLOCK_MONOTONIC, the zero of its clock. prefix: of its undo records' names in the journal. since,
    restless, people: see Conduct. Returns how the target did in baseline."""
    assert session.keeper is not None and session.journal is not None and session.up is not None
    before = Before(plan, store)
    history.listen(before.note)
    grafana = session.up.grafana if people is None or not people.hidden else None
    annotations = Annotations(grafana, plan.experiment, history, say) if grafana is not None else None
    if session.exposition is not None:
        session.exposition.follow(plan, history, hidden=people is not None and people.hidden)
    if session.spans is not None and not (people is not None and people.hidden):
        session.spans.follow(plan, history)
    history.start(t0)
    try:
        runner = FaultRunner(
            plan,
            faults,
            history,
            session.journal,
            session.keeper,
            say=say,
            restart_toxiproxy=session.restart_toxiproxy if session.owns_stack else None,
            up=session.up,
            prefix=prefix,
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
            signals=signals,
            say=say,
            show=show,
            since=since,
            restless=restless,
            people=people,
            unresolved=session.unresolved(plan),
            told=session.exposition.rows if session.exposition is not None else None,
        ).run()
    finally:
        history.unlisten()
        if session.exposition is not None:
            session.exposition.over()
        if session.spans is not None:
            session.spans.over()
        if people is not None:
            people.orders.close()
        if annotations is not None:
            renewing(session.keeper, annotations.close)
    return before


class Conduct:
    """run() returns when the experiment is over and every fault is undone or told as left.

    since: byte of `windows` from which this experiment's rows are. restless: where the load is shared, what keeps the
    baseline from beginning, given the store and seconds since t0; "" for nothing. people: who may do something to it,
    where there are any. unresolved: which expected alerts are waited for once nothing else is, given seconds since t0.
    told: who else is told of every row.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        history: History,
        faults: FaultRunner,
        keeper: Keeper,
        load: LoadProcess,
        messages: Inbox[LoadMessage | int],
        store: WindowStore,
        windows: Path,
        signals: Signals,
        say: Callable[[str], None],
        show: Callable[[LiveState], None],
        since: int = 0,
        restless: Callable[[WindowStore, float], str] = lambda store, now: "",
        people: People | None = None,
        unresolved: Callable[[float], str] = lambda now: "",
        told: Callable[[Sequence[Row]], None] | None = None,
    ) -> None:
        self._plan = plan
        self._first_step = plan.load.first_step
        self._restless = restless
        self._orders = people.orders if people is not None else None
        waits = people is not None and people.waits
        self._looked_at: tuple[PhaseName, ...] = () if waits else ("warmup", "settle", "baseline")
        self._unresolved = unresolved
        self._told = told
        self._awaited = ""
        self._history = history
        self._fault_runner = faults
        self._keeper = keeper
        self._load = load
        self._messages = messages
        self._store = store
        self._windows = WindowReader(windows, plan, since)
        self._signals = signals
        self._say = say
        self._show = show
        self._inputs: Inbox[Input] = Inbox()
        if people is not None:
            faults.on_mended = self._inputs.put
            faults.choose = people.choose
        self._pool = Pool(4 + 2 * len(plan.faults), self._inputs, history.since_t0, say)
        self._checks: dict[str, Future[None]] = {}
        self._bypass: Future[None] | None = None
        self._board = StatusBoard(plan, history)
        self._fault_from = 0.0
        self._aborts = [live_rules.parse_abort(text) for text in plan.abort_if]
        self._state: State
        self._load_failure = ""
        self._last_row = 0.0
        self._last_live = 0.0
        self._kill_load_at: float | None = None
        self._signals_seen = 0
        self._suspensions_seen = 0
        self._keeper_told = False
        self._last_turn = monotonic()
        self._wanting = ""

    def run(self) -> None:
        self._state, effects = begin(self._plan)
        for effect in effects:
            self._carry_out(effect)
        bugs = 0
        try:
            while not self._state.finished:
                try:
                    self._turn()
                except Exception as error:
                    bugs += 1
                    if bugs > MOST_BUGS:
                        raise
                    self._stop("error", f"internal error: {type(error).__name__}: {error}")
        finally:
            self._windows.close()
            # A look at a system that hangs may take longer than the lease.
            renewing(self._keeper, self._pool.close)
            # Nothing to do after an ordinary end; after a bug in the loop itself this is the last way out.
            renewing(self._keeper, self._fault_runner.undo_rest)

    def _turn(self) -> None:
        self._keeper.renew()
        self._read_windows()
        self._read_messages()
        self._watch()
        self._take_orders()
        try:
            self._feed(self._inputs.get(timeout=TICK_S))
            while True:
                self._feed(self._inputs.get_nowait())
        except queue.Empty:
            pass
        self._feed(self._tick())
        self._update_view()

    def _feed(self, event: Input) -> None:
        self._state, effects = decide(self._state, event)
        for effect in effects:
            self._carry_out(effect)

    def _tick(self) -> Tick:
        now = self._history.since_t0()
        final_s = clean_from = None
        if self._state.phase == "gap":
            final_s = self._store.final_before() / 10
        if self._state.phase == "recovery":
            clean_from = self._clean_from(now)
        calm = self._state.phase == "settle" and self._is_calm(now)
        if self._state.phase == "warmup" and now >= self._plan.phases.warmup_s:
            self._look_at_alerts(now)
        alerts = self._state.phase in ("warmup", "settle") and bool(self._awaited)
        length_s = self._length_wanted() if may_look(msgspec.structs.replace(self._state, now=now)) else None
        return Tick(now=now, final_s=final_s or 0.0, clean_from=clean_from, length_s=length_s, calm=calm, alerts=alerts)

    def _is_calm(self, now: float) -> bool:
        if not self._board.due("calm", now, CALM_EVERY_S):
            return False
        waiting = self._restless(self._store, now)
        self._awaited = "" if waiting else self._unresolved(now)
        self._board.message = waiting or (f"not yet: {self._awaited}" if self._awaited else "")
        return not waiting and not self._awaited

    def _look_at_alerts(self, now: float) -> None:
        if self._board.due("alerts", now, CALM_EVERY_S):
            self._awaited = self._unresolved(now)
            if self._awaited:
                self._board.message = f"not yet: {self._awaited}"

    def _length_wanted(self) -> float:
        """How long the phase should be, asked once, near its planned end."""
        state = self._state
        planned_s = round((state.phase_end or state.phase_start) - state.phase_start, 1)
        wanted, self._wanting = live_rules.length_wanted(
            self._store, self._plan, self._history.events, state.phase, state.phase_start, planned_s
        )
        return wanted

    def _clean_from(self, now: float) -> float | None:
        """The first second of a clean hold, on provisional counts; None while there is none."""
        zero = self._state.zero
        if zero is None or now - zero < self._plan.phases.hold_s or not self._board.due("recovery", now, 0.2):
            return None
        step = live_rules.recovered_live(self._store, self._plan, zero, now)
        return None if step is None else step / 10

    # -- what arrives ------------------------------------------------------------------------------------------

    def _read_windows(self) -> None:
        try:
            rows = list(self._windows.poll())
        except FileNotFoundError:
            return  # the load has not begun
        except (ValueError, OSError, UsageError) as error:
            self._stop("error", f"the record of requests cannot be read: {error}")
            return
        for row in rows:
            self._store.add(row)
        if rows and self._told is not None:
            self._told(rows)
        if rows:
            self._last_row = self._history.since_t0()
        if self._state.phase == "settle" and self._board.due("forget", self._last_row, FORGET_EVERY_S):
            live_rules.forget_settled(self._store, self._plan, self._last_row)
        if self._state.phase in FORGETTING and self._board.due("forget", self._last_row, FORGET_EVERY_S):
            state = self._state
            since = state.zero if state.phase == "recovery" else state.phase_start if will_look(state) else None
            live_rules.forget(self._store, self._plan, self._aborts, since, self._last_row)

    def _read_messages(self) -> None:
        while not self._messages.empty():
            message = self._messages.get()
            now = self._history.since_t0()
            match message:
                case int():
                    self._load_exited(message, now)
                case WorkerLost(worker=worker, reason=reason):
                    self._history.add(LoadLost, reason=reason, worker=worker)
                    self._say(f"load worker {worker} was lost: {reason}")
                    self._store.lose(worker)
                case protocol.ClockDoubt(worker=worker, seconds=seconds, offset_s=offset_s):
                    self._history.add(ClockDoubt, worker=worker, seconds=seconds, offset_s=offset_s)
                case Drained(end_step=end_step):
                    self._history.add(LoadEnded, end_s=(end_step - self._first_step) / 10)
                case Failed(text=text, by_file=True):
                    self._say(f"the locustfile ends the run: {text}")
                    self._stop("file_quit", text)
                case Warned(text=text) | Failed(text=text):
                    self._load_failure = text if isinstance(message, Failed) else self._load_failure
                    self._history.add(Note, text=text)
                    self._say(text)

    def _take_orders(self) -> None:
        for asked in self._orders.taken() if self._orders is not None else ():
            why_not = refused(self._state, asked.order, asked.seconds)
            now = self._history.since_t0()
            if not why_not and asked.order == "begin_anyway" and not self._restless(self._store, now):
                self._feed(Tick(now=now, calm=True))  # it is at rest: nothing is begun in spite of that
            else:
                self._feed(Order(now=now, order=asked.order, who=asked.who, seconds=asked.seconds))
            asked.answer(why_not)

    def _load_exited(self, code: int, now: float) -> None:
        self._read_windows()
        if self._state.load == "on" and self._state.stop != "file_quit":
            why = self._load_failure.rstrip(".") or f"the load process ended by itself (exit {code})"
            reason = f"{why}; see logs/load.log"
            self._history.add(LoadLost, reason=reason)
            self._feed(LoadOver(now=now, text=reason))
        else:
            self._feed(LoadOver(now=now))

    def _watch(self) -> None:
        now = self._history.since_t0()
        self._notice_stall()
        if self._signals.suspensions > self._suspensions_seen:
            self._suspensions_seen = self._signals.suspensions
            self._say("Ctrl-Z is refused while a fault is on; Ctrl-C undoes everything and stops")
        if self._signals.count > self._signals_seen:
            self._on_signal(now)
        if self._keeper.lost and not self._keeper_told:
            self._keeper_told = True
            self._stop("lost_keeper", "the keeper died: everything is undone now by the run itself")
        if self._silent(now) and self._state.load == "on" and self._state.stop is None:
            self._stop("silent", f"nothing was recorded for {SILENT_AFTER_S:g} s")
        if self._state.phase in self._looked_at and self._state.stop is None:
            self._see_that_it_works(now)
        if self._state.phase in ABORTABLE and self._state.load == "on" and self._state.stop is None:
            for abort in self._aborts:
                if live_rules.abort_fires(abort, self._store, now, self._fault_from):
                    self._stop("abort", f"abort condition: {abort.text}", expression=abort.text)
                    break
        if self._kill_load_at is not None and monotonic() > self._kill_load_at:
            self._say("the load did not end in time and was killed")
            self._kill_load_at = None
            self._load.kill()

    def _see_that_it_works(self, now: float) -> None:
        due = self._board.due("works", now, WORKS_EVERY_S)
        if due and (nothing := live_rules.nothing_works(self._store, self._plan, now)):
            self._stop("nothing_works", nothing)

    def _silent(self, now: float) -> bool:
        """Every load process tells the state of its schedule ten times a second, with or without a request."""
        return now - self._last_row > SILENT_AFTER_S

    def _notice_stall(self) -> None:
        last, self._last_turn = self._last_turn, monotonic()
        stood_still = self._last_turn - last
        if stood_still > STALL_S:
            # The load may have been stopped with it: its next row is still to come.
            self._last_row = self._history.since_t0()
            text = f"the run itself was stopped for {stood_still:.1f} s; the load went on, faults were not asserted"
            self._history.add(Note, text=text)
            self._say(text)

    def _on_signal(self, now: float) -> None:
        again = self._signals_seen > 0
        self._signals_seen = self._signals.count
        if not again:
            self._say(f"{self._signals.name}: undoing every fault, then stopping")
            self._stop("interrupt", f"{self._signals.name} in {self._state.phase}")
        else:
            waiting = self._board.waiting_for() or "the load process to end"
            self._say(f"{self._signals.name} again: still waiting for {waiting}; nothing is skipped")

    def _stop(self, why: StopWhy, text: str, *, expression: str | None = None) -> None:
        self._board.expression = expression
        self._feed(StopRequest(now=self._history.since_t0(), why=why, text=text))

    # -- what is done ------------------------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case EnterPhase(phase=phase, start_s=start_s):
                self._history.add(PhaseStarted, phase=phase, start_s=start_s)
                self._board.entered(phase, start_s)
                if phase == "fault":
                    self._fault_from = start_s
                if phase == "baseline":
                    self._store.baseline = (step_of(start_s), 0)
                if phase == "gap" and self._store.baseline is not None:
                    self._store.baseline = (self._store.baseline[0], step_of(start_s))
                self._load.send(protocol.Edge(phase=phase))
                if phase == "recovery":
                    self._signals.refuse_suspension(False)
                if phase == "recovery" and self._plan.control_run:
                    # Nothing was undone: what there is to recover from ends, at the latest, where the phase ends.
                    self._history.add(ZeroFound, zero_s=start_s, lower_s=start_s, upper_s=start_s, source="undo")
                if phase == "baseline" and self._plan.faults:
                    self._pool.aside(self._fault_runner.snapshot_paths)
            case Extend(phase=phase, end_s=end_s):
                self._history.add(PhaseExtended, phase=phase, end_s=end_s, target=self._wanting)
                self._board.message = f"goes on, to be sure of {self._wanting}"
                why = f"{self._wanting} is met, but too little was seen to be sure"
                self._say(f"{phase} goes on to {end_s:.0f} s: {why}")
            case JudgeBaseline():
                self._pool.submit(self._judge_baseline, lambda _: BaselineJudged(now=self._history.since_t0()))
            case Prepare():
                self._board.message = "writing every undo record to disk"
                self._pool.submit(
                    self._fault_runner.prepare, lambda text: Prepared(now=self._history.since_t0(), problem=text)
                )
            case Inject(fault=fault):
                self._signals.refuse_suspension(True)
                self._inject(fault)
            case Check(fault=fault):
                if fault not in self._checks or self._checks[fault].done():
                    self._checks[fault] = self._pool.look(lambda: self._fault_runner.prove(fault, "held"))
                self._look_for_bypass()
            case Undo(fault=fault, hurry=hurry):
                self._undo(fault, hurry)
            case Jump(users=users, at_s=at_s):
                self._load.send(protocol.Jump(users=users, at_step=self._first_step + next_step(at_s)))
            case StopLoad(end_s=end_s, at_once=at_once):
                self._stop_load(end_s, at_once)
            case HandOn(end_s=end_s):
                self._history.add(LoadEnded, end_s=end_s, handed_on=True)
            case RecordOrder(order=order, who=who, until_s=until_s):
                self._history.add(Ordered, order=order, who=who, until_s=until_s)
            case RecordStop(why=why, text=text):
                self._history.add(Stopped, why=why, text=text, expression=self._board.expression)
                text = TOLD.get(why, "") + text
                self._board.message = text
                self._say(text)
            case Finish():
                self._signals.refuse_suspension(False)

    def _judge_baseline(self) -> BaselineJudged:
        # In a thread of the pool. A load that stays silent ends the run (see _watch), and what is said here is moot.
        while self._history.since_t0() - self._last_row > FRESH_S and self._state.stop is None:
            time.sleep(TICK_S)
        broken = live_rules.baseline_broken(self._store, self._plan, self._history.events)
        limits = live_rules.relative_limits(self._store, self._plan, self._history.events)
        if limits:
            every = tuple(sorted({*self._plan.load.limits_ms, *limits}))
            now = step_of(self._history.since_t0()) + self._first_step
            self._load.send(protocol.Limits(limits_ms=every, from_step=now + 1))
        return BaselineJudged(now=self._history.since_t0(), broken=tuple(broken))

    def _inject(self, fault: str) -> None:
        def bug(text: str) -> Input:
            return InjectFailed(now=self._history.since_t0(), fault=fault, text=text, unknown=True)

        def inject() -> Input:
            answer = self._fault_runner.inject(fault)
            if isinstance(answer, Injected):
                self._checks[fault] = self._pool.look(lambda: self._fault_runner.prove(fault, "injected"))
            return answer

        self._pool.submit(inject, bug)

    def _look_for_bypass(self) -> None:
        # No undo waits for it: with a dependency that hangs it takes seconds.
        idle = self._bypass is None or self._bypass.done()
        if idle and self._board.due("bypass", self._history.since_t0(), LOOK_EVERY_S):
            self._bypass = self._pool.aside(self._fault_runner.look_for_bypass)

    def _undo(self, fault: str, hurry: bool) -> None:
        check = self._checks.pop(fault, None)

        def bug(text: str) -> Input:
            mend = "run: harness heal --all"
            self._history.add(UndoNotVerified, fault=fault, left=f"{fault} may still be on ({text})", mend=mend)
            return Undone(now=self._history.since_t0(), fault=fault, verified=False)

        def undo() -> Input:
            if check is not None and not check.cancel():
                check.exception()
            return self._fault_runner.undo(fault, hurry=hurry)

        self._pool.submit(undo, bug)

    def _stop_load(self, end_s: float, at_once: bool) -> None:
        if at_once:
            self._load.kill()
            self._kill_load_at = None
            return
        self._board.message = "load stops; open requests may still end"
        self._load.send(protocol.Stop(end_step=self._first_step + next_step(end_s)))
        ahead = max(0.0, end_s - self._history.since_t0())
        self._kill_load_at = monotonic() + ahead + self._plan.load.request_timeout_s + DRAIN_SLACK_S

    def _update_view(self) -> None:
        now = self._history.since_t0()
        if now - self._last_live >= LIVE_EVERY_S:
            self._last_live = now
            self._show(self._board.live_state(self._state, self._store, now))
