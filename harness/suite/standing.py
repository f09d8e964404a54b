"""A session whose stack stands: locked, known, and ready for loads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from harness.analysis.record.clean import CleanBaseline
from harness.analysis.run_directory import Run
from harness.conductor.recording.log import RunLog
from harness.conductor.recording.provenance import provenance
from harness.conductor.running_load import RunningLoad
from harness.conductor.session import Session
from harness.conductor.sharing.carried import Carried
from harness.conductor.sharing.series import Series
from harness.conductor.signals import Signals
from harness.fault import Fault, registered
from harness.model.records.live import LiveState
from harness.model.records.plan import Plan, Provenance
from harness.model.records.result import Result
from harness.model.records.stack import StackUp
from harness.plan.planner import bind
from harness.suite.loads import Loads
from harness.suite.prepare import PlannedSuite


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    planned: PlannedSuite
    session: Session
    up: StackUp
    faults: Mapping[str, Fault]
    provenance: Provenance
    signals: Signals
    log: RunLog

    def loads(
        self,
        show: Callable[[LiveState], None],
        done: Callable[[Carried, Run, Result], None],
        clean: tuple[CleanBaseline, ...] = (),
    ) -> Loads:
        """See Series."""

        def on(load: RunningLoad, before: Series | None) -> Series:
            return Series(
                self.session,
                self.up,
                load,
                self.faults,
                provenance=self.provenance,
                log=self.log,
                show=show,
                signals=self.signals,
                done=done,
                before=before,
                clean=clean,
                declared_reset=self.planned.base.declared_reset,
            )

        return Loads(self.session, self.planned.base.plan, self.bound, on, self.signals, self.log.say)

    def bound(self, plan: Plan) -> Plan:
        return bind(plan, self.up, self.faults)


def stand_up(planned: PlannedSuite, session: Session, command: str, signals: Signals, log: RunLog) -> Standing | None:
    """Blocks until the stack is ready and everything is locked that is shared. None when a signal came before. Raises
    HarnessError."""
    up = session.open(signals)
    if up is None:
        return None
    if session.owns_stack:
        log.say(f"the stack is ready after {up.ready_s:.1f} s: {up.target.url}")
    faults = registered()
    envelope = bind(planned.envelope, up, faults)
    session.lock_shared(envelope, [f.spec.dependency for f in envelope.faults if "changes_server" in f.change.traits])
    origin = provenance(command, up.versions, up.target.version)
    return Standing(planned=planned, session=session, up=up, faults=faults, provenance=origin, signals=signals, log=log)
