"""The blocking work of a run: prepare, inject, assert, undo. Each call runs in a worker thread.

They talk to the main loop only through what they return, and to the record through the history and the journal.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import msgspec

from harness.adapters.docker.address import record_at_present
from harness.conductor.orders import QUESTION_S, Chosen
from harness.conductor.path_proof.tracker import EvidenceStage, Paths
from harness.conductor.recording.history import History
from harness.conductor.recovery_probe import Prober
from harness.dependencies.probe import following_probe
from harness.fault import Fault, Stage
from harness.model.clock import monotonic
from harness.model.errors import Gone, HarnessError, OutcomeUnknown
from harness.model.records.events import (
    NOT_INJECTED,
    FaultEvidence,
    FaultInjected,
    FaultMended,
    FaultNotProven,
    FaultProven,
    FaultRequested,
    Note,
    PathUnproven,
    Undone,
    UndoNotVerified,
    UndoRequested,
    UndoVerified,
    ZeroFound,
)
from harness.model.records.faults import Applied, Dependency, Evidence, UndoOutcome, UndoRecord
from harness.model.records.plan import Plan, PlannedFault
from harness.model.records.stack import StackUp
from harness.model.units import format_duration
from harness.plan import machine
from harness.plan.phases import MOST_EXTENDED
from harness.safety.healing.heal import torn_down
from harness.safety.healing.undo import undo_record
from harness.safety.journal.journal import Journal
from harness.safety.journal.view import read_journal
from harness.safety.keeper.client import Keeper

PROBE_LEAD_S = 0.15
"""The prober starts this long before a planned undo, so that the last bad probe is known."""
SERVERS_DIE_S = 3.0
"""How long the servers of a dead keeper may take to die."""
RECORD_EVERY_S = 3.0
"""A fault is asserted every second; one that is as it should be is written down this often."""
GRACE_S = 30.0
"""The keeper undoes a fault on its own this long after its planned end: seconds after the injection."""


class _FaultRun:
    """One planned fault on its way. Seconds since t0.

    record: once it was captured. begun: its injection was announced, so that something may be on. unsure: nobody knows
    whether it was injected. unproven: why it does not count was told. mended: people have ended it. seen_on: when it
    was last seen as it should be. recorded: when that was last written down. undoing, ended: its undo has begun, was
    carried out.
    """

    def __init__(self, planned: PlannedFault, fault: Fault) -> None:
        self.planned = planned
        self.fault = fault
        self.record: UndoRecord | None = None
        self.begun = self.unsure = self.unproven = self.mended = self.undoing = self.ended = False
        self.seen_on: float | None = None
        self.recorded = 0.0

    @property
    def id(self) -> str:
        return self.planned.id

    @property
    def on(self) -> bool:
        return self.begun and not self.ended

    @property
    def captured(self) -> UndoRecord:
        assert self.record is not None, "nothing is injected before it was captured"
        return self.record


class FaultRunner:
    """All faults of a run. Its methods may run in different threads at the same time.

    prefix: before the names of its undo records, where a journal has those of several experiments. on_mended: told of a
    fault that people have ended; None where nobody is to do that, and a fault that does not last is not proven.
    choose: see People; None where nobody is.
    """

    def __init__(
        self,
        plan: Plan,
        faults: Mapping[str, Fault],
        history: History,
        journal: Journal,
        keeper: Keeper,
        *,
        say: Callable[[str], None],
        restart_toxiproxy: Callable[[], bool] | None,
        up: StackUp | None = None,
        prefix: str = "",
    ) -> None:
        self.on_mended: Callable[[machine.Mended], None] | None = None
        self.choose: Callable[[str, str], Chosen] | None = None
        self._prefix = prefix
        self._plan = plan
        self._history = history
        self._journal = journal
        self._keeper = keeper
        self._say = say
        self._restart_toxiproxy = restart_toxiproxy
        self._runs = {fault.id: _FaultRun(fault, faults[fault.spec.kind]) for fault in plan.faults}
        self._reviving = threading.Lock()
        self._revived = False
        self._paths = Paths(
            plan,
            faults,
            say=say,
            evidence=self._record_evidence,
            not_proven=self._not_proven,
            no_path=self._no_path,
            up=up,
        )

    def dependencies(self) -> tuple[Dependency, ...]:
        """The dependencies that this run's faults touch, each once."""
        return tuple({f.change.dependency.name: f.change.dependency for f in self._plan.faults}.values())

    def snapshot_paths(self) -> None:
        """Take the first half of the path proof, early in baseline. A failure shows as a missing proof later."""
        for dependency in self.dependencies():
            self._paths.first_look(dependency)

    def prepare(self) -> machine.Prepared:
        """Path proofs, then capture every original and write every undo record to disk."""
        try:
            for dependency in self.dependencies():
                self._paths.prove(dependency)
            for run in self._runs.values():
                record = run.fault.capture(run.planned.change, self._prefix + run.id)
                # An event that takes a while (a restart) says how long at most.
                lasts_s = run.planned.for_s or 0.0
                if "fault" in self._plan.phases.extend:
                    lasts_s *= MOST_EXTENDED
                takes_s = lasts_s + (record.deadline_s or 0.0)
                takes_s += QUESTION_S if self.choose is not None else 0.0
                record = msgspec.structs.replace(record, deadline_s=takes_s + GRACE_S)
                self._journal.record(record)
                run.record = record
        except (HarnessError, OSError) as error:
            return machine.Prepared(now=self._history.since_t0(), problem=f"{NOT_INJECTED}{error}")
        return machine.Prepared(now=self._history.since_t0())

    def inject(self, fault_id: str) -> machine.Input:
        """Inject once; never retried. Then prove it."""
        run = self._runs[fault_id]
        record = record_at_present(run.captured)
        self._history.add(FaultRequested, fault=fault_id)
        try:
            self._keeper.armed(record.id)
            self._journal.intent(record.id, "inject")
            run.begun = True
        except (HarnessError, OSError) as error:
            return self._failed(fault_id, f"{fault_id} was not injected: {error}", False)
        # An event is over when it has been carried out, so its recovery begins in the middle of this.
        prober: Prober | None = None
        change = run.planned.change
        if change.one_shot and not change.blind_probe and not self._another_on(run):
            prober = _prober(record)
            prober.start()
        try:
            return self._inject(run, record, prober)
        finally:
            if prober is not None:
                prober.stop()

    def _inject(self, run: _FaultRun, record: UndoRecord, prober: Prober | None) -> machine.Input:
        try:
            applied = run.fault.inject(record)
        except HarnessError as error:
            # Some part may have been done before the error: undo is idempotent, so it is always safe to run it.
            run.unsure = True
            if isinstance(error, OutcomeUnknown):
                return self._failed(run.id, f"it is unknown whether {run.id} was injected: {error}", True)
            return self._failed(run.id, f"{run.id} was not injected: {error}", True)
        self._history.add(
            FaultInjected,
            at=self._history.since_t0(applied.replied),
            fault=run.id,
            sent_s=self._history.since_t0(applied.sent),
        )
        self._journal.outcome(record.id, "injected")
        self._evidence_of(run, "injected", applied)
        zero = self._zero_of_event(applied, prober)
        return machine.Injected(now=max(zero or 0.0, self._history.since_t0(applied.replied)), fault=run.id)

    def _evidence_of(self, run: _FaultRun, stage: EvidenceStage, applied: Applied) -> None:
        for item in applied.evidence:
            self._record_evidence(run.id, stage, item)
            if not item.held:
                self._not_proven(run.id, _missing(item))

    def _zero_of_event(self, applied: Applied, prober: Prober | None) -> float | None:
        """The first good probe after the last bad one; None when none was bad, for then there was no outage to see."""
        if prober is None:
            return None
        bad = [r.started for r in prober.results() if r.ended >= applied.sent and not prober.good(r)]
        found = prober.first_good_after(max(bad)) if bad else None
        if found is None:
            return None
        since = self._history.since_t0
        return self._zero(since(found.zero), since(found.lower), since(found.upper), "probe")

    def look_for_bypass(self) -> None:
        """Does anybody use a dependency past its proxy while a fault is on it?"""
        self._paths.look_again(lambda fault_id: self._runs[fault_id].seen_on is not None and self._runs[fault_id].on)

    def prove(self, fault_id: str, stage: Stage) -> None:
        """Assert that the fault is on; the first time, say whether it is proven. An event is over with that."""
        run = self._runs[fault_id]
        try:
            self._prove(run, stage)
        except Exception as error:  # a fault from somebody's package, or a bug: nothing was seen then
            self._lost(run, stage, f"it could not be checked: {type(error).__name__}: {error}")
            raise
        finally:
            if run.planned.change.one_shot:
                self._close(run)

    def _close(self, run: _FaultRun) -> None:
        """An event leaves nothing on: verify that, so that nobody undoes it later; undo what did not come back."""
        record = run.captured
        self._journal.intent(record.id, "undo")
        outcome = self._gone_with_the_keeper(record) or undo_record(record, say=self._say)
        run.ended = True
        self._journal.undone(outcome)
        self._tell_outcome(run.id, outcome)

    def _prove(self, run: _FaultRun, stage: Stage) -> None:
        try:
            evidence = run.fault.prove(record_at_present(run.captured), stage)
        except HarnessError as error:
            self._lost(run, stage, f"it could not be checked: {error}")
            return
        now = self._history.since_t0()
        failed = [item for item in evidence if not item.held]
        if failed or stage == "injected" or now - run.recorded >= RECORD_EVERY_S - 0.1:
            run.recorded = now
            for item in evidence:
                self._record_evidence(run.id, stage, item)
        if failed:
            self._lost(run, stage, _missing(failed[0]))
            return
        if not evidence:
            self._not_proven(run.id, "nothing could be observed of it")
            return
        run.seen_on = self._history.since_t0(min(item.at for item in evidence))
        if stage == "injected" and not run.unproven:
            self._history.add(FaultProven, fault=run.id)

    def _lost(self, run: _FaultRun, stage: Stage, what: str) -> None:
        """It is not as it should be: say since when."""
        if stage == "injected" or run.seen_on is None:
            self._not_proven(run.id, what)
            return
        if self._mended(run, run.seen_on):
            return
        now = format_duration(self._history.since_t0())
        on = f"it was on {format_duration(run.seen_on)} after the start"
        self._not_proven(run.id, f"it did not last: {on}, at {now} {what}")

    def _mended(self, run: _FaultRun, seen_on: float) -> bool:
        """Whether what it had changed is as it was before, without an undo of ours: somebody has mended it."""
        tell = self.on_mended
        if tell is None or run.undoing or run.unproven:
            return False
        try:
            evidence = run.fault.verify_undone(record_at_present(run.captured))
        except HarnessError:
            return False
        if not evidence or not all(item.held for item in evidence):
            return False
        now, run.mended, run.undoing = self._history.since_t0(), True, True
        self._history.add(FaultMended, at=now, fault=run.id, seen_on_s=seen_on)
        if not self._another_on(run):
            self._zero(now, seen_on, now, "probe")
        tell(machine.Mended(now=now, fault=run.id))
        return True

    def undo(self, fault_id: str, *, hurry: bool) -> machine.Undone:
        """Undo, verify, and find recovery's zero."""
        run = self._runs[fault_id]
        prober: Prober | None = None
        run.undoing = True
        if not run.planned.change.blind_probe and not self._another_on(run) and not run.mended:
            prober = _prober(run.captured)
            prober.start()
            if not hurry:
                time.sleep(PROBE_LEAD_S)
        try:
            return self._undo(run, prober)
        finally:
            if prober is not None:
                prober.stop()

    def _another_on(self, run: _FaultRun) -> bool:
        """Another fault stays on this dependency: no probe can be good, and that one's undo finds recovery's zero."""
        name = run.planned.change.dependency.name
        stay = (one.planned for one in self._runs.values() if one.on and not one.undoing)
        return any(one.for_s is not None and one.change.dependency.name == name for one in stay)

    def undo_rest(self) -> None:
        """Undo what was injected and not undone yet."""
        for run in self._runs.values():
            if not run.on:
                continue
            if run.planned.change.one_shot and not run.unsure:
                self._close(run)
            else:
                self.undo(run.id, hurry=True)

    def _undo(self, run: _FaultRun, prober: Prober | None) -> machine.Undone:
        since = self._history.since_t0
        record = run.captured
        self._journal.intent(record.id, "undo")
        requested = monotonic()
        self._history.add(UndoRequested, at=since(requested), fault=run.id, sent_s=since(requested))
        self._revive_toxiproxy(record)
        outcome = self._gone_with_the_keeper(record) or undo_record(
            record,
            say=self._say,
            restart_toxiproxy=self._restart_toxiproxy,
            unsure=run.unsure,
            on_answer=prober.look_now if prober is not None else lambda: None,
        )
        # What cannot be reached may still be on: that is nobody's to keep.
        kept = False
        if outcome.foreign:
            outcome = self._as_people_choose(run, record, outcome)
            kept = outcome.state == "moot" and outcome.foreign
        run.ended = True
        applied = outcome.applied
        if applied is not None:
            self._evidence_of(run, "held", applied)
            self._history.add(Undone, at=since(applied.replied), fault=run.id, sent_s=since(applied.sent))
        self._journal.undone(outcome)
        zero: float | None = None
        if outcome.state != "unverified":
            if applied is not None and run.planned.change.blind_probe and not run.mended:
                zero = self._zero(since(applied.replied), since(applied.sent), since(applied.replied), "undo")
            elif prober is not None:
                found = prober.first_good_after(applied.sent if applied is not None else requested)
                if found is not None:
                    zero = self._zero(since(found.zero), since(found.lower), since(found.upper), "probe")
        self._tell_outcome(run.id, outcome, kept=kept)
        return machine.Undone(now=since(), fault=run.id, verified=outcome.state != "unverified", zero=zero)

    def _as_people_choose(self, run: _FaultRun, record: UndoRecord, outcome: UndoOutcome) -> UndoOutcome:
        """What people want of a state that is neither ours nor the original; the outcome as it is where nobody says."""
        if self.choose is None or self._keeper.lost:
            return outcome
        chosen = self.choose(run.id, outcome.left or f"{run.id} may still be on")
        if chosen.choice == "keep":
            self._history.add(Note, text=f"{chosen.who} keeps what is there as the new original: {outcome.left}")
            return UndoOutcome(record_id=record.id, state="moot", applied=outcome.applied, foreign=True)
        if chosen.choice != "restore":
            return outcome
        self._history.add(Note, text=f"{chosen.who} has the original restored: {outcome.left}")
        try:
            there = run.fault.capture(run.planned.change, record.id).original
        except HarnessError:
            there = {}
        if there.keys() == record.ours.keys():
            # Somebody's change is taken for ours, on his behalf: what is compared before the original is set.
            record = msgspec.structs.replace(record, ours=there)
        return undo_record(record, say=self._say, restart_toxiproxy=self._restart_toxiproxy, unsure=run.unsure)

    def _revive_toxiproxy(self, record: UndoRecord) -> None:
        """One of ours that somebody killed is started again at once: nothing of this dependency answers without it."""
        from harness.adapters.processes.usage import identify

        pid = record.dependency.proxy.pid
        if self._restart_toxiproxy is None or pid is None or self._keeper.lost:
            return
        with self._reviving:
            if self._revived:
                return
            try:
                identify(pid)
            except Gone:
                self._revived = True
                self._say(f"{record.id}: Toxiproxy has ended; starting it again, with its proxies")
                self._restart_toxiproxy()

    def _tell_outcome(self, fault_id: str, outcome: UndoOutcome, *, kept: bool = False) -> None:
        if outcome.state == "unverified":
            left, mend = outcome.left or f"{fault_id} may still be on", outcome.mend or "run: harness heal --all"
            self._history.add(UndoNotVerified, fault=fault_id, left=left, mend=mend)
            return
        evidence = tuple(self._on_run_clock(item) for item in outcome.evidence)
        moot = outcome.state == "moot" and not kept
        self._history.add(UndoVerified, fault=fault_id, evidence=evidence, moot=moot, kept=kept)

    def _gone_with_the_keeper(self, record: UndoRecord) -> UndoOutcome | None:
        """Moot, when the keeper died and its servers with it; None when that cannot be shown. One that owned no
        servers takes none along, so there is nothing to wait for."""
        until = monotonic() + SERVERS_DIE_S
        while self._keeper.lost and monotonic() < until:
            view = read_journal(self._keeper.state_dir)
            if not view.had_servers:
                return None
            outcome = torn_down(view, record)
            if outcome is not None:
                return outcome
            time.sleep(0.05)
        return None

    def _zero(self, zero_s: float, lower_s: float, upper_s: float, source: str) -> float:
        self._history.add(ZeroFound, zero_s=zero_s, lower_s=lower_s, upper_s=upper_s, source=source)
        return zero_s

    def _failed(self, fault_id: str, text: str, unknown: bool) -> machine.InjectFailed:
        self._not_proven(fault_id, text)
        return machine.InjectFailed(now=self._history.since_t0(), fault=fault_id, text=text, unknown=unknown)

    def _record_evidence(self, fault_id: str, stage: EvidenceStage, evidence: Evidence) -> None:
        self._history.add(FaultEvidence, fault=fault_id, stage=stage, evidence=self._on_run_clock(evidence))

    def _on_run_clock(self, evidence: Evidence) -> Evidence:
        return msgspec.structs.replace(evidence, at=round(self._history.since_t0(evidence.at), 6))

    def _no_path(self, fault_id: str, missing: str) -> None:
        self._history.add(PathUnproven, fault=fault_id, missing=missing)

    def _not_proven(self, fault_id: str, missing: str) -> None:
        run = self._runs[fault_id]
        if not run.unproven:
            run.unproven = True
            self._history.add(FaultNotProven, fault=fault_id, missing=missing)


def _missing(evidence: Evidence) -> str:
    return f"expected {evidence.expected}, observed {evidence.observed}"


def _prober(record: UndoRecord) -> Prober:
    return Prober(record.dependency, record, run=following_probe(record.dependency))
