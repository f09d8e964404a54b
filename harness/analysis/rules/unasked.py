"""What was asked in baseline and no longer later on: of that a run has seen nothing, so it cannot have passed.

A service that answers 200 with an empty list keeps the locustfile from the next request (`for item in items: ...`), and
a user without a session may end its tasks without any. No request fails by that, and no target moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from harness.analysis.record.cells import Totals
from harness.analysis.record.spans import Span, span_of
from harness.analysis.rules.facts import Facts
from harness.model.records.windows import ClassCounts

PHASES = ("fault", "after")
GONE = 0.1
"""A name that is asked for less often than this share of what its baseline makes likely has all but vanished. (How
often one is asked for may depend on the replies: polls until something is ready, fills of a cache.)"""
LEAST = 50
"""So many must have been likely."""
ASKED = 0.9
"""The same for arrivals that asked anything at all, which no reply has to change."""
SURE_SD = 4.0


class Unasked(msgspec.Struct, frozen=True):
    """name: of the request; None: arrivals of the user class `of` that ended without a request. seen, likely: requests
    asked for, or arrivals that asked something, and how many baseline makes likely."""

    phase: str
    name: str | None
    seen: int
    likely: int
    of: str = ""


def unasked(facts: Facts) -> tuple[Unasked, ...]:
    """By phase, the largest first."""
    baseline = facts.baseline
    if baseline is None:
        return ()
    found: list[Unasked] = []
    for phase in PHASES:
        span = span_of(facts.spans, phase)
        if span is not None and span.end > span.start:
            there = [*_names(baseline, span, facts), *_empty(facts.totals(baseline), facts.totals(span), phase)]
            found += sorted(there, key=lambda one: one.seen - one.likely)
    return tuple(found)


def _names(baseline: Span, span: Span, facts: Facts) -> list[Unasked]:
    before, now = facts.totals(baseline), facts.totals(span)
    if not _asking(before):
        return []
    times = _asking(now) / _asking(before)
    renamed = sum(counts.expected for name, counts in now.names.items() if name not in before.names)
    found = []
    for name, counts in before.names.items():
        seen = now.of(name).expected
        # What was asked for at the beginning of baseline only (a login of each new user) is not to be looked for.
        likely = min(counts.expected, 2 * _late(name, baseline, facts)) * times
        may = span.name == "fault" and facts.may_fail(name)
        # Names of which baseline knows nothing may be this one by another name.
        if likely >= LEAST and seen < GONE * likely and renamed < (likely - seen) / 2 and not may:
            found.append(Unasked(span.name, name, seen, round(likely)))
    return found


def _late(name: str, baseline: Span, facts: Facts) -> int:
    """Requests in the second half of baseline."""
    series = facts.series(name, None, True)
    half = (baseline.start + baseline.end) // 2
    return sum(series.n[max(0, half - series.start) : max(0, baseline.end - series.start)])


def _empty(before: Totals, now: Totals, phase: str) -> list[Unasked]:
    found = []
    for name, arrivals in now.classes.items():
        base = before.classes.get(name, ClassCounts())
        sent, sent_before = arrivals.planned - arrivals.unsent, base.planned - base.unsent
        if not arrivals.empty or sent <= 0 or sent_before <= 0:
            continue
        share, usual = 1 - arrivals.empty / sent, 1 - base.empty / sent_before
        both = 1 - (arrivals.empty + base.empty) / (sent + sent_before)
        chance = SURE_SD * math.sqrt(max(0.0, both * (1 - both)) * (1 / sent + 1 / sent_before))
        if usual * sent >= LEAST and share < ASKED * usual and usual - share > chance:
            found.append(Unasked(phase, None, sent - arrivals.empty, round(usual * sent), name))
    return found


def _asking(totals: Totals) -> int:
    """Arrivals that came to ask something."""
    return sum(a.planned - a.without_request - a.empty for a in totals.classes.values())


def told(found: Sequence[Unasked]) -> list[str]:
    """One sentence for each phase."""
    said = []
    for phase in PHASES:
        here = [one for one in found if one.phase == phase]
        if not here:
            continue
        first, rest = here[0], len(here) - 1
        likely = f"where {first.likely:,} were likely by baseline"
        if first.name is not None:
            times = f"{first.seen:,} time{'s' if first.seen > 1 else ''}" if first.seen else "never"
            what = f"{first.name!r} was asked for {times} in the {phase} phase, {likely}"
        else:
            what = f"{first.seen:,} tasks of {first.of} asked for anything in the {phase} phase, {likely}"
        more = f", and of {rest} more too little was asked as well" if rest else ""
        said.append(f"{what}{more}: whether that works was not seen.")
    return said
