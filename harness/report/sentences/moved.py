"""Which of the service's own metrics the fault moved: an answer that is stale or a default is no failed request."""

from __future__ import annotations

import re

import msgspec

from harness.model.records.result import Result, SignalResult
from harness.report.sentences import text

FAR = 0.5
"""A signal moved when it is half as much again as in baseline, or half of it, and that is CLEAR times its noise."""
CLEAR = 5.0
LEAST = 1.0
"""From zero, with no noise to compare with, a signal has to rise to this much (of a counter: a second)."""

_NOT_GIVEN = re.compile(r"(_up|_info|_created)$|^(process|python|go|jvm|nodejs|up$)|^http_(server_)?request")
"""The fault's own doing, the machine's, and what is told from the requests themselves."""
_GIVEN_FIRST = re.compile(r"stale|fallback|degrad|default|(rate|ratio)$")
_GIVEN = re.compile(r"hit|miss|drop|lost|reject|shed|skip|discard|fail|error")


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """before, now: baseline's mean and the fault phase's. strength: the change in units of baseline's noise."""

    name: str
    before: float
    now: float
    counter: bool
    strength: float

    @property
    def said(self) -> str:
        """`stale_answers_total rose from 0 to 805/s`."""
        way = "rose" if self.now > self.before else "fell"
        unit = "/s" if self.counter else ""
        return f"{text.visible(self.name, 60)} {way} from {_short(self.before)} to {_short(self.now)}{unit}"


def strength(signal: SignalResult) -> float:
    """How far a signal moved in the fault phase, in units of baseline's noise (a twentieth of its value at least); 0
    where it was not seen in both."""
    before, now = signal.by_phase.get("baseline"), signal.by_phase.get("fault")
    if before is None or now is None:
        return 0.0
    unit = max(signal.noise or 0.0, 0.05 * abs(before)) or 0.05 * LEAST
    return abs(now - before) / unit


def moved(result: Result) -> tuple[Moved, ...]:
    """The signals that speak of what the service gives and that the fault moved: what is known to matter to a caller
    first, then by strength."""
    found = []
    for name, signal in result.signals.items():
        how_far = strength(signal)
        before, now = signal.by_phase.get("baseline", 0.0), signal.by_phase.get("fault", 0.0)
        far = abs(now - before) >= (FAR * abs(before) or LEAST)
        if how_far >= CLEAR and far and not _NOT_GIVEN.search(name):
            found.append(Moved(name=name, before=before, now=now, counter=signal.counter, strength=how_far))
    return tuple(sorted(found, key=lambda one: (_rank(one.name), -one.strength, one.name)))


def _rank(name: str) -> int:
    bare = name.removesuffix("_total").removesuffix("_count")
    return 0 if _GIVEN_FIRST.search(bare) else 1 if _GIVEN.search(bare) else 2


def _short(value: float) -> str:
    return text.number(round(value, 2) if abs(value) < 10 else round(value))
