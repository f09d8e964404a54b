"""Did anybody notice? Each expected alert against the impact that was measured; docs/alerts.md says the rules in words.

An alert fires while one of its series does, by the word of one source: Alertmanager where it is polled (what it
suppresses nobody is told), else Prometheus, else the webhook.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import msgspec

from harness.analysis.record.spans import Span, fault_intervals
from harness.analysis.rules.facts import Facts
from harness.analysis.rules.proportions import result_of
from harness.model.records import events as ev
from harness.model.records.alerts import AlertRow, AlertRule, AlertsPlan, Changed, Looked, RuleSeen, Source, State
from harness.model.records.metrics import metric_traits
from harness.model.records.result import AlertOutcome, AlertResult, DetectionResult, ImpactResult, Outcome, TargetResult
from harness.model.records.targets import Target
from harness.model.units import format_duration

UNSEEN_AFTER_S = 5.0
"""A source that is asked each second and has not answered for longer was not watched meanwhile."""
_COUNTS: dict[Source, State] = {"prometheus": "firing", "alertmanager": "firing", "webhook": "notified"}


class Episode(msgspec.Struct, frozen=True, kw_only=True):
    """[start_s, end_s) in which an alert was in a state; end_s None: to the end. not_before: see Changed; with the
    source's own clock the start itself."""

    start_s: float
    not_before: float | None
    end_s: float | None


def episodes(rows: Iterable[AlertRow], alert: str, source: Source, state: State) -> list[Episode]:
    """When at least one series of the alert was in this state."""
    on: set[str] = set()
    found: list[Episode] = []
    begun: Changed | None = None
    changes = [r for r in rows if isinstance(r, Changed) and r.alert == alert and r.source == source]
    for row in sorted(changes, key=lambda row: row.at):
        if row.state == state:
            begun = begun or row
            on.add(row.series)
        else:
            on.discard(row.series)
        if begun is not None and not on:
            found.append(_episode(begun, row.at))
            begun = None
    return found if begun is None else [*found, _episode(begun, None)]


def _episode(begun: Changed, end_s: float | None) -> Episode:
    not_before = begun.at if begun.clock == "own" else begun.not_before
    return Episode(start_s=begun.at, not_before=not_before, end_s=end_s)


def unseen(rows: Iterable[AlertRow], source: Source, start_s: float, end_s: float) -> tuple[tuple[float, float], ...]:
    """Stretches of [start_s, end_s] in which the source gave no answer."""
    answered = [r.at for r in rows if isinstance(r, Looked) and r.source == source and not r.trouble]
    edges = [start_s, *sorted(at for at in answered if start_s < at < end_s), end_s]
    found: list[tuple[float, float]] = []
    for low, high in itertools.pairwise(edges):
        if high - low > UNSEEN_AFTER_S:
            found.append((round(low, 3), round(high, 3)))
    return tuple(found)


class _Case(msgspec.Struct, frozen=True, kw_only=True):
    """One run as all its alerts see it. first: the first injection; None: there was none. violating: see ImpactResult.
    recovered_s: when targets held again after the undo. end_s: of the load."""

    plan: AlertsPlan
    rows: Sequence[AlertRow]
    source: Source
    baseline: Span
    first: float | None
    impact_s: float | None
    violating: Sequence[tuple[float, float]]
    recovered_s: float | None
    end_s: float
    unseen: tuple[tuple[float, float], ...]
    rules: Sequence[AlertRule]
    rules_known: bool

    @property
    def broken_s(self) -> float:
        """The longest that targets were broken without a break, from the injection on."""
        first = self.first or 0.0
        return max((end - max(start, first) for start, end in self.violating if end > first), default=0.0)

    def missed(self, low: float, high: float) -> bool:
        """Nobody looked for a part of [low, high]."""
        return any(start < high and end > low for start, end in self.unseen)


def detection(
    facts: Facts, history: Sequence[ev.Event], impact: ImpactResult | None, rows: Sequence[AlertRow]
) -> DetectionResult | None:
    """None where nothing was expected, or the run had no baseline."""
    alerts, baseline = facts.plan.alerts, facts.baseline
    if alerts is None or not alerts.expected or not alerts.sources or baseline is None:
        return None
    source: Source = next(one for one in ("alertmanager", "prometheus", "webhook") if one in alerts.sources)
    end_s = max(span.end_s for span in facts.spans)
    faults = fault_intervals(facts.plan, history, end_s)
    case = _Case(
        plan=alerts,
        rows=rows,
        source=source,
        baseline=baseline,
        first=faults[0][0] if faults else None,
        impact_s=impact.start_s if impact is not None else None,
        violating=impact.violating if impact is not None else (),
        recovered_s=_recovered(facts),
        end_s=end_s,
        unseen=unseen(rows, source, baseline.start_s, end_s),
        rules=[row.rule for row in rows if isinstance(row, RuleSeen)],
        rules_known=any(isinstance(r, Looked) and r.source == "prometheus" and not r.trouble for r in rows),
    )
    found = tuple(_alert(case, name) for name in alerts.expected)
    counted_to = end_s if case.first is None else case.first
    return DetectionResult(
        source=source,
        alerts=found,
        false_alarms=sum(one.false_alarms for one in found),
        unseen=case.unseen,
        baseline_seen=not case.missed(baseline.start_s, counted_to),
    )


def _recovered(facts: Facts) -> float | None:
    found = facts.recovery
    if found is None or found.outcome != "recovered" or found.zero_s is None or found.seconds is None:
        return None
    return found.zero_s + found.seconds


def _alert(case: _Case, name: str) -> AlertResult:
    firing = episodes(case.rows, name, case.source, _COUNTS[case.source])
    rules = [rule for rule in case.rules if rule.alert == name]
    least_s = min((rule.least_s for rule in rules), default=None)
    until = case.end_s if case.first is None else case.first
    early = [one for one in firing if case.baseline.start_s <= one.start_s < until]
    false = [one for one in early if not _explained(case, one, least_s)]
    since = [] if case.first is None else [one for one in firing if case.first <= one.start_s < case.end_s]
    found = AlertResult(alert=name, outcome="not_judged", false_alarms=len(false), times=len(since), least_s=least_s)
    if any(one.start_s < case.baseline.start_s and (one.end_s is None or one.end_s > until) for one in firing):
        return _as(found, "carried_over", "it fired already when baseline began, and all through it")
    if false:
        return _as(found, "fired_without_impact", f"it fired {_times(len(false))} while no target was broken")
    if case.first is None:
        return _as(found, "not_judged", "no fault was injected: there was nothing to detect")
    if since and case.impact_s is None:
        found = msgspec.structs.replace(found, fired_s=since[0].start_s)
        return _as(found, "fired_without_impact", "it fired, and the fault broke no target")
    if case.impact_s is None:
        return _as(found, "not_judged", "the fault broke no target: there was nothing to detect")
    if since:
        return _detected(case, found, since, case.impact_s)
    if any(one.end_s is None or one.end_s > case.first for one in early):
        return _as(found, "not_judged", "it fired when the fault was injected, as targets were broken before")
    return _silent(case, found, rules)


def _as(found: AlertResult, outcome: AlertOutcome, why: str) -> AlertResult:
    return msgspec.structs.replace(found, outcome=outcome, why=why)


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"


def _explained(case: _Case, one: Episode, least_s: float | None) -> bool:
    """Targets were broken by themselves when it fired, or so shortly before that its rule had to see it first."""
    lag_s = least_s if least_s is not None else UNSEEN_AFTER_S
    return any(start <= one.start_s <= end + lag_s for start, end in case.violating)


def _detected(case: _Case, found: AlertResult, since: Sequence[Episode], impact_s: float) -> AlertResult:
    first = since[0]
    earliest = case.first if first.not_before is None else first.not_before
    last = since[-1].end_s
    why = []
    if first.start_s < impact_s:
        why.append("it fired before the first target was broken")
    if case.recovered_s is not None and first.start_s > case.recovered_s:
        why.append(f"it fired {format_duration(first.start_s - case.recovered_s)} after the service was well again")
    if len(since) > 1:
        why.append(f"it began to fire {len(since)} times")
    if last is None:
        why.append("it still fired when the record ended")
    notified = episodes(case.rows, found.alert, "webhook", "notified")
    told = [one.start_s for one in notified if one.start_s >= (case.first or 0.0)]
    resolved = None if last is None or case.recovered_s is None else max(0.0, last - case.recovered_s)
    return msgspec.structs.replace(
        found,
        outcome="detected",
        why="; ".join(why),
        seconds=round(max(0.0, first.start_s - impact_s), 3),
        lower_s=round(max(0.0, (earliest or 0.0) - impact_s), 3),
        upper_s=round(max(0.0, first.start_s - impact_s), 3),
        fired_s=round(first.start_s, 3),
        notified_s=round(told[0], 3) if told else None,
        resolved_after_s=None if resolved is None else round(resolved, 3),
    )


def _silent(case: _Case, found: AlertResult, rules: Sequence[AlertRule]) -> AlertResult:
    """Why an alert did not fire although targets were broken."""
    first = case.first or 0.0
    if case.missed(first, case.end_s):
        return _as(found, "not_judged", f"{case.source} did not answer all the time, so nobody knows whether it fired")
    if case.source == "alertmanager":
        if _since(episodes(case.rows, found.alert, "alertmanager", "suppressed"), first):
            return _as(found, "held_back", "Alertmanager suppressed it (inhibited or silenced): nobody was told")
        if fired := _since(episodes(case.rows, found.alert, "prometheus", "firing"), first):
            found = msgspec.structs.replace(found, fired_s=round(fired[0].start_s, 3))
            return _as(found, "held_back", "it fired in Prometheus and did not come to Alertmanager: nobody was told")
    if not case.rules_known:
        unknown = "how long its condition must last is not known: [alerts] names no Prometheus that answers"
        return _as(found, "not_judged", unknown)
    if not rules:
        return _as(found, "never_fired", "Prometheus has no alerting rule of this name")
    broken_s, least_s = case.broken_s, found.least_s or 0.0
    if broken_s < least_s:
        said = f"targets were broken for {format_duration(broken_s)}, and its rule needs {format_duration(least_s)}"
        return _as(found, "not_judged", f"fault too short: {said}")
    why = [f"targets were broken for {format_duration(broken_s)}, and its rule needs {format_duration(least_s)}"]
    back_s = max((rule.range_s for rule in rules), default=0.0)
    if back_s > broken_s:
        why.append(f"its query looks back {format_duration(back_s)}, over more than was broken")
    if _since(episodes(case.rows, found.alert, "prometheus", "pending"), first):
        why.append("it was pending, and its condition ended before its `for` was over")
    return _as(found, "never_fired", "; ".join(why))


def _since(found: Sequence[Episode], first: float) -> list[Episode]:
    return [one for one in found if one.end_s is None or one.end_s > first]


def judge(target: Target, found: DetectionResult | None) -> TargetResult:
    """`detect{NAME} < ...` or `false_alarms < ...`."""
    if found is None:
        return result_of(target, None, target.value, "not_judged", "no alerts were looked at")
    if not target.traits.of_alert:
        return _false_alarms(target, found)
    one = next((each for each in found.alerts if each.alert == target.name), None)
    if one is None:
        return result_of(target, None, target.value, "not_judged", "this alert was not among the expected ones")
    if one.outcome == "detected" and one.upper_s is not None and one.lower_s is not None:
        outcome: Outcome = "undecided"
        if _in_time(target, one.upper_s):
            outcome = "held"
        elif not _in_time(target, one.lower_s):
            outcome = "broken"
        return result_of(target, one.seconds, target.value, outcome, one.why)
    if one.outcome in ("never_fired", "held_back"):
        return result_of(target, None, target.value, "broken", f"the alert was not seen: {one.why}")
    if one.outcome == "fired_without_impact" and one.false_alarms:
        return result_of(target, None, target.value, "undecided", f"{one.why}: that it fires says nothing")
    return result_of(target, None, target.value, "not_judged", one.why)


def _in_time(target: Target, seconds: float) -> bool:
    return seconds <= target.value if target.op == "<=" else seconds < target.value


def _false_alarms(target: Target, found: DetectionResult) -> TargetResult:
    count = float(found.false_alarms)
    why = ", ".join(f"{one.alert} {_times(one.false_alarms)}" for one in found.alerts if one.false_alarms)
    if not _in_time(target, count):
        return result_of(target, count, target.value, "broken", why)
    if not found.baseline_seen:
        return result_of(target, count, target.value, "undecided", f"{found.source} did not answer all the time")
    if all(one.outcome == "carried_over" for one in found.alerts):
        why = "every expected alert fired before baseline"
        return result_of(target, count, target.value, "not_judged", why)
    return result_of(target, count, target.value, "held", why)


def nothing_to_detect(metric: str, impact: ImpactResult | None) -> bool:
    """No target was broken by a fault: a target of detection that is not judged then is no missing data."""
    return metric_traits(metric).of_alert and impact is not None and impact.start_s is None
