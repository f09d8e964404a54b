"""Which alerts are expected of a run, and how long targets must be broken for each to fire: for `harness plan`."""

from __future__ import annotations

from collections.abc import Sequence

from harness.model.records.alerts import AlertRule
from harness.model.records.plan import Plan
from harness.model.units import format_duration
from harness.report.sentences.text import visible


def alerts(plan: Plan) -> str:
    """Plain text; "" where nobody looks at alerts."""
    asked = plan.alerts
    if asked is None:
        return ""
    lines = [seen_by(plan), *(f"  expected   {one}" for one in expected(plan, asked.rules))]
    return "\n".join(lines if asked.expected else [*lines, "  expected   none: nothing is judged"])


def seen_by(plan: Plan) -> str:
    asked = plan.alerts
    places = [f"{name} {url}, read each second" for name, url in _urls(plan)]
    if asked is not None and asked.of_stack and not places:
        places = ["the Prometheus and the Alertmanager that the stack brings, read each second"]
    places += [f"a webhook on {asked.webhook}"] if asked is not None and asked.webhook is not None else []
    return "\n".join(["Alerts", *(f"  seen by    {visible(place, 400)}" for place in places)])


def expected(plan: Plan, rules: Sequence[AlertRule]) -> list[str]:
    """Each expected alert, with what its rule asks of the fault, as far as it was read."""
    names = plan.alerts.expected if plan.alerts is not None else ()
    return [f"{visible(name, 80)}{_told(plan, name, rules)}" for name in names]


def _urls(plan: Plan) -> list[tuple[str, str]]:
    found = plan.alerts
    if found is None:
        return []
    both = (("Prometheus", found.prometheus), ("Alertmanager", found.alertmanager))
    return [(name, url) for name, url in both if url is not None]


def _told(plan: Plan, name: str, read: Sequence[AlertRule]) -> str:
    if not read:
        return ""
    own = [rule for rule in read if rule.alert == name]
    if not own:
        return ": Prometheus has no alerting rule of this name"
    rule = min(own, key=lambda rule: rule.least_s)
    said = f": fires once targets are broken for {format_duration(rule.least_s)} ({_why(rule)})"
    longest_s = max((fault.for_s or 0.0 for fault in plan.faults), default=0.0)
    if any(fault.for_s is not None for fault in plan.faults) and longest_s < rule.least_s:
        said += f"; faults of {format_duration(longest_s)} are too short: that it does not fire is not judged"
    return said


def _why(rule: AlertRule) -> str:
    waits = f"for {format_duration(rule.for_s)}, " if rule.for_s else ""
    return f"{waits}evaluated every {format_duration(rule.interval_s)}; scrapes and ranges of its query come on top"
