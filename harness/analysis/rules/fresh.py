"""Fresh connections beside kept ones: a target may serve whom it knows and admit nobody new."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from harness.analysis.record.spans import Span
from harness.analysis.rules.facts import Facts, sums_in
from harness.model.clock import next_step, step_of
from harness.model.records.samples import Fresh, Sample
from harness.model.units import format_duration

GIVEN_UP_MS = 1000.0
"""As the probes are: a request of the load that took longer was not served in the sense that they ask for."""
SERVED = 0.5
"""Share of the load's requests that must have been served meanwhile."""
FEW = 2
"""Failed probes in a row that are told: a single one may be chance."""
ALWAYS = 0.1
"""Where more of baseline's probes than this failed, they say nothing about the target (a page that takes long)."""

Stretch = tuple[float, float]


def fresh_connections(
    facts: Facts, samples: Sequence[Sample], end_s: float, unseen: Sequence[Stretch] = ()
) -> tuple[Stretch, ...] | None:
    """Stretches before end_s in which fresh connections failed and at least half of the load was served. None: nobody
    looked, or what was seen in baseline cannot be used. unseen: the harness itself stood still then, and its probes
    with it."""
    probes = [sample.fresh for sample in samples if sample.fresh is not None]
    baseline = facts.baseline
    if not probes or baseline is None:
        return None
    usual = [probe for probe in probes if baseline.start_s <= probe.at < baseline.end_s]
    if not usual or sum(not probe.ok for probe in usual) > ALWAYS * len(usual):
        return None
    return tuple(
        (a, b)
        for a, b in failed_stretches(probes, end_s)
        if not any(low < b and a < high for low, high in unseen) and _served(facts, baseline, (a, b)) >= SERVED
    )


def failed_stretches(probes: Sequence[Fresh], end_s: float) -> list[Stretch]:
    """From the first failed probe of a row to the first good one after it (else to the end of the last failed)."""
    found: list[Stretch] = []
    row: list[Fresh] = []
    for probe in [*sorted((p for p in probes if 0 <= p.at < end_s), key=lambda p: p.at), None]:
        if probe is not None and not probe.ok:
            row.append(probe)
            continue
        if len(row) >= FEW:
            until = probe.at if probe is not None else row[-1].at + row[-1].ms / 1000
            found.append((round(row[0].at, 3), round(min(until, end_s), 3)))
        row = []
    return found


def told(stretches: Sequence[Stretch] | None) -> list[str]:
    """For people; nothing where fresh connections fared as the load did."""
    if not stretches:
        return []
    when = ", ".join(f"from {format_duration(a)} to {format_duration(b)}" for a, b in stretches[:3])
    more = " and later" if len(stretches) > 3 else ""
    return [
        f"New connections were refused or kept waiting {when}{more}, while requests on connections that were open "
        "already were served: the load, which keeps its connections, does not show how new callers fared."
    ]


def _served(facts: Facts, baseline: Span, stretch: Stretch) -> float:
    """Share of the load's requests meant for these seconds that succeeded before a probe would have been given up."""
    span = msgspec.structs.replace(baseline, start=step_of(stretch[0]), end=next_step(stretch[1]))
    bad, n = sums_in(facts.series(None, GIVEN_UP_MS, True), span)
    return 1 - bad / n if n else 0.0
