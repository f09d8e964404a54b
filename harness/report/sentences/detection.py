"""Did anybody notice? What is said of each expected alert, from the result alone."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.records.result import AlertOutcome, AlertResult, DetectionResult, Outcome
from harness.report.sentences import text

SOURCES = {"prometheus": "Prometheus", "alertmanager": "Alertmanager", "webhook": "the webhook"}
WORDS: dict[AlertOutcome, str] = {
    "detected": "detected",
    "held_back": "held back",
    "never_fired": "never fired",
    "fired_without_impact": "fired without impact",
    "carried_over": "carried over",
    "not_judged": "not judged",
}
AS_TARGET: dict[AlertOutcome, Outcome] = {
    "detected": "held",
    "held_back": "broken",
    "never_fired": "broken",
    "fired_without_impact": "undecided",
    "carried_over": "not_judged",
    "not_judged": "not_judged",
}
"""How each is drawn: as an outcome of a target. No verdict is made of it."""
COLUMNS = ("Alert", "Outcome", "Detected after", "Notified at", "Resolved after recovery", "False alarms", "Why")


def lead(found: DetectionResult) -> str:
    """What all expected alerts say together."""
    judged = [one for one in found.alerts if one.outcome in ("detected", "held_back", "never_fired")]
    detected = sum(one.outcome == "detected" for one in judged)
    many = f"{len(judged)} expected alert{'' if len(judged) == 1 else 's'} that could be judged"
    said = f"{detected} of {many} detected the impact" if judged else "No expected alert could be judged by an impact"
    said += f", as {SOURCES[found.source]} tells"
    alarms = f"{found.false_alarms} false alarm{'' if found.false_alarms == 1 else 's'}"
    said += f"; {alarms if found.false_alarms else 'no false alarm'}"
    if not found.baseline_seen:
        said += " that was seen"
    if found.unseen:
        parts = ", ".join(f"{text.moment(low)} to {text.moment(high)}" for low, high in found.unseen[:3])
        said += f". It did not answer from {parts}" + (" and later" if len(found.unseen) > 3 else "")
    return f"{said}."


def detected_after(one: AlertResult) -> str:
    """`7.0s`, or `between 6.0s and 7.0s` where the looks tell no better."""
    if one.seconds is None:
        return ""
    if one.lower_s is not None and one.upper_s is not None and one.upper_s - one.lower_s > 0.05:
        return f"between {text.seconds(one.lower_s)} and {text.seconds(one.upper_s)}"
    return text.seconds(one.seconds)


def cells(one: AlertResult) -> Sequence[str]:
    """As in COLUMNS; outside text is made visible, and escaped by whoever shows it."""
    return (
        text.visible(one.alert, 80),
        WORDS[one.outcome],
        detected_after(one),
        text.moment(one.notified_s) if one.notified_s is not None else "",
        text.seconds(one.resolved_after_s) if one.resolved_after_s is not None else "",
        str(one.false_alarms),
        text.visible(one.why, 300),
    )


def sentence(one: AlertResult) -> str:
    """The same in a line."""
    said = f"{text.visible(one.alert, 80)}: {WORDS[one.outcome]}"
    if after := detected_after(one):
        said += f" {after} after the impact began"
    if one.resolved_after_s is not None:
        said += f", resolved {text.seconds(one.resolved_after_s)} after recovery"
    return said + (f" ({text.visible(one.why, 300)})" if one.why else "")
