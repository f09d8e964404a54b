"""A rehearsal: nobody is there, every drill is carried out once with short phases. Would the plan work?

It is a suite of its drills. What they find of the service is not asked: whether each fault could be injected, proven
and undone is, and whether the target was at rest again for the next.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from harness.analysis.run_directory import read_result
from harness.conductor.signals import Signals
from harness.gameday.prepare import PlannedGameDay, rehearsal
from harness.model.errors import HarnessError
from harness.model.exit_codes import ExitCode
from harness.model.records.many_runs.suite import ExperimentResult, SuiteResult
from harness.model.records.plan import Plan
from harness.plan.phases import MIN_BASELINE_S, MIN_FAULT_S, MIN_HOLD_S
from harness.suite.prepare import PlannedItem
from harness.suite.run import run_suite


class Rehearsed(msgspec.Struct, frozen=True, kw_only=True):
    """lines: for people, a line a drill and the answer."""

    lines: tuple[str, ...]
    exit_code: ExitCode


def rehearse(planned: PlannedGameDay, *, out: Path, view: str, command: str, signals: Signals) -> Rehearsed:
    """Raises what run_suite does."""
    suite = rehearsal(planned, short)
    ended = run_suite(suite, out=out, view=view, command=command, signals=signals)
    lines = [_line(one, ended.run_dir) for one in ended.result.experiments]
    failed = [line for line in lines if not line.endswith(WORKS)]
    if ended.problem is not None:
        lines.append(f"the rehearsal could not be carried out: {ended.problem}")
    elif failed:
        lines.append(f"{len(failed)} of {len(lines)} drills would not work as planned")
    else:
        lines.append(f"all {len(lines)} drills would work")
    return Rehearsed(lines=(*lines, str(ended.run_dir)), exit_code=_exit_code(ended.result, bool(failed)))


WORKS = "injected, proven, undone"


def short(one: PlannedItem) -> PlannedItem:
    """The same with phases as short as they may be, and no phase goes on."""
    return PlannedItem(item=one.item, plan=_short(one.plan))


def _short(plan: Plan) -> Plan:
    phases = plan.phases
    shorter = min(phases.fault_s, MIN_FAULT_S)
    cut = {fault.id: _cut(fault.at_s, fault.for_s, shorter) for fault in plan.faults}
    faults = tuple(
        replace(fault, at_s=cut[fault.id][0], for_s=cut[fault.id][1], spec=fault.spec) for fault in plan.faults
    )
    # Faults that follow each other keep their times: shortened they could fall on each other.
    sequence = any(fault.at_s > 0 for fault in plan.faults)
    return replace(
        plan,
        faults=plan.faults if sequence else faults,
        abort_if=(),
        phases=replace(
            phases,
            baseline_s=min(phases.baseline_s, MIN_BASELINE_S),
            fault_s=phases.fault_s if sequence else shorter,
            hold_s=min(phases.hold_s, MIN_HOLD_S),
            after_s=min(phases.after_s, MIN_HOLD_S),
            extend=(),
        ),
    )


def _cut(at_s: float, for_s: float | None, most_s: float) -> tuple[float, float | None]:
    return at_s, None if for_s is None else min(for_s, most_s)


def _line(one: ExperimentResult, folder: Path) -> str:
    """`redis is gone: injected, proven, undone`"""
    attempt = one.shown
    if attempt is None:
        return f"{one.name}: not run: {one.why}"
    try:
        result = read_result(folder / attempt.directory)
    except (HarnessError, OSError) as error:
        return f"{one.name}: {error}"
    if not result.faults:
        return f"{one.name}: {WORKS}" if attempt.verdict != "inconclusive" else f"{one.name}: {attempt.reason}"
    if any(fault.injected_s is None for fault in result.faults):
        return f"{one.name}: not injected: {attempt.reason}"
    if unproven := next((fault for fault in result.faults if not fault.proven), None):
        return f"{one.name}: not proven: {unproven.missing or attempt.reason}"
    if any(fault.undo_verified is False for fault in result.faults):
        return f"{one.name}: its undo could not be verified"
    if attempt.reset:
        return f"{one.name}: {WORKS}; the target did not come back by itself: {attempt.reset}"
    return f"{one.name}: {WORKS}"


def _exit_code(result: SuiteResult, failed: bool) -> ExitCode:
    """What a drill finds is no failure of the plan."""
    code = ExitCode(result.exit_code)
    if code in (ExitCode.UNDO_UNVERIFIED, ExitCode.INTERRUPTED, ExitCode.HARNESS_FAILED):
        return code
    return ExitCode.INCONCLUSIVE if failed else ExitCode.PASS
