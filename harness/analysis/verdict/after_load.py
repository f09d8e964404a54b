"""How it ended: what was seen of the target once load was over, and what may be said of a run because of it.

A service that was well but slow, one that answers as soon as nobody asks much of it, and one that only a restart
helps are three things, and none is said without having been seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.record.spans import Span
from harness.analysis.rules.facts import Facts
from harness.model.clock import step_of, step_start
from harness.model.records import events as ev
from harness.model.records.result import AfterLoadResult, RecoveryResult
from harness.model.units import format_duration, format_percent

ANSWERED_S = 5.0
"""Without a failure for this long before load ended: every request was answered by then."""
LONG_S = 30.0
"""Asked for this long without success: it does not come back by itself."""
MOSTLY = 0.5


@dataclass(frozen=True)
class Ending:
    """not_recovered: what follows `The service did not recover ...`, "" = nothing is known. last_word: a sentence for
    every other run; "" = nothing to say. alarming: the target was not well."""

    not_recovered: str = ""
    last_word: str = ""
    alarming: bool = False


NOTHING = Ending()


def after_load_result(history: Sequence[ev.Event]) -> AfterLoadResult | None:
    seen = next((event for event in reversed(history) if isinstance(event, ev.AfterLoad)), None)
    if seen is None:
        return None
    return AfterLoadResult(
        outcome="as_in_baseline" if seen.as_in_baseline else "still_bad" if seen.answered else "no_answer",
        seconds=seen.seconds,
        asked=seen.asked,
        good=seen.good,
        why="" if seen.as_in_baseline else seen.example,
    )


def ending(facts: Facts, recovery: RecoveryResult, history: Sequence[ev.Event]) -> Ending:
    """What the end of a run shows."""
    after = after_load_result(history)
    loaded = next((event.end_s for event in reversed(history) if isinstance(event, ev.LoadEnded)), None)
    if recovery.outcome != "not_recovered":
        alarming = after is not None and after.outcome != "as_in_baseline"
        return Ending(last_word=last_word(after, recovery), alarming=alarming)
    if recovery.zero_s is None or loaded is None:
        return NOTHING
    return Ending(not_recovered=_under_load(facts, recovery, recovery.zero_s, loaded, after))


def _under_load(
    facts: Facts, recovery: RecoveryResult, zero_s: float, loaded: float, after: AfterLoadResult | None
) -> str:
    start, end = step_of(zero_s), step_of(loaded)
    series = facts.series(None, None, True)
    failed = [series.start + at for at, bad in enumerate(series.bad) if bad and start <= series.start + at < end]
    quiet_from = step_start(failed[-1] + 1) if failed else zero_s
    if loaded - quiet_from >= ANSWERED_S:
        since = f" from {format_duration(round(quiet_from - zero_s, 1))} after the undo on" if failed else ""
        broken = next((one.target for one in recovery.targets if one.outcome == "not_recovered"), None)
        what = f"`{broken}` stayed broken" if broken else "a target stayed broken"
        return f"every request was answered{since}, but {what}{_well_later(after)}"
    rate = facts.totals(Span("recovery", start, end, True)).error_rate if end > start else None
    if rate is None:
        return ""
    share = f"{format_percent(rate)} of the requests failed from the undo to the end of load"
    return share + _failing_later(after, mostly=rate >= MOSTLY)


def _failing_later(after: AfterLoadResult | None, *, mostly: bool) -> str:
    if after is None:
        return ""
    later = format_duration(after.seconds)
    if after.outcome == "as_in_baseline":
        why = "it does not come back under this load" if mostly else "it is not well under this load"
        return f"; it answered again {later} after the load had ended: {why}"
    if after.outcome == "no_answer":
        restart = ": it needs a restart" if after.seconds >= LONG_S else ""
        return f"; still no answer {later} later{restart}"
    itself = ": it did not come back by itself" if after.seconds >= LONG_S else ""
    return f"; {later} later it was still not as in baseline{_counts(after)}{itself}"


def _well_later(after: AfterLoadResult | None) -> str:
    if after is None:
        return ""
    later = format_duration(after.seconds)
    if after.outcome == "as_in_baseline":
        return f"; it was as in baseline {later} after the load had ended"
    if after.outcome == "no_answer":
        return f"; and after the load had ended there was no answer for {later}"
    return f"; {later} after the load had ended it was still not as in baseline{_counts(after)}"


def last_word(after: AfterLoadResult | None, recovery: RecoveryResult) -> str:
    if after is None:
        return ""
    later = format_duration(after.seconds)
    if after.outcome == "as_in_baseline":
        if recovery.outcome != "undecided":
            return ""
        return f"It answered as in baseline {later} after the load had ended."
    if after.outcome == "no_answer":
        why = f" ({after.why.rstrip('.')})" if after.why else ""
        return f"After the load had ended the service gave no answer for {later}{why}."
    return f"The service was still not as in baseline {later} after the load had ended{_counts(after)}."


def _counts(after: AfterLoadResult) -> str:
    bad = after.asked - after.good
    why = f", such as {after.why.rstrip('.')}" if after.why else ""
    return f" ({bad} of {after.asked} requests failed or were too slow{why})"
