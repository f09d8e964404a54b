"""How recovery went, in sentences: the words follow what was seen at the end."""

from __future__ import annotations

from harness.model.records.plan import Plan
from harness.model.records.result import RecoveryResult, Result
from harness.report.sentences import text
from harness.report.sentences.assessment import interval


def recovery_sentence(plan: Plan, result: Result) -> str:
    """How long recovery took, with its interval and what it is counted from."""
    recovery, impact = result.recovery, result.impact
    if plan.control_run:
        return "No fault was injected (control run), so there was nothing to recover from."
    if recovery is None:
        return "Recovery was not judged."
    told = recovery.why.removeprefix("it came back by degrees").removeprefix("; ") if recovery.graded else recovery.why
    why = f": {text.visible(told, 300).rstrip('.')}" if told else ""
    match recovery.outcome:
        case "no_impact":
            upper = f" (to within {text.seconds(recovery.upper_s)})" if recovery.upper_s is not None else ""
            hurt = impact is not None and impact.start_s is not None and impact.start_s < (recovery.zero_s or 0.0)
            if recovery.why:
                said = f"Over all requests no target was broken when the fault ended, nor after it{upper}{why}"
            elif impact is not None and hurt and not impact.end_unseen:
                since = f", from {text.moment(impact.mitigated_s)} on" if impact.mitigated_s is not None else ""
                said = f"What the fault broke was over before the undo{since}: nothing was left to recover from{upper}"
            else:
                said = f"No target was broken when the fault ended, nor after it{upper}"
                if hurt:
                    said += "; when what the fault broke was over, the load generator did not see"
            return f"{said}{_relapses(recovery)}."
        case "recovered":
            between = interval(recovery)
            if recovery.graded:
                said = f"Came back by degrees, {between} after the undo took effect"
            else:
                said = f"Recovered {text.seconds(recovery.seconds)} after the undo took effect"
                said += f", {between}" if between else ""
                if recovery.from_undo_requested_s is not None:
                    said += f"; {text.seconds(recovery.from_undo_requested_s)} after the undo was requested"
            return f"{said}{_relapses(recovery)}{why}."
        case "not_recovered":
            waited = f" within {text.seconds(recovery.lower_s)}" if recovery.lower_s is not None else ""
            return f"Did not recover{waited} after the undo took effect{why}."
        case "undecided":
            return f"Whether it recovered is undecided{why}."
        case "not_judged":
            return f"Recovery was not judged{why}."


def _relapses(recovery: RecoveryResult) -> str:
    """Those before the instant that counts were outages; those after it did not undo the recovery."""
    since = (recovery.zero_s or 0.0) + (recovery.seconds or 0.0)
    outages = sum(start < since for start, _ in recovery.relapses)
    short = len(recovery.relapses) - outages
    said = f"; it fell again {_times(outages)}, and the last recovery counts" if outages else ""
    if short:
        bad = sum(n for (start, _), n in zip(recovery.relapses, recovery.relapsed, strict=False) if start >= since)
        told = f" ({bad:,} bad requests)" if bad else ""
        said += f"; after that targets were broken again {_times(short)}, too shortly to undo it{told}"
    return said


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def relapse_words(recovery: RecoveryResult) -> tuple[str, ...]:
    """`140.1s to 140.3s, 12 bad requests`, one each."""
    sizes = [*recovery.relapsed, *([0] * len(recovery.relapses))]
    return tuple(
        f"{text.moment(start)} to {text.moment(end)}" + (f", {n:,} bad request{'s' if n > 1 else ''}" if n else "")
        for (start, end), n in zip(recovery.relapses, sizes, strict=False)
    )
