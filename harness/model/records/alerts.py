"""alerts.jsonl: what Prometheus, Alertmanager and the webhook told of alerts while a run went on, about once a second.

Names, labels and queries are texts from outside, cut to a length and never executed; whoever shows one escapes it.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import msgspec

Source = Literal["prometheus", "alertmanager", "webhook"]
State = Literal["pending", "firing", "suppressed", "resolved", "lapsed", "notified"]
"""suppressed: it fires, and Alertmanager tells nobody (inhibited or silenced). lapsed: it was pending, no more."""

MAX_NAME = 200
MAX_LABELS = 300
MAX_QUERY = 500

UNKNOWN_WAIT_S = 60.0
"""How long an alert of before is waited for whose rule nobody knows."""
LONGEST_WAIT_S = 600.0
SCRAPE_S = 15.0
"""A usual interval of scrapes, which no rule tells of."""
_RANGE = re.compile(r"\[((?:\d{1,9}(?:ms|[smhdwy])){1,7})[\]:]")
"""What a query looks back, as in rate(errors[5m])."""
_PART = re.compile(r"(\d+)(ms|[smhdwy])")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0, "y": 365 * 86400.0}


class AlertRule(msgspec.Struct, frozen=True, kw_only=True):
    """An alerting rule as Prometheus has it. keep_s: its `keep_firing_for`."""

    alert: str
    for_s: float
    interval_s: float
    query: str = ""
    keep_s: float = 0.0

    @property
    def least_s(self) -> float:
        """How long its condition must be there for it to fire for sure: one evaluation to see it, then its `for`, which
        ends with an evaluation. What the query itself takes (scrapes, ranges) comes on top."""
        return self.interval_s * (1 + math.ceil(round(self.for_s / self.interval_s, 6))) if self.interval_s else 0.0

    @property
    def range_s(self) -> float:
        """The longest that its query looks back; 0 where it says no range."""
        ranges = (sum(int(n) * _SECONDS[unit] for n, unit in _PART.findall(one)) for one in _RANGE.findall(self.query))
        return max(ranges, default=0.0)

    @property
    def wait_s(self) -> float:
        """How long it may take to be inactive once its cause is over, as long as anybody waits for it."""
        own_s = self.for_s + self.range_s + self.interval_s + self.keep_s + SCRAPE_S
        return min(own_s, LONGEST_WAIT_S)


class AlertsPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where alerts are seen, and which are expected. webhook: HOST:PORT on which the harness is told.

    rules: as `harness plan` read them; a run has them in its record instead. of_stack: of the servers that the stack
    brings up itself, whose addresses are known once it is up."""

    prometheus: str | None = None
    alertmanager: str | None = None
    webhook: str | None = None
    expected: tuple[str, ...] = ()
    rules: tuple[AlertRule, ...] = ()
    of_stack: bool = False

    @property
    def sources(self) -> tuple[Source, ...]:
        """From the one that decides that an alert fires to the one that tells people."""
        found: list[Source] = []
        if self.prometheus is not None:
            found.append("prometheus")
        if self.alertmanager is not None:
            found.append("alertmanager")
        if self.webhook is not None:
            found.append("webhook")
        return tuple(found)


class Changed(msgspec.Struct, frozen=True, kw_only=True, tag="state", tag_field="row"):
    """One series of an alert is in another state. at: when, seconds since t0; not_before: it was not so yet then, null
    where nobody had looked before.

    series: of its labels, a hash. clock: whose instant `at` is: the source's own, which has this machine's clock, or
    seen: the moment at which the harness saw it.
    """

    at: float
    not_before: float | None
    alert: str
    series: str
    labels: str
    state: State
    source: Source
    clock: Literal["own", "seen"]


class Looked(msgspec.Struct, frozen=True, kw_only=True, tag="look", tag_field="row"):
    """The source was asked, and answered; or trouble says why nothing is known of this moment."""

    at: float
    source: Source
    trouble: str = ""


class RuleSeen(msgspec.Struct, frozen=True, kw_only=True, tag="rule", tag_field="row"):
    """A rule as it was when the experiment began, or when it was changed."""

    at: float
    rule: AlertRule


AlertRow = Changed | Looked | RuleSeen
