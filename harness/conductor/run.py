"""From a plan to a judged run directory: set-up, conduct, and the one way out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from harness.analysis.record.window_reader import WINDOWS
from harness.analysis.record.windows import WindowStore
from harness.conductor.after_load import ask_again
from harness.conductor.asked import INTERRUPTED
from harness.conductor.finish import judge_and_write
from harness.conductor.loop import conduct
from harness.conductor.prepare import Planned
from harness.conductor.readback import read_back
from harness.conductor.recording.history import History
from harness.conductor.recording.provenance import provenance
from harness.conductor.running_load import START_LEAD_S, RunningLoad
from harness.conductor.session import Session, make_run_dir, opened
from harness.conductor.signals import Signals
from harness.fault import Fault, registered
from harness.model.clock import monotonic
from harness.model.errors import HarnessError
from harness.model.jsonl import encode
from harness.model.records.events import LoadEnded, ReadBack, Stopped, UndoNotVerified
from harness.model.records.live import LiveState
from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.plan.planner import bind

Say = Callable[[str], None]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run. problem: why it could not be conducted, None when it was."""

    plan: Plan
    result: Result
    run_dir: Path
    problem: str | None = None
    hint: str | None = None


def run_planned(planned: Planned, *, out: Path, view: str, command: str, signals: Signals) -> Ended:
    """Carry a plan out that was checked; its run directory is made below `out`. view: see RunLog. command: what
    started it, for the record.

    Raises UsageError, and Refused for what another run has; nothing was touched then. All else is in the result.
    """
    plan = planned.plan
    name = plan.experiment
    with opened(planned, plan, lambda: make_run_dir(out, name), owner=name, view=view) as (session, log):
        for warning in plan.warnings:
            log.say(f"note: {warning}")
        if plan.control_run:
            log.say("control run: no fault will be injected (--fault NAME injects one; harness faults lists them)")
        return run_experiment(
            plan, session, faults=registered(), command=command, say=log.say, show=log.show, signals=signals
        )


def run_experiment(
    plan: Plan,
    session: Session,
    *,
    faults: Mapping[str, Fault],
    command: str,
    say: Say,
    show: Callable[[LiveState], None],
    signals: Signals,
) -> Ended:
    """Bring everything up, conduct, take everything down, judge, write the reports.

    Errors of set-up do not escape: they become a result with exit code 4 (or the error's own). A usage error
    found on the way (a lock that is held, a host that is refused) is raised: nothing was touched then.
    """
    history = History(session.run_dir / "history.jsonl", plan.experiment, say)
    problem: HarnessError | None = None
    interrupted = False
    try:
        plan = _conduct(plan, session, history, faults, command, say, show, signals)
    except HarnessError as error:
        problem = error
    except KeyboardInterrupt:  # pragma: no cover - Signals replaces the handler that raises it
        interrupted = True
    interrupted = interrupted or (signals.count > 0 and not ended_by_itself(history))
    session.end([f"{e.fault}: {e.left}; {e.mend}" for e in history.events if isinstance(e, UndoNotVerified)])
    result = judge_and_write(plan, session, history, problem=problem, interrupted=interrupted, say=say)
    return Ended(
        plan=plan,
        result=result,
        run_dir=session.run_dir,
        problem=str(problem) if problem else None,
        hint=problem.hint if problem else None,
    )


def ended_by_itself(history: History) -> bool:
    """Whether the experiment had come to its own end, all that it promised to read back included. A signal after that
    takes nothing away: the records are whole, and judged as they would be later."""
    read = [event for event in history.events if isinstance(event, ReadBack)]
    return (
        any(isinstance(event, LoadEnded) for event in history.events)
        and not any(isinstance(event, Stopped) for event in history.events)
        and not any(event.why == INTERRUPTED for event in read)
    )


def _conduct(
    plan: Plan,
    session: Session,
    history: History,
    faults: Mapping[str, Fault],
    command: str,
    say: Say,
    show: Callable[[LiveState], None],
    signals: Signals,
) -> Plan:
    write_plan(session.run_dir, plan)
    up = session.open(signals)
    if up is None:
        return plan
    assert session.keeper is not None and session.journal is not None
    if session.owns_stack:
        say(f"the stack is ready after {up.ready_s:.1f} s: {up.target.url}")
    plan = bind(plan, up, faults)
    session.lock_shared(plan, [f.spec.dependency for f in plan.faults if "changes_server" in f.change.traits])
    origin = provenance(command, up.versions, up.target.version)
    plan = msgspec.structs.replace(plan, provenance=origin)
    write_plan(session.run_dir, plan)
    if signals.count:
        return plan
    load = RunningLoad.start(plan.load, session, session.run_dir / WINDOWS, signals, say)
    if load is None:
        return plan
    try:
        t0 = monotonic() + START_LEAD_S
        load.begin(t0)
        session.start_sampler(t0, plan.alerts)
        store = WindowStore(plan)
        before = conduct(
            plan, session, load, history, t0=t0, faults=faults, store=store, signals=signals, say=say, show=show
        )
        ask_again(plan, session, history, before, signals, say)
        read_back(plan, session, history, signals, say, session.run_dir)
    finally:
        load.kill()
    return plan


def write_plan(run_dir: Path, plan: Plan) -> None:
    """plan.json, pretty for people. Raises OSError."""
    (run_dir / "plan.json").write_bytes(msgspec.json.format(encode(plan), indent=2) + b"\n")
