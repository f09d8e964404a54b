"""Experiments one after the other on one session: its stack, its load, its keeper.

The load goes on from one to the next. Each has its own run directory, with its history, samples and log written as it
goes, against its own t0; its windows are cut out of the session's once they are final, and it is judged from its own
files like any other run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from harness.analysis.record.clean import CleanBaseline, clean_rows, earlier, for_plan
from harness.analysis.record.windows import FAILING_AFTER_S, WindowStore
from harness.analysis.run_directory import Run
from harness.conductor.after_load import ask_again
from harness.conductor.loop import conduct
from harness.conductor.orders import Orders, People
from harness.conductor.readback import read_back
from harness.conductor.recording.history import History
from harness.conductor.recording.log import RunLog
from harness.conductor.run import write_plan
from harness.conductor.running_load import RunningLoad
from harness.conductor.session import Session
from harness.conductor.sharing.carried import Carried
from harness.conductor.sharing.finisher import Finisher, noted_of
from harness.conductor.sharing.rest import Restless, Waiting
from harness.conductor.sharing.target_reset import reset_by_command, reset_target
from harness.conductor.signals import Signals
from harness.conductor.worker_threads import renewing
from harness.fault import Fault
from harness.model.clock import monotonic, step_of
from harness.model.errors import HarnessError
from harness.model.records.events import LoadEnded
from harness.model.records.live import LiveState
from harness.model.records.plan import Plan, Provenance
from harness.model.records.result import Result
from harness.model.records.stack import StackUp
from harness.plan.phases import sharing
from harness.plan.planner import bind
from harness.stack.registry import renewed

CUT_EVERY_S = 0.5
MOST_WAIT_S = 86_400.0
"""Nobody plays for longer than a day."""

Settles = Callable[[Plan, Path, History, Carried | None, float], Callable[[WindowStore, float], str]]
"""Makes what says why a baseline cannot begin yet; see Restless."""


class Series:
    """faults: the registered kinds. before: the one before it in the session, on a load that has ended. clean:
    baselines known before the first one. declared_reset: the harness.toml, and its SHA-256, whose command brings back a
    target that is not ours. done: called in another thread with each experiment's record and result, in order."""

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
        done: Callable[[Carried, Run, Result], None],
        before: Series | None = None,
        clean: tuple[CleanBaseline, ...] = (),
        declared_reset: tuple[str, str] | None = None,
    ) -> None:
        self._session = session
        self._up = up
        self._load = load
        self._faults = faults
        self._provenance = provenance
        self._log = log
        self._show = show
        self._signals = signals
        self._declared_reset = declared_reset
        self._before: Carried | None = before._before if before is not None else None
        self._held_s = 0.0
        self._resets: int = before._resets if before is not None else 0
        known = before._finisher.clean if before is not None else clean
        self._finisher: Finisher = Finisher(session, load, done, log.say, known)

    def carry_out(
        self, plan: Plan, folder: Path, ended: Callable[[Carried], None], people: People | None = None
    ) -> Carried:
        """One experiment, from a target at rest to its hold or its early end, and what has to be done before the next.
        Blocks. folder: made for it, inside the session's. ended: called before it is judged. people: see
        Conduct.

        Raises HarnessError where it cannot begin at all; nothing was changed then.
        """
        with self._log.also_in(folder):
            carried = self._conduct(replace(plan, phases=sharing(plan.phases)), folder, Restless, people)
            self._interlude(carried)
        ended(carried)
        self._finisher.add(carried)
        self._before = carried
        return carried

    def wait(self, plan: Plan, folder: Path, orders: Orders, told: Callable[[str], str]) -> Carried:
        """Between two experiments, until people order that it proceeds: the load goes on, nothing is judged. Blocks.
        folder: see carry_out. told: what is waited for, given what keeps the target from being at rest."""
        waiting: list[Waiting] = []

        def patient(*args: Any) -> Waiting:
            waiting.append(Waiting(Restless(*args), told))
            return waiting[0]

        phases = replace(sharing(plan.phases), settle_s=MOST_WAIT_S)
        carried = self._conduct(replace(plan, phases=phases), folder, patient, People(orders=orders, waits=True))
        self._held_s = self._hold_s(plan) if waiting and waiting[0].at_rest else 0.0
        return carried

    def wait_until_judged(self) -> None:
        """Everything that was carried out so far."""
        self._finisher.wait()

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

    def _conduct(self, plan: Plan, folder: Path, settles: Settles, people: People | None) -> Carried:
        session, load, say = self._session, self._load, self._log.say
        # A process that an experiment before this one has killed was started again as another.
        self._up = session.up = renewed(self._up)
        plan = bind(plan, self._up, self._faults)
        first = load.step_ahead()
        since = load.windows.stat().st_size if load.windows.exists() else 0
        plan = replace(
            plan,
            load=replace(plan.load, first_step=first, run=load.run),
            provenance=self._provenance,
        )
        load.count_limits(plan.load.limits_ms, first)
        write_plan(folder, plan)
        history = History(folder / "history.jsonl", plan.experiment, say)
        store = WindowStore(plan)
        # Of what is judged by now: the result may know one baseline more.
        store.earlier = earlier(clean_rows(for_plan(self._finisher.clean, plan)), plan)
        t0 = load.instant(first)
        session.sample_into(t0, folder)
        self._last_look = conduct(
            plan,
            session,
            load,
            history,
            t0=t0,
            faults=self._faults,
            store=store,
            signals=self._signals,
            say=say,
            show=self._show,
            prefix=f"{folder.name}/",
            since=since,
            restless=settles(plan, folder, history, self._before, self._held_s),
            people=people,
        )
        ended = next((event.end_s for event in reversed(history.events) if isinstance(event, LoadEnded)), None)
        end = first + step_of(history.since_t0() if ended is None else ended)
        return Carried(plan=plan, folder=folder, history=history, first=first, end=end, since=since)

    def _interlude(self, carried: Carried) -> None:
        """What belongs to an experiment after its end: is the target still dead, or only under this load; is what it
        had acknowledged still there. A target that did not come back is started again, where the stack is ours."""
        self._held_s = self._hold_s(carried.plan) if carried.recovered and carried.stopped is None else 0.0
        if carried.ends_session or self._signals.count:
            return
        noted_of(carried, self._load.windows.parent, carried.folder)
        came_back = carried.recovered or carried.stopped in ("baseline_broken", "nothing_works", "by_hand")
        if not came_back:
            self._load.pause()
            ask_again(carried.plan, self._session, carried.history, self._last_look, self._signals, self._log.say)
        read_back(carried.plan, self._session, carried.history, self._signals, self._log.say, carried.folder)
        if not came_back:
            self._reset(carried)
            self._load.resume()

    @staticmethod
    def _hold_s(plan: Plan) -> float:
        # What lies less than FAILING_AFTER_S back is decided for nobody; here it was seen to its end.
        return plan.phases.hold_s + FAILING_AFTER_S

    def _reset(self, carried: Carried) -> None:
        """The target is brought back, where that is ours to do or somebody declared how. One that is still as it was
        left would spoil what comes after it; what stopped the experiment otherwise need not have been the target."""
        session, before = self._session, self._before
        if session.journal is None or self._signals.count:
            return
        dead = carried.stopped in (None, "not_calm")
        if carried.stopped == "not_calm" and before is not None and before.reset:
            carried.stuck = f"the target did not come back, although {before.reset}"
            return
        target = next((one for one in self._up.dependencies if one.target), None)
        ours = session.owns_stack or (target is not None and target.process.keeper is not None)
        declared = self._declared_reset
        if not ours and declared is None:
            if dead and not carried.well_without_load:
                carried.stuck = "the target did not come back, and it is not ours to start again"
            return
        well = carried.well_without_load and carried.stopped != "not_calm"
        if well and not ours:
            return  # Their command is for one that is dead. Should it not come to rest under load, that is seen next.
        self._resets += 1
        journal, record_id, found = session.journal, f"reset-{self._resets}", [""]

        def work() -> None:
            if ours or declared is None:
                found[0] = reset_target(self._up.dependencies, self._faults, journal, record_id, self._log.say)
            else:
                found[0] = reset_by_command(*declared, session.run_dir / "logs" / "reset.log", self._signals)

        try:
            renewing(session.keeper, work)
        except HarnessError as error:
            carried.stuck = f"the target did not come back and could not be started again: {error}" if dead else ""
            self._log.say(f"the target could not be started again: {error}")
            return
        why = "under load its targets were not seen to hold again" if well else "it had not come back"
        self._log.say(f"{why}: {found[0]}")
        carried.reset = found[0]
