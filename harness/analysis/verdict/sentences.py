"""What happened, in sentences for a person who has not read the measurement rules."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.records.result import NameResult, RecoveryResult, TargetResult
from harness.model.target_grammar import format_value, parse_targets
from harness.model.units import format_duration

WHEN = {"baseline": "Before any fault", "fault": "While the fault was on", "after": "After recovery"}
WHEN_CONTROL = {"baseline": "In baseline", "fault": "In the fault phase (no fault: control run)", "after": "At the end"}

GENERATOR = "The load generator could not keep up"


def names_generator(reasons: Sequence[str]) -> bool:
    """Whether what decided a run is that its load generator starved."""
    return bool(reasons) and reasons[0].startswith(GENERATOR)


def broken(result: TargetResult, *, control: bool = False) -> str:
    """Why a target is broken: what was seen, what was asked for, in which phase."""
    said = _broken_names(result) or _broken(result)
    when = (WHEN_CONTROL if control else WHEN).get(result.phase or "")
    sentence = f"{when}, {said}" if when else said[0].upper() + said[1:]
    because = f"; {result.why}" if result.why and result.observed is not None else ""
    return f"{sentence} (target {result.target}{because})."


def bad_times(bad: int, failed: int | None, n: int | None = None) -> str:
    """`failed 7 of 90 times`, `was too slow 7 times`: what was seen of a request name, and nothing else. failed: of the
    bad ones; None = not known."""
    times = f"{bad:,} times" if n is None else f"{bad:,} of {n:,} times"
    if failed is None:
        return f"failed or was too slow {times}"
    if failed == 0:
        return f"was too slow {times}"
    return f"failed {times}" if failed >= bad else f"failed or was too slow {times} ({failed:,} failed)"


def failed_of(name: NameResult, of: TargetResult) -> int | None:
    return name.bad if of.traits.failures else name.failed


def undecided(result: TargetResult) -> str:
    """Why a target could not be judged."""
    why = result.why or "too little was seen"
    return f"Whether {result.target} holds could not be decided: {why}."


def not_recovered(recovery: RecoveryResult, ending: str = "") -> str:
    """ending: how it ended (harness.analysis.verdict.after_load), a clause; "" = not known."""
    late = f" within {format_duration(recovery.lower_s)} after the undo" if recovery.lower_s is not None else ""
    names = ", ".join(_not_recovered(recovery))
    return f"The service did not recover{late}{f' ({names})' if names else ''}{': ' + ending if ending else ''}."


def _not_recovered(recovery: RecoveryResult) -> list[str]:
    """The targets that did not recover. A failed request counts as slow too: where failures did not end, nothing is
    known of latency, and no latency target is named."""
    found = [t.target for t in recovery.targets if t.outcome == "not_recovered"]
    failing = [text for text in found if parse_targets(text)[0].traits.failures]
    return [f"target {text}" for text in failing or found]


def recovery_undecided(recovery: RecoveryResult) -> str:
    why = f": {recovery.why.rstrip('.')}" if recovery.why else ""
    return f"Whether the service recovered could not be decided{why}."


def recovered(recovery: RecoveryResult, *, hurt: bool = False) -> str | None:
    """How recovery went, for a run that passed. hurt: a target was broken while the fault was on."""
    if recovery.outcome == "no_impact":
        if recovery.why:
            # A request name that was hurt up to the undo, with too few requests after it.
            return f"Over all requests no target was broken when the fault ended; {recovery.why}."
        if hurt:
            return "What the fault broke was over before the undo: no target was broken when the fault ended."
        return "There was nothing to recover from: no target was broken when the fault ended."
    if recovery.outcome != "recovered" or recovery.seconds is None:
        return None
    between = ""
    if recovery.lower_s is not None and recovery.upper_s is not None:
        between = f"between {format_duration(recovery.lower_s)} and {format_duration(recovery.upper_s)}"
    if recovery.graded:
        return f"The service came back by degrees, {between} after the fault was undone."
    between = f" ({between})" if between else ""
    return f"The service recovered {format_duration(recovery.seconds)} after the fault was undone{between}."


def _broken_names(result: TargetResult) -> str:
    """Where only single request names break a target of all: theirs is what there is to tell."""
    names = [found for found in result.names if found.outcome == "broken"]
    if not names or result.observed is None or result.limit is None or result.observed >= result.limit:
        return ""
    said = f"{names[0].name!r} {bad_times(names[0].bad, failed_of(names[0], result), names[0].n)}"
    others = len(names) - 1
    said += f", and {others} more request name{'s' if others > 1 else ''} broke it" if others else ""
    return said + f"; the target is {_asked(result).removeprefix('the target is ')}, of every request name"


def _broken(result: TargetResult) -> str:
    start, end = result.target.find("{"), result.target.rfind("}")
    of = f" of {result.target[start + 1 : end]}" if 0 <= start < end else ""
    asked = _asked(result)
    if result.observed is None:
        return result.why or f"{result.metric}{of} was broken"
    seen = format_value(result.observed, result.traits.unit)
    return f"{result.traits.broken.format(metric=result.metric, seen=seen, of=of)}, {asked}"


def _asked(result: TargetResult) -> str:
    """The limit in words; the operator is read off the target's text."""
    if result.limit is None:
        return f"the target is {result.target}"
    limit = format_value(result.limit, result.traits.unit)
    tail = result.target.rpartition("}")[2]
    words = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
    word = next(text for op, text in words.items() if op in tail)
    return f"the target is {word} {limit}"
