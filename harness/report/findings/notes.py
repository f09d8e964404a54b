"""Plain facts that change how the numbers of a run are to be read."""

from __future__ import annotations

from harness.model.records.plan import Plan
from harness.model.records.result import Result
from harness.report.findings.finding import dependencies
from harness.report.sentences import text
from harness.report.sentences.by_request_name import all_slowed, failing, slowed
from harness.report.sentences.moved import moved
from harness.report.sentences.shrunk import shrunk

MOST_NAMES = 5


def notes(plan: Plan, result: Result) -> tuple[str, ...]:
    """One sentence each, the most important first."""
    said = _extended(plan, result)
    if plan.control_run:
        return tuple(said)
    if found := failing(result):
        more = f"; and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
        said.append(f"By request name: {'; '.join(one.said for one in found[:MOST_NAMES])}{more}.")
    if all_slowed(result):
        said.append(
            f"Every request name got slower during the fault, all {len(slowed(result))} of them: also those that do "
            f"not use {dependencies(plan)}, if there are such."
        )
    if small := shrunk(result)[:MOST_NAMES]:
        said.append(f"What was answered became smaller: {'; '.join(one.said for one in small)}.")
    if changed := moved(result)[:MOST_NAMES]:
        said.append(f"In the service's own metrics, baseline to fault: {'; '.join(one.said for one in changed)}.")
    before = "baseline"
    if result.earlier_baseline_s:
        before = f"baseline and {result.earlier_baseline_s:.0f} s of earlier ones of the session"
    fault = next((p for p in result.phases if p.name == "fault" and (p.dispersion or 0) > 1.5), None)
    if fault is not None and fault.dispersion is not None:
        said.append(
            f"Failures come in bursts of about {fault.dispersion:.0f} (as {before} showed them): the "
            f"{fault.requests:,} requests of the fault phase tell as much as {fault.requests / fault.dispersion:,.0f}."
        )
    if result.impact is not None and (n := result.impact.as_in_baseline):
        said.append(
            f"{n} short episode{'s' if n > 1 else ''} of failed or slow requests after the undo "
            f"{'were' if n > 1 else 'was'} no more frequent than in {before}: not counted against the service."
        )
    return tuple(said)


def _extended(plan: Plan, result: Result) -> list[str]:
    """Phases that went on because a target was met, but not yet held."""
    lasted = {phase.name: phase.end_s - phase.start_s for phase in result.phases}
    return [
        f"Phase {name} went on from {text.seconds(planned)} to {text.seconds(lasted[name])}, to be sure of a target "
        "that was met but not yet held."
        for name, planned in plan.phases.judged.items()
        if name in plan.phases.extend and lasted.get(name, 0.0) > planned + 1.0
    ]
