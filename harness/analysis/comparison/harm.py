"""The harm of one run: bad requests from the injection over a fixed span, beyond what baseline had."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.analysis.record.spans import span_of, spans
from harness.analysis.record.windows import WindowStore
from harness.model.clock import next_step, step_of
from harness.model.records import events as ev
from harness.model.records.plan import Plan
from harness.model.records.targets import JudgedPhase, Target

_PHASES: tuple[JudgedPhase, ...] = ("fault", "after", "baseline")


class Harm(msgspec.Struct, frozen=True, kw_only=True):
    """bad of n: requests intended in the span that failed, were never sent or took longer than the limit, with virtual
    arrivals of the closed model. baseline_share: bad ones of baseline."""

    bad: int
    n: int
    baseline_share: float

    @property
    def harm(self) -> float:
        return max(0.0, self.bad - self.baseline_share * self.n)


def p95_target(plan: Plan) -> Target | None:
    """The one whose limit makes a request a slow one: of all requests, primary before secondary, of the fault phase
    before the others."""
    found = [target for target in plan.targets if target.traits.slow and target.name is None]
    order = {phase: number for number, phase in enumerate(_PHASES)}
    return min(found, key=lambda one: (not one.primary, order.get(one.phase or "baseline", 9)), default=None)


def span_s(plan: Plan) -> float:
    """As planned, never as it turned out: a phase that went on must not make a run look worse."""
    return plan.phases.fault_s + plan.phases.hold_s


def harm_of(plan: Plan, history: Sequence[ev.Event], store: WindowStore, limit_ms: float | None) -> Harm | str:
    """Or why there is none: in a clause."""
    phases = spans(history, store.end)
    baseline = span_of(phases, "baseline")
    start = _start(plan, history)
    if start is None:
        return "no fault was injected" if plan.faults else "its fault phase never began"
    if baseline is None:
        return "it has no baseline"
    end = start + next_step(span_s(plan))
    ended = max((span.end for span in phases), default=0)
    if ended < end or store.drawn_before() < end:
        return "its load ended before the span did"
    if missing := len(store.gaps(start, end)):
        return f"{missing / 10:g} s of the span are not whole on record"
    before = store.counts(limit_ms, baseline.start, baseline.end, failures=True)[None]
    if not sum(before.n):
        return "nothing was asked in its baseline"
    seen = store.counts(limit_ms, start, end, failures=True)[None]
    return Harm(bad=sum(seen.bad), n=sum(seen.n), baseline_share=sum(before.bad) / sum(before.n))


def _start(plan: Plan, history: Sequence[ev.Event]) -> int | None:
    """The step of the first injection; in a control run the first of the fault phase."""
    if plan.faults:
        sent = [event.sent_s for event in history if isinstance(event, ev.FaultInjected)]
        return step_of(min(sent)) if sent else None
    began = [event.start_s for event in history if isinstance(event, ev.PhaseStarted) and event.phase == "fault"]
    return next_step(min(began)) if began else None


def whole_harm(plan: Plan, history: Sequence[ev.Event], store: WindowStore) -> int | None:
    """In whole requests; None where there is none. A limit that is relative to baseline is not asked for here: then
    failures alone are bad."""
    if plan.control_run:
        return None
    target = p95_target(plan)
    limit_ms = target.value if target is not None and not target.of_baseline else None
    found = harm_of(plan, history, store, limit_ms)
    return None if isinstance(found, str) else round(found.harm)
