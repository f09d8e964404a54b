"""What the headline says of the time after the load: a few words, and only what was seen then."""

from __future__ import annotations

from harness.analysis.verdict.after_load import LONG_S, last_word
from harness.model.records.result import Result
from harness.report.sentences import text


def at_the_end(result: Result) -> str:
    """`; still no answer 61s after the load had ended: it needs a restart`, for a run that failed; "" = nothing to say:
    not asked, or as everybody expects of a service that recovered."""
    after = result.after_load
    lost = result.recovery is not None and result.recovery.outcome == "not_recovered"
    if after is None or (after.outcome == "as_in_baseline" and not lost):
        return ""
    when = f"{text.seconds(after.seconds)} after the load had ended"
    if after.outcome == "as_in_baseline":
        return f"; it was as in baseline {when}"
    if after.outcome == "no_answer":
        return f"; still no answer {when}" + (": it needs a restart" if lost and after.seconds >= LONG_S else "")
    return f"; still not as in baseline {when}"


def alarm(result: Result) -> str:
    """The same where it is the first reason of a run: nothing before the end of load took its PASS away."""
    after, recovery = result.after_load, result.recovery
    if after is None or recovery is None or after.outcome == "as_in_baseline":
        return ""
    if result.reasons[:1] != (last_word(after, recovery),):
        return ""
    bad = "the service gave no answer" if after.outcome == "no_answer" else "the service was not as in baseline"
    return f"{bad} {text.seconds(after.seconds)} after the load had ended"
