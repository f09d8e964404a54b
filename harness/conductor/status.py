"""What the run is doing right now, for the live view and for the rules that depend on it."""

from __future__ import annotations

from harness.analysis.live import limits_shown, live_numbers
from harness.analysis.record.windows import WindowStore
from harness.conductor.recording.history import History
from harness.model.records.events import (
    Event,
    FaultEvidence,
    FaultInjected,
    FaultNotProven,
    FaultProven,
    FaultRequested,
    StopWhy,
    Undone,
    UndoNotVerified,
    UndoRequested,
    UndoVerified,
    ZeroFound,
)
from harness.model.records.live import FaultState, LiveFault, LiveState
from harness.model.records.plan import Plan
from harness.model.records.targets import PhaseName
from harness.plan.machine import State

_STATES: dict[type, FaultState] = {
    FaultRequested: "injecting",
    FaultInjected: "injected",
    FaultProven: "proven",
    FaultNotProven: "not proven",
    UndoRequested: "undoing",
    Undone: "undone",
    UndoVerified: "verified",
    UndoNotVerified: "not verified",
}
_ON: tuple[FaultState, ...] = ("injecting", "injected", "proven", "not proven", "undoing", "undone", "not verified")

TOLD: dict[StopWhy, str] = {
    "nothing_works": "nothing works, so nothing is injected: ",
    "baseline_broken": "targets are missed without a fault, so nothing is injected: ",
}
"""Before the reason of an early end, for people."""


class StatusBoard:
    """Derives every fault's state from the history, so that what is shown is what was recorded."""

    def __init__(self, plan: Plan, history: History) -> None:
        self._plan = plan
        self._history = history
        self._read = 0
        self._states: dict[str, LiveFault] = {f.id: LiveFault(id=f.id, state="planned") for f in plan.faults}
        self._injected: set[str] = set()
        self._zero: float | None = None
        self._last: dict[str, float] = {}
        self._phase_start = 0.0
        self.message = ""
        self.expression: str | None = None

    def entered(self, phase: PhaseName, start_s: float) -> None:
        self._phase_start = start_s
        self.message = {
            "warmup": "load ramps up; not judged",
            "settle": "waiting until the target is at rest",
            "baseline": "measuring the healthy service",
            "gap": "waiting until every baseline request has ended",
            "fault": "",
            "recovery": f"watching for a hold: targets must be met for {self._plan.phases.hold_s:g}s on end",
            "after": "targets hold; watching that they stay so",
            "tail": "letting the last requests end",
        }[phase]

    def due(self, what: str, now: float, every_s: float) -> bool:
        """True at most once every `every_s` seconds for each name."""
        if now - self._last.get(what, -1e9) < every_s:
            return False
        self._last[what] = now
        return True

    def _catch_up(self) -> None:
        events = self._history.events
        while self._read < len(events):
            self._note(events[self._read])
            self._read += 1

    def _note(self, event: Event) -> None:
        if isinstance(event, ZeroFound):
            self._zero = max(self._zero or 0.0, event.zero_s)
        if isinstance(event, FaultEvidence) and event.fault in self._states:
            before = self._states[event.fault]
            self._states[event.fault] = LiveFault(
                id=before.id, state=before.state, since_s=before.since_s, detail=event.evidence.observed
            )
        state = _STATES.get(type(event))
        fault = getattr(event, "fault", None)
        if state is None or not isinstance(fault, str) or fault not in self._states:
            return
        if isinstance(event, FaultInjected):
            self._injected.add(fault)
        detail = self._states[fault].detail
        if isinstance(event, FaultNotProven):
            detail = event.missing
        elif isinstance(event, UndoVerified):
            detail = event.evidence[-1].observed if event.evidence else ""
        elif isinstance(event, UndoNotVerified):
            detail = event.left
        # A missing path proof is found before the injection; the fault itself is still only planned.
        if state == "not proven" and fault not in self._injected:
            state = "planned"
        self._states[fault] = LiveFault(id=fault, state=state, since_s=event.at, detail=detail)

    def waiting_for(self) -> str:
        """What an impatient person is waiting for, in words."""
        self._catch_up()
        return ", ".join(f"the undo of {f.id} ({f.state})" for f in self._states.values() if f.state in _ON)

    def _most(self, state: State, now: float) -> float | None:
        """How long a phase without a planned end may go on."""
        phases = self._plan.phases
        if state.phase == "settle" and phases.settle_s is not None:
            return max(0.0, phases.settle_s - now)
        if state.phase == "gap":
            return max(0.0, self._phase_start + phases.gap_s - now)
        if state.phase == "recovery":
            zero = self._phase_start if self._zero is None else self._zero
            return max(0.0, zero + phases.recovery_limit_s + phases.hold_s - now)
        return None

    def live_state(self, state: State, store: WindowStore, now: float) -> LiveState:
        self._catch_up()
        left = None if state.phase_end is None else max(0.0, state.phase_end - now)
        return LiveState(
            experiment=self._plan.experiment,
            scenario=self._plan.scenario.name,
            stack=self._plan.stack,
            at_s=now,
            phase=state.phase,
            phase_at_s=max(0.0, now - self._phase_start),
            phase_left_s=left,
            phase_most_s=self._most(state, now) if left is None else None,
            limits=limits_shown(self._plan, state.phase),
            total_requests=store.total_attempts,
            total_failures=store.total_failures,
            numbers=live_numbers(store, now),
            faults=tuple(self._states.values()),
            recovery_s=None if self._zero is None or state.phase != "recovery" else now - self._zero,
            message=self.message,
        )
