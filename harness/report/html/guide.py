"""The short reading guide that travels inside report.html; docs/interpreting.md is the long one."""

from __future__ import annotations

import msgspec


class Named(msgspec.Struct, frozen=True):
    name: str
    value: str


GUIDE: tuple[Named, ...] = (
    Named(
        "Verdict",
        "PASS: every primary target held, and the faults are proven. FAIL: a primary target was broken "
        "in a judged phase, or recovery did not come in time. INCONCLUSIVE: the run cannot tell; the reasons say what "
        "was missing. It is neither a pass nor an accusation: mend the cause and run again.",
    ),
    Named(
        "Phases",
        "warmup is not judged. baseline is the healthy service; if it breaks a target nothing is injected. gap waits "
        "until every baseline request has ended. fault runs from the injection to the verified undo. recovery lasts "
        "until the targets hold again. after is the hold that confirms it. tail lets the last requests end.",
    ),
    Named(
        "Outcomes",
        "held and broken are statistical statements, not rounded comparisons. undecided: too few requests, too close "
        "to the limit. not judged: there was nothing to judge. Secondary targets warn and do not change the verdict.",
    ),
    Named(
        "Latency",
        "Counted from the moment a request was due, not from when it was sent, so waiting in a queue counts. "
        "Percentiles are of successful requests only: during an outage look at the failure rate first, because the few "
        "requests that succeed may be fast.",
    ),
    Named(
        "Recovery",
        "Counted from the moment the first probe got through again (or the undo was answered), not from the undo's "
        "request. The interval says how exactly the instant can be known from the requests seen; few failing requests "
        "make it wide.",
    ),
    Named(
        "Good signs",
        "Failures stay near zero during the fault, or are fast and few; latency returns to baseline at once; requests "
        "in flight stay flat; CPU and memory after the fault are as before it.",
    ),
    Named(
        "Warning signs",
        "Latency, memory or requests in flight rising over time (a queue or a leak); answered requests falling below "
        "planned (saturation); failures of kind timeout (a missing time-out); CPU near its ceiling; a second dip after "
        "recovery (retries in step, a cold cache).",
    ),
)
