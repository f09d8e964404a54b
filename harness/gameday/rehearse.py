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
from harness.model.records.result import Result
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
    found = [_found(one, ended.run_dir) for one in ended.result.experiments]
    lines = [f"{one.name}: {said}" for one, (_, said) in zip(ended.result.experiments, found, strict=True)]
    failed = sum(not works for works, _ in found)
    if ended.problem is not None:
        lines.append(f"the rehearsal could not be carried out: {ended.problem}")
    else:
        lines.append(answer(len(found), failed))
    return Rehearsed(lines=(*lines, str(ended.run_dir)), exit_code=_exit_code(ended.result, failed > 0))


def answer(drills: int, failed: int) -> str:
    many = f"{drills} drill{'' if drills == 1 else 's'}"
    if failed:
        return f"{failed} of {many} would not work as planned"
    return f"all {many} would work" if drills > 1 else "the drill would work"


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


def _found(one: ExperimentResult, folder: Path) -> tuple[bool, str]:
    """Whether the drill would work, and what is said of it."""
    attempt = one.shown
    if attempt is None:
        return False, f"not run: {one.why}"
    try:
        result = read_result(folder / attempt.directory)
    except (HarnessError, OSError) as error:
        return False, f"it left no result: {error}"
    works, said = _of(result, attempt.reason)
    if works and attempt.reset:
        said += f"; the target did not come back by itself: {attempt.reset}"
    return works, said


def _of(result: Result, reason: str) -> tuple[bool, str]:
    if not result.faults:
        whole = any(phase.name == "after" for phase in result.phases)
        return whole, "nothing is broken in it, and it was carried out" if whole else f"not carried out: {reason}"
    if any(fault.injected_s is None for fault in result.faults):
        return False, f"not injected: {reason.removeprefix('Nothing was injected: ')}"
    if any(fault.undo_verified is False for fault in result.faults):
        return False, "its undo could not be verified"
    if unproven := next((fault for fault in result.faults if not fault.proven), None):
        return False, f"not proven: {unproven.missing or reason}"
    undone = any(fault.undo_verified for fault in result.faults)
    return True, "injected, proven, undone" if undone else "injected, proven; there was nothing to undo"


def _exit_code(result: SuiteResult, failed: bool) -> ExitCode:
    """What a drill finds is no failure of the plan."""
    code = ExitCode(result.exit_code)
    if code in (ExitCode.UNDO_UNVERIFIED, ExitCode.INTERRUPTED, ExitCode.HARNESS_FAILED):
        return code
    return ExitCode.INCONCLUSIVE if failed else ExitCode.PASS
