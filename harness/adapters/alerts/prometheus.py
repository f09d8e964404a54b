"""Alerts of a Prometheus: its alerting rules with what is pending and firing (GET /api/v1/rules?type=alert).

/api/v1/alerts has the same alerts without their rules. Neither says since when an alert fires: `activeAt` is when its
condition was first seen, so what is pending begins there, and what fires began at an evaluation between two looks.
A rule's `lastEvaluation` is when the newest began. An alert that is resolved is in neither any more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from harness.adapters.alerts.told import Active, Told, active, ask, instant, limited
from harness.adapters.wire.http import Client
from harness.model.errors import Rejected
from harness.model.records.alerts import MAX_NAME, MAX_QUERY, AlertRule

PATH = "/api/v1/rules?type=alert"
MAX_RULES = 5_000
LONGEST_S = 10 * 365 * 86400.0


class _Alert(msgspec.Struct):
    labels: dict[str, str]
    state: str
    activeAt: str | None = None  # noqa: N815  # the API's own name


class _Rule(msgspec.Struct):
    name: str
    duration: float = 0.0
    keepFiringFor: float = 0.0  # noqa: N815
    query: str = ""
    type: str = "alerting"
    lastEvaluation: str | None = None  # noqa: N815
    alerts: list[_Alert] = []


class _Group(msgspec.Struct):
    rules: list[_Rule]
    interval: float = 0.0


class _Groups(msgspec.Struct):
    groups: list[_Group]


class _Answer(msgspec.Struct):
    status: str
    data: _Groups


def read(client: Client, url: str) -> Told:
    """url: of the server, without a slash at its end. Raises AdapterError."""
    answer = ask(client, url + PATH, _Answer)
    if answer.status != "success":
        raise Rejected(f"{url}{PATH} answers that it is {answer.status[:40]!r}")
    rules = [(group, rule) for group in answer.data.groups for rule in group.rules if rule.type == "alerting"]
    if len(rules) > MAX_RULES:
        raise Rejected(f"{url}{PATH}: more than {MAX_RULES:,} rules are not read")
    evaluated: dict[str, float] = {}
    for _, rule in rules:
        at = instant(rule.lastEvaluation)
        if at is not None:
            evaluated[rule.name[:MAX_NAME]] = max(at, evaluated.get(rule.name[:MAX_NAME], 0.0))
    return Told(
        active=limited((one for _, rule in rules for one in _active(rule)), url + PATH),
        rules=tuple(_rule(group, rule) for group, rule in rules),
        evaluated=evaluated,
    )


def _active(rule: _Rule) -> Iterator[Active | None]:
    for one in rule.alerts:
        if one.state == "pending":
            yield active(one.labels, "pending", one.activeAt)
        elif one.state == "firing":
            # Of a rule with `for` the time at which it became pending; of one without the same as firing.
            yield active(one.labels, "firing", rule.lastEvaluation if rule.duration else one.activeAt)


def _rule(group: _Group, rule: _Rule) -> AlertRule:
    return AlertRule(
        alert=rule.name[:MAX_NAME],
        for_s=_length(rule.duration),
        interval_s=_length(group.interval),
        query=rule.query[:MAX_QUERY],
        keep_s=_length(rule.keepFiringFor),
    )


def _length(seconds: float) -> float:
    """A number of seconds that can be calculated with."""
    return min(seconds, LONGEST_S) if math.isfinite(seconds) and seconds >= 0.001 else 0.0
