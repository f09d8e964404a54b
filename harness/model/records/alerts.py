"""alerts.jsonl: what Prometheus, Alertmanager and the webhook told of alerts while a run went on, about once a second.

Names, labels and queries are texts from outside, cut to a length and never executed; whoever shows one escapes it.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

Source = Literal["prometheus", "alertmanager", "webhook"]
State = Literal["pending", "firing", "suppressed", "resolved", "lapsed", "notified"]
"""suppressed: it fires, and Alertmanager tells nobody (inhibited or silenced). lapsed: it was pending, no more."""

MAX_NAME = 200
MAX_LABELS = 300
MAX_QUERY = 500


class AlertRule(msgspec.Struct, frozen=True, kw_only=True):
    """An alerting rule as Prometheus has it."""

    alert: str
    for_s: float
    interval_s: float
    query: str = ""

    @property
    def least_s(self) -> float:
        """How long its condition must be there for it to fire for sure: one evaluation to see it, then its `for`, which
        ends with an evaluation. What the query itself takes (scrapes, ranges) comes on top."""
        return self.interval_s * (1 + math.ceil(round(self.for_s / self.interval_s, 6))) if self.interval_s else 0.0


class AlertsPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where alerts are seen, and which are expected. webhook: HOST:PORT on which the harness is told.

    rules: as `harness plan` read them; a run has them in its record instead."""

    prometheus: str | None = None
    alertmanager: str | None = None
    webhook: str | None = None
    expected: tuple[str, ...] = ()
    rules: tuple[AlertRule, ...] = ()

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
